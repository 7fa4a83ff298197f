package drill

import (
	"context"
	"fmt"
	"slices"
	"sync"
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

// Drill is the life of one rehearsal, from one step to the next.
type Drill struct {
	Target *run.Target
	DB     *inventory.Database
	Name   string // of the target, for the lock and the record

	ReadAhead int64 // bytes of the backup that wait in memory at most; 0: as host.Host has it

	Files sqldir.Files // after Read
	Rules *mask.Rules
	Key   mask.Key

	Archive *archive.Archive // after Connect
	Staging *postgres.Server
	Backup  *archive.Backup // after Choose
	Lock    *postgres.Lock  // after Inspect
	Exists  bool            // after Inspect: the staging database is there already
	Events  []postgres.Event

	Transfer inventory.Transfer // after ChooseTransfer: the way that the rows take
	Why      error              // why it is not the one to try first

	loader    *restore.Loader // where Transfer is inventory.Direct
	searcher  *restore.Loader // once searching has ended
	searching *task           // where the loader only searches
	catalogue []archive.Backup
	server    postgres.Identity
	tools     []tool // in the order of clients
	quiet     bool   // the server's log would keep no row
	recorded  bool

	listed   *task // reads the catalogue
	contents *task // reads toc and toc.dat, its bytes
	locked   *task // takes the lock and reads the server's identity
	looked   *task // reads what else Inspect judges in the lock's session
	answered *task // asks for the versions of the tools

	toc     *archive.TOC
	tocText []byte
}

// Read reads and checks what lies on this machine.
func (d *Drill) Read() (err error) {
	if err := d.Files.Load(d.DB.SQL); err != nil {
		return err
	}
	if len(d.Files.Checks) == 0 {
		d.Target.Warn("no checks in %s/checks: nothing says whether the restored rows make sense", d.Files.Dir)
	}
	if d.Rules, err = mask.Parse(d.Files.Columns.Name, []byte(d.Files.Columns.Text)); err != nil {
		return err
	}
	d.Key, err = mask.LoadKey()
	return err
}

// Connect dials both hosts at once, and begins what the steps to come will ask of them: the catalogue, and a look at
// staging that takes the lock. Nothing is changed.
func (d *Drill) Connect(ctx context.Context, _ *run.Step) error {
	g, both := errgroup.WithContext(ctx)
	g.Go(func() error { return d.dialStaging(both) })
	g.Go(func() error { return d.dialBackup(both) })
	if err := g.Wait(); err != nil {
		return err
	}
	d.look(ctx)
	d.list(ctx)
	return nil
}

// ConnectEach is Connect for who wants to know of both hosts what keeps us out.
func (d *Drill) ConnectEach(ctx context.Context) (staging, backup error) {
	var g sync.WaitGroup
	g.Go(func() { staging = d.ConnectStaging(ctx) })
	g.Go(func() {
		if backup = d.dialBackup(ctx); backup == nil {
			d.list(ctx)
		}
	})
	g.Wait()
	return staging, backup
}

// ConnectStaging is Connect without the backup host.
func (d *Drill) ConnectStaging(ctx context.Context) error {
	if err := d.dialStaging(ctx); err != nil {
		return err
	}
	d.look(ctx)
	return nil
}

// dialStaging dials the host of staging until the target ends.
func (d *Drill) dialStaging(ctx context.Context) error {
	h, err := host.DialFor(ctx, d.Target, d.DB.Staging.Host)
	if err != nil {
		return err
	}
	d.Staging = &postgres.Server{Host: h, Spec: d.DB.Staging}
	return nil
}

// dialBackup dials the host of the backups until the target ends.
func (d *Drill) dialBackup(ctx context.Context) error {
	h, err := host.DialFor(ctx, d.Target, d.DB.Backups.Host)
	if err != nil {
		return err
	}
	h.ReadAhead(d.ReadAhead)
	d.Archive = &archive.Archive{Host: h, Database: d.DB}
	return nil
}

// list begins to read the catalogue.
func (d *Drill) list(ctx context.Context) {
	d.listed = d.begin(ctx, "reading the catalogue", func(ctx context.Context) (err error) {
		d.catalogue, err = d.Archive.List(ctx)
		return err
	})
}

// idOf is the ID that a flag asks for, "" without the flag; an empty flag is run.Usage.
func idOf(flag *string) (id string, err error) {
	if flag == nil {
		return "", nil
	}
	if *flag == "" {
		return "", run.Fail(run.Usage, "leave the flag out for the newest backup", "-backup= is empty")
	}
	return *flag, nil
}

// Choose picks a backup that is fit to be restored: the newest, or the one that is asked for.
func (d *Drill) Choose(ctx context.Context, asked *string, step *run.Step) error {
	id, err := idOf(asked)
	if err == nil {
		err = d.listed.wait()
	}
	if err != nil {
		return err
	}
	b, err := d.Archive.Choose(d.catalogue, id, time.Now())
	if err != nil {
		return err
	}
	age := time.Since(b.Manifest.CreatedAt)
	if limit := d.DB.Backups.MaxAge; limit > 0 && age > limit {
		d.Target.Warn("backup %s is %s old, max_age is %s: you asked for it", b.ID, run.Age(age), run.Age(limit))
	}
	for _, reason := range append(b.Suspicions, b.Failed) {
		if reason != "" && b.Accepted == nil {
			d.Target.Warn("backup %s: %s; you asked for it", b.ID, reason)
		}
	}
	return d.take(ctx, b, step)
}

// ChooseAny picks a backup to be judged: the newest, or the one that is asked for, whatever is known of it but that it
// is not whole.
func (d *Drill) ChooseAny(ctx context.Context, asked *string, step *run.Step) error {
	id, err := idOf(asked)
	if err == nil {
		err = d.listed.wait()
	}
	if err != nil {
		return err
	}
	b, err := d.Archive.Pick(d.catalogue, id)
	if err != nil {
		return err
	}
	d.Target.Set("backup", b.ID)
	if b.Problem != "" {
		d.Target.Set("verdict", b.Verdict)
		return d.Archive.Fit(b, d.catalogue)
	}
	return d.take(ctx, b, step)
}

// take makes sure that the rehearsal of b can be recorded, and begins to read its table of contents. That of a file of
// pg_dump -Fc comes with some of the rows behind it: where those are not to pass through this machine, it has to wait.
func (d *Drill) take(ctx context.Context, b *archive.Backup, step *run.Step) error {
	if err := d.Archive.Recordable(b); err != nil {
		return err
	}
	d.Backup = b
	if b.Kind != archive.Custom || !slices.Contains(d.DB.Transfer, inventory.Direct) {
		d.readContents(ctx, d.Archive.TOC)
	}
	d.Target.Set("backup", b.ID)
	d.Target.Set("backup_time", b.Manifest.CreatedAt)
	what := "rows unknown: made by " + string(b.Kind)
	if b.Kind == archive.Ours {
		what = fmt.Sprintf("%d rows", b.Manifest.Rows())
	} else {
		d.Target.Warn("backup %s was made by %s: it has no manifest, so nothing says which server it is from, how many rows "+
			"it must hold and whether a byte has changed; it is judged by what it holds", b.ID, b.Kind)
	}
	step.Detail("%s, %s old, %s, %s", b.ID, run.Age(time.Since(b.Manifest.CreatedAt)), what, b.Verdict)
	return nil
}

// readContents begins to read the table of contents of the backup.
func (d *Drill) readContents(ctx context.Context, read func(context.Context, *archive.Backup) (*archive.TOC, []byte, error)) {
	d.contents = d.begin(ctx, "reading toc.dat", func(ctx context.Context) (err error) {
		d.toc, d.tocText, err = read(ctx, d.Backup)
		return err
	})
}

// Restore makes the restore of the chosen backup into database.
func (d *Drill) Restore(database string) *restore.Restore {
	contents := func() (*archive.TOC, []byte, error) {
		err := d.contents.wait()
		return d.toc, d.tocText, err
	}
	r := &restore.Restore{Target: d.Target, Archive: d.Archive, Backup: d.Backup, Contents: contents, Staging: d.Staging,
		Session: d.Lock.Conn, Database: database, Rules: d.Rules, Key: d.Key, Loader: d.loader}
	if d.searching != nil {
		r.Searcher = func() (*restore.Loader, error) {
			err := d.searching.wait()
			return d.searcher, err
		}
	}
	return r
}
