package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jackc/pgx/v5"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
	"rehearsal/internal/sqldir"
)

// dumpJobs is how many tables pg_dump reads at once.
const dumpJobs = 2

// Create makes a backup of db: guards at the source, counts and dump in one snapshot, every file hashed on its
// way to the backup host, the manifest, and the ID at the very end. It refuses with run.Unfit where the server
// is not the inventory's, and where there are no tables or no rows. A backup that floors or history speak against is
// made, and is run.Unfit all the same. Whatever ends it early leaves nothing on production and no backup.
func Create(ctx context.Context, t *run.Target, db *inventory.Database) error {
	c := &creation{t: t, db: db}
	ctx, end := context.WithCancel(ctx)
	defer end()
	if err := c.files.Load(db.SQL); err != nil {
		return err
	}
	defer func() { c.sender.stop() }()
	err := t.Steps(ctx,
		run.Named("connect", c.connect),
		run.Named("check the source", c.guard),
		run.Named("count in a snapshot", c.count),
		run.Named("dump", c.dump),
		run.Named("send", c.send),
		run.Named("publish", c.publish),
	)
	if err != nil {
		return err
	}
	return c.conclude()
}

// conclude says what was made; a suspicious one is an error, so that somebody hears of it.
func (c *creation) conclude() error {
	m, verdict := c.manifest, archive.Sealed
	if len(c.suspicions) > 0 {
		verdict = archive.Suspicious
		c.t.Set("suspicions", c.suspicions)
	}
	c.t.Set("backup", m.ID)
	c.t.Set("tables", m.Tables)
	c.t.Set("verdict", verdict)
	c.t.Printf("\nbackup %s of %s: %d rows in %d tables, %s, at %s on %s\n", m.ID, c.db.Name, m.Rows(), len(m.Tables),
		run.Bytes(m.Bytes()), c.archive.Path(m.ID), c.archive.Host.Name())
	if verdict == archive.Suspicious {
		b := &archive.Backup{ID: m.ID, Manifest: &m, Verdict: verdict, Suspicions: c.suspicions}
		return c.archive.Fit(b, c.backups)
	}
	c.t.Printf("it is %s: created, not yet restored; `mage backup:verify` or `mage staging:reset` rehearses it\n", verdict)
	return nil
}

// creation is a backup on its way, from one step to the next.
type creation struct {
	t     *run.Target
	db    *inventory.Database
	files sqldir.Files

	production *postgres.Server
	archive    *archive.Archive
	backups    []archive.Backup // there already, newest first
	suspicions []string
	conn       *pgx.Conn // holds the snapshot
	id         postgres.Identity
	tx         pgx.Tx
	snapshot   string
	packing    chan packing
	sender     *sender
	draft      *archive.Draft
	keepDraft  func() // forgets the cleanup that removes the draft
	manifest   archive.Manifest
}

func (c *creation) connect(ctx context.Context, _ *run.Step) error {
	var production, backup *host.Host
	g, dial := errgroup.WithContext(ctx)
	g.Go(func() (err error) { production, err = host.DialFor(dial, c.t, c.db.Production.Host); return })
	g.Go(func() (err error) { backup, err = host.DialFor(dial, c.t, c.db.Backups.Host); return })
	if err := g.Wait(); err != nil {
		return err
	}
	production.Memory = 32 << 20 // beside what waits to be written
	c.production = &postgres.Server{Host: production, Spec: c.db.Production}
	c.archive = &archive.Archive{Host: backup, Database: c.db}
	return nil
}

// count opens the snapshot and writes down what is in it.
func (c *creation) count(ctx context.Context, s *run.Step) (err error) {
	if c.tx, c.snapshot, err = postgres.Snapshot(ctx, c.conn); err != nil {
		return err
	}
	m := &c.manifest
	if err := c.tx.QueryRow(ctx, "SELECT now()").Scan(&m.CreatedAt); err != nil {
		return fmt.Errorf("asking for the time: %w", err)
	}
	m.CreatedAt = m.CreatedAt.UTC()
	m.Format, m.ID, m.Database = archive.Format, m.CreatedAt.Format(archive.IDLayout), c.db.Name
	if slices.ContainsFunc(c.backups, func(b archive.Backup) bool { return b.ID == m.ID }) { // of this very second
		return c.countLater(ctx, s)
	}
	m.Source = archive.Source{Host: c.production.Host.Name(), SystemIdentifier: c.id.SystemIdentifier, ServerVersion: c.id.ServerVersion,
		DataDirectory: c.id.DataDirectory, StartedAt: c.id.StartedAt, LSN: c.id.LSN}
	tables, err := postgres.Schema(ctx, c.conn)
	if err != nil {
		return err
	}
	if m.Tables, err = postgres.Count(ctx, c.conn, tables); err != nil {
		return err
	}
	if m.DatabaseBytes, err = postgres.DatabaseBytes(ctx, c.conn); err != nil {
		return fmt.Errorf("asking for the size of the database: %w", err)
	}
	if err := c.refuseEmpty(); err != nil {
		return err
	}
	if m.NewestEvents, err = c.files.Events.Events(ctx, c.tx, "", 10); err != nil {
		return run.Fail(run.Incomplete, "mend the query; it runs on production and on staging", "the newest events are unknown: %w", err)
	}
	c.suspect()
	s.Detail("%d rows in %d tables", m.Rows(), len(m.Tables))
	return nil
}

// countLater counts once more when the second is over: an ID is a second, and there is a backup of this one.
func (c *creation) countLater(ctx context.Context, s *run.Step) error {
	if err := c.tx.Rollback(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Second):
		return c.count(ctx, s)
	}
}

// refuseEmpty refuses a database that holds nothing.
func (c *creation) refuseEmpty() error {
	m := &c.manifest
	source := fmt.Sprintf("database %q on %s", c.db.Production.Name, c.production.Host.Name())
	if len(m.Tables) == 0 {
		return run.Fail(run.Unfit, "is this the production database? compare the inventory", "%s has no tables", source)
	}
	if m.Rows() == 0 {
		return run.Fail(run.Unfit, "is this the production database? compare the inventory", "%s has %d tables and not one row", source, len(m.Tables))
	}
	return nil
}

// suspect holds the counts against floors and history, which a dump of a wrong or of a migrated but empty instance
// cannot satisfy. What it finds does not stop the backup: it may be all that is left.
func (c *creation) suspect() {
	var against string
	against, c.suspicions = c.archive.Suspect(&c.manifest, c.backups)
	if against == "" {
		c.t.Warn("there is no good backup of %s yet to compare this one with: a first backup has no history", c.db.Name)
	}
}

// dump runs pg_dump on production into a spool folder, in the snapshot that was counted. What it has finished is sent
// meanwhile.
func (c *creation) dump(ctx context.Context, s *run.Step) (err error) {
	h := c.production.Host
	if err := c.roomFor(ctx, s); err != nil {
		return err
	}
	spools := h.State("spool", "db-"+url.PathEscape(c.db.Name))
	spool := path.Join(spools, c.manifest.ID)
	c.t.Cleanup("remove "+spools+" on "+h.Name(), func(ctx context.Context) error {
		return h.Run(ctx, host.Cmd{Args: []string{"rm", "-rf", "--", spools}})
	})
	if err := h.Run(ctx, host.Cmd{Script: `umask 077; rm -rf -- "$1" && mkdir -p -- "$1"`, Args: []string{spools}}); err != nil {
		return fmt.Errorf("making the spool folder on %s: %w", h.Name(), err)
	}
	if c.draft, err = c.archive.Draft(ctx, c.manifest.ID); err != nil {
		return err
	}
	c.keepDraft = c.t.Cleanup("remove the unfinished backup on "+c.archive.Host.Name(), c.draft.Discard)
	c.sender = newSender(ctx, h, spool, c.draft)
	watched, stop := context.WithCancel(c.sender.ctx)
	defer stop()
	go c.sender.watch(watched, 2*time.Second, s.Add)
	var pack packing
	select {
	case pack = <-c.packing:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err = c.pgDump(spool, pack.options)
	if builtWithout(err) {
		pack = packing{detail: "gzip, as pg_dump on " + h.Name() + " was built without zstd"}
		err = c.pgDump(spool, pack.options)
	}
	if err != nil {
		if unsent := c.sender.failed(ctx); unsent != nil {
			return unsent
		}
		return dumpError(h.Name(), err)
	}
	s.Detail("%s", pack.detail)
	return c.tx.Rollback(ctx)
}

// pgDump runs pg_dump to its end, or that of what is sent meanwhile, and warns of what it says.
func (c *creation) pgDump(spool string, options []string) error {
	cmd, err := c.production.Command(c.sender.ctx, postgres.DumpArgs(c.db.Production, spool, c.snapshot, dumpJobs, options...), nil)
	if err != nil {
		return err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := c.production.Host.Run(c.sender.ctx, cmd); err != nil {
		return err
	}
	for line := range strings.Lines(stderr.String()) {
		c.t.Warn("on %s: %s", c.production.Host.Name(), strings.TrimSpace(line))
	}
	return nil
}

// reasonless is what pg_dump 17 says when the last write of a file packed by zstd fails: it asks for the reason too late.
var reasonless = regexp.MustCompile(`(?m)^pg_dump: error: could not (write|close) .*: (Success|No error information)$`)

// dumpError is pg_dump's own first error: its command line helps nobody.
func dumpError(where string, err error) error {
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("pg_dump on %s: %w", where, err)
	}
	switch {
	case exit.DiskFull():
		return run.Fail(run.Unreachable, "make room there, or move the folder of `state` in the inventory", "pg_dump on %s, writing its spool: No space left on device", where)
	case reasonless.MatchString(exit.Stderr):
		return run.Fail(run.Unreachable, "make room there, or move the folder of `state` in the inventory",
			"pg_dump on %s could not write its spool and does not say why; as a rule: No space left on device", where)
	case exit.Status > 128:
		return run.Fail(run.Unexpected, "the kernel's log there says whether memory ran out; then run it again", "pg_dump on %s was ended by signal %d", where, exit.Status-128)
	default:
		for line := range strings.Lines(exit.Stderr) {
			if message, ok := strings.CutPrefix(line, "pg_dump: error: "); ok {
				return run.Fail(run.Incomplete, "pg_read_all_data does not cover large objects and tables under row-level security: see the message",
					"pg_dump on %s: %s", where, strings.TrimSpace(message))
			}
		}
	}
	return fmt.Errorf("pg_dump on %s: %w", where, err)
}

// roomFor refuses where the spool or the backup would fill a disk: the last backup's size and a fifth, or a
// third of the database where there is no last one.
func (c *creation) roomFor(ctx context.Context, s *run.Step) error {
	need := c.manifest.DatabaseBytes / 3
	if i := slices.IndexFunc(c.backups, func(b archive.Backup) bool { return b.Kind == archive.Ours && b.Problem == "" }); i >= 0 {
		need = c.backups[i].Manifest.DumpBytes()
	}
	for _, place := range []struct {
		host *host.Host
		dir  string
	}{{c.production.Host, c.production.Host.State("spool")}, {c.archive.Host, c.archive.Path()}} {
		free, err := postgres.FreeAt(ctx, place.host, place.dir)
		if err != nil {
			return err
		}
		if free < need {
			return run.Fail(run.Unreachable, "make room there, or move the folder in the inventory",
				"too little disk on %s: %s has %s free, the backup needs about %s", place.host.Name(), place.dir, run.Bytes(free), run.Bytes(need))
		}
	}
	return nil
}

// send carries what the sender has not sent yet of the spool.
func (c *creation) send(ctx context.Context, s *run.Step) (err error) {
	files, err := c.sender.list(ctx)
	if err != nil {
		return err
	}
	var total int64
	for _, f := range files {
		total += f.Bytes
	}
	s.Expect(total)
	c.manifest.Files, err = c.sender.rest(files, s.Add)
	return err
}

func (c *creation) publish(ctx context.Context, _ *run.Step) error {
	text, err := json.MarshalIndent(&c.manifest, "", "  ")
	if err != nil {
		return err
	}
	if err := c.draft.Publish(ctx, append(text, '\n')); err != nil {
		return err
	}
	c.keepDraft()
	return nil
}
