package drill

import (
	"context"
	"fmt"
	"sync"

	"rehearsal/internal/archive"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// CheckStaging makes sure of the lock and refuses a target that cannot be restored to, before anything changes.
func (d *Drill) CheckStaging(ctx context.Context, step *run.Step) error {
	if err := d.Inspect(step); err != nil {
		return err
	}
	if err := d.Quiet(); err != nil {
		return err
	}
	if err := d.ChooseTransfer(ctx, step); err != nil {
		return err
	}
	for _, left := range []string{postgres.Incoming(d.DB.Staging.Name), postgres.Scratch(d.DB.Staging.Name)} { // by runs that were killed
		if err := d.Staging.Drop(ctx, d.Lock.Conn, left); err != nil {
			return err
		}
	}
	return d.Room(ctx)
}

// Quiet refuses a server whose log would keep a raw row: an error in COPY comes with the row in its CONTEXT, and what a
// mask could not take is such an error. It comes after Inspect.
func (d *Drill) Quiet() error {
	if d.quiet {
		return nil
	}
	return run.Fail(run.Unclean, fmt.Sprintf("as superuser: ALTER ROLE %s SET log_min_messages = 'panic'", postgres.Ident(d.DB.Staging.User)),
		"a load that fails would write a row of production into PostgreSQL's log on %s", d.Staging.Host.Name())
}

// look begins to look at staging. It takes the lock first, which also proves that PostgreSQL is up there and lets us in;
// whether what it sees will do, Inspect says.
func (d *Drill) look(ctx context.Context) {
	d.Target.Cleanup("release the lock on "+d.Staging.Host.Name(), func(ctx context.Context) error {
		if d.Lock == nil {
			return nil
		}
		return d.Lock.Release(ctx)
	})
	d.locked = d.begin(ctx, "taking the lock", func(ctx context.Context) (err error) {
		if d.Lock, err = d.Staging.Lock(ctx, d.DB.Staging.Name, d.Name); err != nil {
			return err
		}
		if longest := Discarded(d.DB.Staging.Name); len(longest) > maxName {
			return run.Fail(run.Usage, "rename the database", "the name of database %q is too long: PostgreSQL would cut %q", d.DB.Staging.Name, longest)
		}
		d.server, err = postgres.Identify(ctx, d.Lock.Conn)
		return err
	})
	d.looked = d.begin(ctx, "looking at staging", func(ctx context.Context) error {
		if err := d.locked.wait(); err != nil {
			return err
		}
		return d.lookAtDatabases(ctx)
	})
	d.answered = d.begin(ctx, "asking for versions", d.askTools)
}

// lookAtDatabases is what of the look at staging needs the lock.
func (d *Drill) lookAtDatabases(ctx context.Context) (err error) {
	conn, name := d.Lock.Conn, d.DB.Staging.Name
	if err := d.Staging.Replaceable(ctx, conn, d.DB.Staging); err != nil {
		return err
	}
	if err := d.Staging.Ours(ctx, conn, postgres.Incoming(name), postgres.Previous(name), postgres.Scratch(name), Discarded(name)); err != nil {
		return err
	}
	if d.Exists, err = postgres.Exists(ctx, conn, name); err != nil {
		return fmt.Errorf("looking for database %q: %w", name, err)
	}
	d.quiet = postgres.LogsNoRows(ctx, conn)
	return nil
}

// maxName is how long a name the server keeps (NAMEDATALEN - 1).
const maxName = 63

// Discarded is the name that NAME_previous has between a swap and its end.
func Discarded(name string) string { return name + "_discarded" }

// Inspect refuses a target that is production, or that cannot be replaced. After it the lock is ours.
func (d *Drill) Inspect(step *run.Step) error {
	if err := d.locked.wait(); err != nil {
		return err
	}
	if err := d.notProduction(); err != nil {
		return err
	}
	if err := d.looked.wait(); err != nil {
		return err
	}
	step.Detail("PostgreSQL %s", d.server.ServerVersion)
	return d.fits()
}

// notProduction refuses a server that is production's, as far as inventory and backup know that one.
func (d *Drill) notProduction() error {
	if expected := d.DB.Production.SystemIdentifier; expected != "" && d.server.SystemIdentifier == expected {
		return d.isProduction("the inventory's production")
	}
	if d.Backup != nil && d.server.SystemIdentifier == d.Backup.Manifest.Source.SystemIdentifier {
		return d.isProduction("the one that backup " + d.Backup.ID + " was taken from")
	}
	if d.Backup != nil && d.Backup.Kind != archive.Ours && d.DB.Production.SystemIdentifier == "" {
		return run.Fail(run.Incomplete, "write production's system_identifier into the inventory; mage doctor prints it",
			"nothing tells whether the server on %s is production: neither the inventory nor backup %s says which server production is",
			d.Staging.Host.Name(), d.Backup.ID)
	}
	return nil
}

// clients are PostgreSQL's programs that a drill runs on staging's host.
var clients = []string{"pg_restore", "psql", "pg_dump"}

// tool is what one of clients says of itself.
type tool struct {
	major int
	err   error
}

// askTools asks all clients at once for their versions. What keeps one from answering is fits' business.
func (d *Drill) askTools(ctx context.Context) error {
	d.tools = make([]tool, len(clients))
	var g sync.WaitGroup
	for i, client := range clients {
		g.Go(func() { _, d.tools[i].major, d.tools[i].err = d.Staging.Version(ctx, client) })
	}
	g.Wait()
	return context.Cause(ctx)
}

// fits makes sure that PostgreSQL's programs are where the inventory says and can load the backup.
func (d *Drill) fits() error {
	if err := d.answered.wait(); err != nil {
		return err
	}
	versions := postgres.Versions{Target: d.server.Major, Restore: d.tools[0].major}
	for i, t := range d.tools {
		if t.err != nil {
			return run.Fail(run.Unreachable, "install PostgreSQL's client there, or name its folder in postgres_bin", "no %s on %s: %w", clients[i], d.Staging.Host.Name(), t.err)
		}
		if clients[i] == "pg_dump" && t.major < d.server.Major { // it reads the schema back, and refuses servers newer than itself
			return run.Fail(run.Unreachable, fmt.Sprintf("install the client of PostgreSQL %d there, or name its folder in postgres_bin", d.server.Major),
				"pg_dump on %s is of PostgreSQL %d, the server of %d", d.Staging.Host.Name(), t.major, d.server.Major)
		}
	}
	if d.Backup == nil {
		return nil
	}
	versions.Source, versions.Dump = postgres.Major(d.Backup.Manifest.Source.ServerVersion), postgres.Major(d.Backup.Manifest.PgDumpVersion)
	if problem, hint := versions.Misfit(); problem != "" {
		return run.Fail(run.Unfit, hint, "backup %s cannot be loaded on %s: %s", d.Backup.ID, d.Staging.Host.Name(), problem)
	}
	return nil
}

// Room refuses a staging host without room for the backup.
func (d *Drill) Room(ctx context.Context) error {
	free, dir, err := d.Staging.FreeDisk(ctx, d.Lock.Conn, d.server)
	if err != nil {
		return run.Fail(run.Incomplete, fmt.Sprintf("name data_directory under staging in the inventory, or as superuser: GRANT pg_read_all_settings TO %s",
			postgres.Ident(d.DB.Staging.User)), "the free disk on %s could not be checked: %w", d.Staging.Host.Name(), err)
	}
	if need := d.Backup.Manifest.RestoreBytes(); free < need {
		return run.Fail(run.Unreachable, "make room there (the database before the last reset is "+postgres.Previous(d.DB.Staging.Name)+")",
			"too little disk on %s: %s has %s free, restoring backup %s needs about %s", d.Staging.Host.Name(), dir, run.Bytes(free), d.Backup.ID, run.Bytes(need))
	}
	return nil
}

func (d *Drill) isProduction(what string) error {
	return run.Fail(run.Production, "staging's host, socket and port in the inventory lead to production: correct them",
		"refused: the server on %s is %s (system identifier %s)", d.Staging.Host.Name(), what, d.server.SystemIdentifier)
}
