package backup

import (
	"context"
	"errors"
	"slices"

	"rehearsal/internal/guard"
	"rehearsal/internal/host"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// guard refuses a source that is not the inventory's production, alone on its data directory and healthy. What is worth
// mending and what could not be looked at is said. The lock, and the session of the snapshot, come after it.
func (c *creation) guard(ctx context.Context, s *run.Step) (err error) {
	findings, err := guard.Source(ctx, c.production)
	if err != nil {
		return err
	}
	c.t.Set("guards", findings)
	if err := refuse(findings, guard.Failed); err != nil {
		return err
	}
	for _, f := range findings {
		switch f.Status {
		case guard.Warning:
			c.t.Warn("%s on %s: %s; %s", f.Name, f.Host, f.Detail, f.Hint)
		case guard.Unchecked:
			c.t.Warn("not looked at: %s on %s: %s; %s", f.Name, f.Host, f.Detail, f.Hint)
		}
	}
	lock, err := c.production.Lock(ctx, c.db.Name, "backup:create")
	if err != nil {
		return err
	}
	c.t.Cleanup("release the lock on "+c.production.Host.Name(), lock.Release)
	if c.conn, err = c.production.Connect(ctx, c.db.Production.Name); err != nil {
		return err
	}
	c.t.Cleanup("end the snapshot", c.conn.Close)
	if c.id, err = postgres.Identify(ctx, c.conn); err != nil {
		return err
	}
	// Once more, in the session that is dumped: another server may have taken over the address in between.
	if err := refuse(guard.Identity(c.db.Production, c.id), guard.Failed, guard.Unchecked); err != nil {
		return err
	}
	if c.backups, err = c.archive.List(ctx); err != nil {
		return err
	}
	s.Detail("PostgreSQL %s, system identifier %s", c.id.ServerVersion, c.id.SystemIdentifier)
	return c.versions(ctx)
}

// refuse turns the findings of these statuses into an error, with the first one's code and next step.
func refuse(findings []guard.Finding, statuses ...guard.Status) error {
	var first *guard.Finding
	var details []error
	for i, f := range findings {
		if !slices.Contains(statuses, f.Status) {
			continue
		}
		if first == nil {
			first = &findings[i]
		}
		details = append(details, errors.New(f.Detail))
	}
	if first == nil {
		return nil
	}
	return run.Fail(first.Code, first.Hint, "%w", errors.Join(details...))
}

// versions refuses a pg_dump that cannot dump the server, or whose dump staging's server could not load. Staging is
// asked only where pg_dump is newer than production's server: with the same version, what loads there loads here.
func (c *creation) versions(ctx context.Context) error {
	version, major, err := c.production.Version(ctx, "pg_dump")
	if err != nil {
		return run.Fail(run.Unreachable, "install PostgreSQL's client there, or name its folder in postgres_bin", "no pg_dump on %s: %w", c.production.Host.Name(), err)
	}
	c.manifest.PgDumpVersion = version
	v := postgres.Versions{Source: c.id.Major, Dump: major}
	if v.Dump > v.Source {
		if v.Target, err = c.stagingMajor(ctx); err != nil {
			return run.Fail(run.CodeOf(err), run.HintOf(err), "pg_dump on %s is of PostgreSQL %d, newer than production's server, and staging could not be asked whether it can load that: %w",
				c.production.Host.Name(), v.Dump, err)
		}
	}
	if problem, hint := v.Misfit(); problem != "" {
		return run.Fail(run.Unfit, hint, "a backup would not be fit: %s", problem)
	}
	c.choosePacking(ctx, v.Dump)
	return nil
}

func (c *creation) stagingMajor(ctx context.Context) (int, error) {
	h, err := host.Dial(ctx, c.db.Staging.Host)
	if err != nil {
		return 0, err
	}
	defer h.Close()
	staging := &postgres.Server{Host: h, Spec: c.db.Staging}
	conn, err := staging.ConnectMaintenance(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	id, err := postgres.Identify(ctx, conn)
	return id.Major, err
}
