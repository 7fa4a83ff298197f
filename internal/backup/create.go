package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strconv"
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

// dumpJobs is how many tables pg_dump reads at once; sends is how many files travel at once.
const (
	dumpJobs = 2
	sends    = 4
)

// Create makes a backup of db: guards at the source, counts and dump in one snapshot, every file hashed on its
// way to the backup host, the manifest, and the ID at the very end. It refuses with run.Unfit where the server
// is not the inventory's, and where there are no tables or no rows. A backup that floors or history speak against is
// made, and is run.Unfit all the same. Whatever ends it early leaves nothing on production and no backup.
func Create(ctx context.Context, t *run.Target, db *inventory.Database) error {
	c := &creation{t: t, db: db}
	if err := c.files.Load(db.SQL); err != nil {
		return err
	}
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
	spool      string
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

// dump runs pg_dump on production into a spool folder, in the snapshot that was counted.
func (c *creation) dump(ctx context.Context, s *run.Step) error {
	h := c.production.Host
	if err := c.roomFor(ctx, s); err != nil {
		return err
	}
	spools := h.State("spool", "db-"+url.PathEscape(c.db.Name))
	c.spool = path.Join(spools, c.manifest.ID)
	c.t.Cleanup("remove "+spools+" on "+h.Name(), func(ctx context.Context) error {
		return h.Run(ctx, host.Cmd{Args: []string{"rm", "-rf", "--", spools}})
	})
	if err := h.Run(ctx, host.Cmd{Script: `umask 077; rm -rf -- "$1" && mkdir -p -- "$1"`, Args: []string{spools}}); err != nil {
		return fmt.Errorf("making the spool folder on %s: %w", h.Name(), err)
	}
	cmd, err := c.production.Command(ctx, postgres.DumpArgs(c.db.Production, c.spool, c.snapshot, dumpJobs), nil)
	if err != nil {
		return err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	watched, stop := context.WithCancel(ctx)
	defer stop()
	go c.watchSpool(watched, s)
	if err := h.Run(ctx, cmd); err != nil {
		return dumpError(h.Name(), err)
	}
	for line := range strings.Lines(stderr.String()) {
		c.t.Warn("on %s: %s", h.Name(), strings.TrimSpace(line))
	}
	return c.tx.Rollback(ctx)
}

// dumpError is pg_dump's own first error: its command line helps nobody.
func dumpError(where string, err error) error {
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("pg_dump on %s: %w", where, err)
	}
	switch {
	case exit.DiskFull():
		return run.Fail(run.Unreachable, "make room there, or move the folder of `state` in the inventory", "pg_dump on %s, writing its spool: No space left on device", where)
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

// watchSpool tells the step how much pg_dump has written, which it does not say itself.
func (c *creation) watchSpool(ctx context.Context, s *run.Step) {
	var seen int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
		out, err := c.production.Host.Output(ctx, host.Cmd{Args: []string{"du", "-sk", c.spool}})
		var kib int64
		if err != nil {
			continue // the next look tells; pg_dump's own error is what counts
		}
		if _, err := fmt.Sscan(out, &kib); err == nil && kib<<10 > seen {
			s.Add(kib<<10 - seen)
			seen = kib << 10
		}
	}
}

// send carries the spool's files to the backup host, several at once, each hashed as it passes.
func (c *creation) send(ctx context.Context, s *run.Step) error {
	sizes, err := c.listSpool(ctx)
	if err != nil {
		return err
	}
	draft, err := c.archive.Draft(ctx, c.manifest.ID)
	if err != nil {
		return err
	}
	keep := c.t.Cleanup("remove the unfinished backup on "+c.archive.Host.Name(), draft.Discard)
	var total int64
	for _, f := range sizes {
		total += f.Bytes
	}
	s.Expect(total)
	c.manifest.Files = make([]archive.File, len(sizes))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sends)
	for i, f := range sizes {
		g.Go(func() (err error) {
			c.manifest.Files[i], err = c.sendFile(ctx, draft, f, s.Add)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	c.draft, c.keepDraft = draft, keep
	return nil
}

func (c *creation) listSpool(ctx context.Context) ([]archive.File, error) {
	out, err := c.production.Host.Output(ctx, host.Cmd{Script: `cd -- "$1" && for f in *; do printf '%d %s\n' "$(wc -c <"$f")" "$f"; done`, Args: []string{c.spool}})
	if err != nil {
		return nil, fmt.Errorf("listing the dump on %s: %w", c.production.Host.Name(), err)
	}
	var files []archive.File
	for line := range strings.Lines(out) {
		size, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("listing the dump on %s: %q", c.production.Host.Name(), line)
		}
		files = append(files, archive.File{Name: "dump/" + name, Bytes: n})
	}
	slices.SortFunc(files, func(a, b archive.File) int { return int(b.Bytes - a.Bytes) })
	return files, nil
}

// sendFile carries one file; what arrives is what was read, to the byte that ls counted, or an error.
func (c *creation) sendFile(ctx context.Context, draft *archive.Draft, f archive.File, progress func(int64)) (archive.File, error) {
	pr, pw := io.Pipe()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	read := make(chan error, 1)
	go func() {
		err := c.production.Host.Run(ctx, host.Cmd{Args: []string{"cat", "--", path.Join(c.spool, path.Base(f.Name))}, Stdout: pw})
		if err != nil {
			stop()
		}
		pw.CloseWithError(err)
		read <- err
	}()
	file, err := draft.Put(ctx, f.Name, pr, progress)
	pr.CloseWithError(errors.New("the backup host has ended the file"))
	if readErr := <-read; readErr != nil && err == nil || errors.Is(err, context.Canceled) && readErr != nil {
		err = fmt.Errorf("reading the dump on %s: %w", c.production.Host.Name(), readErr)
	}
	if err == nil && file.Bytes != f.Bytes {
		err = fmt.Errorf("%s has %d bytes on %s and %d arrived", f.Name, f.Bytes, c.production.Host.Name(), file.Bytes)
	}
	return file, err
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
