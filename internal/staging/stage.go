package staging

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/restore"
	"rehearsal/internal/run"
	"rehearsal/internal/sqldir"
)

// stage is the life of one reset or plan, from one step to the next.
type stage struct {
	t        *run.Target
	db       *inventory.Database
	accounts []inventory.Account
	name     string // of the target, for the lock

	files sqldir.Files
	rules *mask.Rules
	key   mask.Key

	archive *archive.Archive
	staging *postgres.Server
	backup  *archive.Backup
	lock    *postgres.Lock
	id      postgres.Identity
	exists  bool // the staging database is there already

	swapped bool // the new database is in use
	outcome outcome
	events  []postgres.Event
}

// read reads and checks what lies on this machine.
func (s *stage) read() (err error) {
	if err := s.files.Load(s.db.SQL); err != nil {
		return err
	}
	if len(s.accounts) > 0 {
		if err := s.files.NeedAccounts(); err != nil {
			return err
		}
	}
	if len(s.files.Checks) == 0 {
		s.t.Warn("no checks in %s/checks: nothing says whether the restored rows make sense", s.files.Dir)
	}
	if s.rules, err = mask.Parse(s.files.Columns.Name, []byte(s.files.Columns.Text)); err != nil {
		return err
	}
	s.key, err = mask.LoadKey()
	return err
}

// connectStaging and connectBackup dial the two hosts; nothing here ever dials production.
func (s *stage) connectStaging(ctx context.Context) error {
	h, err := host.Dial(ctx, s.db.Staging.Host)
	if err != nil {
		return err
	}
	s.t.Cleanup("disconnect from "+h.Name(), func(context.Context) error { return h.Close() })
	s.staging = &postgres.Server{Host: h, Spec: s.db.Staging}
	return nil
}

func (s *stage) connectBackup(ctx context.Context) error {
	h, err := host.Dial(ctx, s.db.Backups.Host)
	if err != nil {
		return err
	}
	s.t.Cleanup("disconnect from "+h.Name(), func(context.Context) error { return h.Close() })
	s.archive = &archive.Archive{Host: h, Database: s.db}
	return nil
}

func (s *stage) connect(ctx context.Context, _ *run.Step) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.connectStaging(ctx) })
	g.Go(func() error { return s.connectBackup(ctx) })
	return g.Wait()
}

// choose picks the backup and makes sure that its rehearsal can be recorded.
func (s *stage) choose(ctx context.Context, asked *string, step *run.Step) error {
	id := ""
	if asked != nil {
		if id = *asked; id == "" {
			return run.Fail(run.Usage, "leave the flag out for the newest backup", "-backup= is empty")
		}
	}
	backups, err := s.archive.List(ctx)
	if err != nil {
		return err
	}
	b, err := s.archive.Choose(backups, id, time.Now())
	if err != nil {
		return err
	}
	age := time.Since(b.Manifest.CreatedAt)
	if limit := s.db.Backups.MaxAge; limit > 0 && age > limit {
		s.t.Warn("backup %s is %s old, max_age is %s: you asked for it", b.ID, run.Age(age), run.Age(limit))
	}
	if err := s.archive.Writable(ctx, b.ID); err != nil {
		return err
	}
	s.backup = b
	s.t.Set("backup", b.ID)
	s.t.Set("backup_time", b.Manifest.CreatedAt)
	step.Detail("%s, %s old, %d rows, %s", b.ID, run.Age(age), b.Manifest.Rows(), b.Verdict)
	return nil
}

// takeLock also proves that PostgreSQL is up on staging and lets us in.
func (s *stage) takeLock(ctx context.Context) (err error) {
	if s.lock, err = s.staging.Lock(ctx, s.db.Staging.Name, s.name); err != nil {
		return err
	}
	s.t.Cleanup("release the lock on "+s.staging.Host.Name(), s.lock.Release)
	return nil
}

// maxName is how long a name the server keeps (NAMEDATALEN - 1).
const maxName = 63

// inspect refuses a target that is production, or that cannot be replaced. It needs the lock.
func (s *stage) inspect(ctx context.Context, step *run.Step) (err error) {
	conn := s.lock.Conn
	if longest := discarded(s.db.Staging.Name); len(longest) > maxName {
		return run.Fail(run.Usage, "rename the database", "the name of database %q is too long: PostgreSQL would cut %q", s.db.Staging.Name, longest)
	}
	if s.id, err = postgres.Identify(ctx, conn); err != nil {
		return err
	}
	if expected := s.db.Production.SystemIdentifier; expected != "" && s.id.SystemIdentifier == expected {
		return s.isProduction("the inventory's production")
	}
	if s.backup != nil && s.id.SystemIdentifier == s.backup.Manifest.Source.SystemIdentifier {
		return s.isProduction("the one that backup " + s.backup.ID + " was taken from")
	}
	if err := s.staging.Replaceable(ctx, conn, s.db.Staging); err != nil {
		return err
	}
	name := s.db.Staging.Name
	if err := s.staging.Ours(ctx, conn, postgres.Incoming(name), postgres.Previous(name), discarded(name)); err != nil {
		return err
	}
	if s.exists, err = postgres.Exists(ctx, conn, s.db.Staging.Name); err != nil {
		return fmt.Errorf("looking for database %q: %w", s.db.Staging.Name, err)
	}
	if !postgres.LogsNoRows(ctx, conn) {
		s.t.Warn("a failing load could write a row into PostgreSQL's log on %s; as superuser: ALTER ROLE %s SET log_min_messages = 'panic'",
			s.staging.Host.Name(), postgres.Ident(s.db.Staging.User))
	}
	if !s.exists {
		s.t.Warn("there is no database %s on %s yet: the reset makes it", name, s.staging.Host.Name())
	}
	step.Detail("PostgreSQL %s", s.id.ServerVersion)
	return s.tools(ctx)
}

// tools makes sure that PostgreSQL's programs are where the inventory says.
func (s *stage) tools(ctx context.Context) error {
	for _, tool := range []string{"pg_restore", "psql"} {
		if _, _, err := s.staging.Version(ctx, tool); err != nil {
			if ctx.Err() != nil {
				return err
			}
			return run.Fail(run.Unreachable, "install PostgreSQL's client there, or name its folder in postgres_bin", "no %s on %s: %w", tool, s.staging.Host.Name(), err)
		}
	}
	return nil
}

// room refuses a staging host without room for the backup.
func (s *stage) room(ctx context.Context) error {
	free, dir, err := s.staging.FreeDisk(ctx, s.lock.Conn, s.id)
	if err != nil {
		return run.Fail(run.Incomplete, fmt.Sprintf("name data_directory under staging in the inventory, or as superuser: GRANT pg_read_all_settings TO %s",
			postgres.Ident(s.db.Staging.User)), "the free disk on %s could not be checked: %w", s.staging.Host.Name(), err)
	}
	if need := needed(s.backup.Manifest); free < need {
		return run.Fail(run.Unreachable, "make room there (the database before the last reset is "+postgres.Previous(s.db.Staging.Name)+")",
			"too little disk on %s: %s has %s free, restoring backup %s needs about %s", s.staging.Host.Name(), dir, run.Bytes(free), s.backup.ID, run.Bytes(need))
	}
	return nil
}

// needed is how much disk a restore takes: the size of the source, bloat and all, and a fifth for WAL and
// sorting. A manifest without it counts a row's compressed bytes six times.
func needed(m *archive.Manifest) int64 {
	bytes := m.DatabaseBytes
	if bytes == 0 {
		bytes = 6 * m.Bytes()
	}
	return bytes + bytes/5
}

func (s *stage) isProduction(what string) error {
	return run.Fail(run.Production, "staging's host, socket and port in the inventory lead to production: correct them",
		"refused: the server on %s is %s (system identifier %s)", s.staging.Host.Name(), what, s.id.SystemIdentifier)
}

// restore makes the restore of the chosen backup beside the database in use.
func (s *stage) restore() *restore.Restore {
	return &restore.Restore{Target: s.t, Archive: s.archive, Backup: s.backup, Staging: s.staging, Session: s.lock.Conn,
		Database: postgres.Incoming(s.db.Staging.Name), Rules: s.rules, Key: s.key}
}
