package staging

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/restore"
	"rehearsal/internal/run"
)

// Options of a reset or plan.
type Options struct {
	Backup *string // ID; nil: the newest
}

// Reset replaces staging's database by the backup, masked and proven, and keeps the one before as
// NAME_previous. Any error or interruption before the swap leaves staging as it was; after the swap only
// the record can fail, and the error says so.
func Reset(ctx context.Context, t *run.Target, db *inventory.Database, accounts []inventory.Account, o Options) error {
	s := &stage{t: t, db: db, accounts: accounts, name: "staging:reset"}
	if err := s.read(); err != nil {
		return err
	}
	if err := s.ready(ctx, o); err != nil {
		return err
	}
	r := s.restore()
	if err := s.reset(ctx, r); err != nil {
		if !s.swapped {
			t.Printf("\n%s on %s is as it was\n", db.Staging.Name, s.staging.Host.Name())
		}
		return err
	}
	if err := t.Step(ctx, "record the rehearsal", func(ctx context.Context, _ *run.Step) error { return s.record(ctx) }); err != nil {
		return run.Fail(run.Incomplete, "staging:rollback brings the old database back, if you want it", "staging is replaced, but its rehearsal is not recorded: %w", err)
	}
	s.show(r)
	return nil
}

// ready connects, chooses the backup and refuses what cannot work, before anything changes.
func (s *stage) ready(ctx context.Context, o Options) error {
	if err := s.t.Step(ctx, "connect", s.connect); err != nil {
		return err
	}
	if err := s.t.Step(ctx, "choose the backup", func(ctx context.Context, step *run.Step) error { return s.choose(ctx, o.Backup, step) }); err != nil {
		return err
	}
	return s.t.Step(ctx, "check staging", func(ctx context.Context, step *run.Step) error {
		if err := s.takeLock(ctx); err != nil {
			return err
		}
		if err := s.inspect(ctx, step); err != nil {
			return err
		}
		return s.room(ctx)
	})
}

// reset is everything up to and including the swap.
func (s *stage) reset(ctx context.Context, r *restore.Restore) error {
	if err := r.Rehearse(ctx); err != nil {
		return err
	}
	if err := s.t.Step(ctx, "try the queries", func(ctx context.Context, _ *run.Step) error { return s.tryQueries(ctx, r.Database) }); err != nil {
		return err
	}
	if err := r.Load(ctx); err != nil {
		return err
	}
	proof, tables, err := r.Prove(ctx)
	if err != nil {
		return err
	}
	s.t.Set("tables", tables)
	s.t.Set("proof", proof)
	if err := r.Finish(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context, *run.Step) error
	}{
		{"accounts", func(ctx context.Context, step *run.Step) error { return s.promote(ctx, r.Database, step) }},
		{"neutralize", func(ctx context.Context, _ *run.Step) error { return s.neutralize(ctx, r.Database) }},
		{"checks", func(ctx context.Context, step *run.Step) error { return s.check(ctx, r.Database, step) }},
		{"newest events", func(ctx context.Context, step *run.Step) error { return s.readEvents(ctx, r.Database) }},
		{"swap", func(ctx context.Context, step *run.Step) error { return s.swap(ctx, r.Database, step) }},
	} {
		if err := s.t.Step(ctx, step.name, step.do); err != nil {
			return err
		}
	}
	return nil
}

// neutralize runs neutralize.sql.
func (s *stage) neutralize(ctx context.Context, database string) error {
	if _, err := s.staging.Run(ctx, database, s.db.Staging.Owner, s.files.Neutralize); err != nil {
		return run.Fail(run.Unclean, "mend it", "%w", err)
	}
	return nil
}

// check runs every business check; all that fail are named.
func (s *stage) check(ctx context.Context, database string, step *run.Step) error {
	conn, err := s.staging.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var failed error
	for i, c := range s.files.Checks {
		step.Count(i+1, len(s.files.Checks), "checks")
		n, err := c.CountRows(ctx, conn, s.db.Staging.Owner, violationLimit)
		switch {
		case err != nil:
			return run.Fail(run.Incomplete, "mend the query", "%w", err)
		case n > 0 && failed == nil:
			failed = fmt.Errorf("%s: %s rows break the rule %q", c.File, atLeast(n), c.Name)
		case n > 0:
			failed = fmt.Errorf("%w\n%s: %s rows break the rule %q", failed, c.File, atLeast(n), c.Name)
		}
	}
	if failed != nil {
		return run.Fail(run.Unfit, "run the query on production: either its rows are wrong, or the backup's are", "backup %s: %w", s.backup.ID, failed)
	}
	return nil
}

// tryQueries runs the events and the checks on the rehearsed schema without rows: an error in them is said before
// the load, not hours later.
func (s *stage) tryQueries(ctx context.Context, database string) error {
	if _, err := queryEvents(ctx, s.staging, database, s.files.Events, 1); err != nil {
		return err
	}
	conn, err := s.staging.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, c := range s.files.Checks {
		if _, err := c.CountRows(ctx, conn, s.db.Staging.Owner, 1); err != nil {
			return run.Fail(run.Incomplete, "mend the query", "%w", err)
		}
	}
	return nil
}

// violationLimit is how many violating rows of a check are counted.
const violationLimit = 1000

func atLeast(n int) string {
	if n == violationLimit {
		return fmt.Sprintf("at least %d", n)
	}
	return fmt.Sprint(n)
}

// discarded is the name that NAME_previous has between a swap and its end.
func discarded(name string) string { return name + "_discarded" }

// swap gives the new database the name of the one in use, and that one the name of the previous one.
func (s *stage) swap(ctx context.Context, incoming string, step *run.Step) error {
	conn, name := s.lock.Conn, s.db.Staging.Name
	notes, err := s.staging.Carry(ctx, conn, name, incoming)
	for _, note := range notes {
		s.t.Warn("%s", note)
	}
	if err != nil {
		return err
	}
	ender, err := s.staging.ConnectMaintenance(ctx)
	if err != nil {
		return err
	}
	defer ender.Close(context.WithoutCancel(ctx))
	if err := s.staging.Drop(ctx, conn, discarded(name)); err != nil {
		return err
	}
	var renames []postgres.Rename
	previous, err := postgres.Exists(ctx, conn, postgres.Previous(name))
	if err != nil {
		return err
	}
	if previous && s.exists {
		renames = append(renames, postgres.Rename{From: postgres.Previous(name), To: discarded(name)})
	}
	if s.exists {
		renames = append(renames, postgres.Rename{From: name, To: postgres.Previous(name)})
		step.Detail("the old one is %s", postgres.Previous(name))
	}
	if err := s.staging.Swap(ctx, conn, ender, append(renames, postgres.Rename{From: incoming, To: name})); err != nil {
		return err
	}
	s.swapped = true
	if err := s.staging.Drop(ctx, conn, discarded(name)); err != nil {
		s.t.Warn("%v; the next reset drops it", err)
	}
	return nil
}

// record writes what this run found beside the backup: the run's JSON without people and events.
func (s *stage) record(ctx context.Context) error {
	report := s.t.Report()
	delete(report, "events")
	delete(report, "accounts")
	now := time.Now().UTC()
	report["by"], report["recorded_at"] = run.User(), now
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return s.archive.Record(ctx, s.backup.ID, now.Format(archive.IDLayout)+"-reset.json", append(text, '\n'))
}

// show prints what a person looks for after a reset.
func (s *stage) show(r *restore.Restore) {
	if len(r.MissingRoles) > 0 {
		s.t.Set("missing_roles", r.MissingRoles)
		s.t.Warn("roles of the backup that %s lacks, their grants are left out: %v", s.staging.Host.Name(), r.MissingRoles)
	}
	s.showAccounts()
	s.t.Printf("\nnewest events in backup %s\n", s.backup.ID)
	s.showEvents()
	s.t.Printf("\n%s on %s is backup %s; `mage staging:rollback` brings the database before it back\n", s.db.Staging.Name, s.staging.Host.Name(), s.backup.ID)
}
