package restore

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Restore is one restore of a backup into Database on the staging server. Its verbs are called in the order
// Rehearse, Load, Prove, Finish; the caller holds the lock.
type Restore struct {
	Target   *run.Target
	Archive  *archive.Archive
	Backup   *archive.Backup
	Contents func() (*archive.TOC, []byte, error) // Archive.TOC of Backup, which may have been asked for long ago
	Staging  *postgres.Server
	Session  *pgx.Conn // in the maintenance database
	Database string    // the new database
	Rules    *mask.Rules
	Key      mask.Key
	Loader   *Loader // on staging, where rows are not to pass through this machine; else nil

	// Searcher brings the program on staging that reads there what Search searches, so that it need not come here, where
	// this machine has loaded the rows. Nil, or an error, has this machine read it.
	Searcher func() (*Loader, error)

	Plan         *mask.Plan // after Rehearse: what happens to every table
	MissingRoles []string   // after Finish: roles of the backup's grants that staging lacks

	toc     *archive.TOC
	dir     string                // on staging: toc.dat and lists; never rows
	planned map[string]mask.Table // after Rehearse: the plan's tables by their names
	samples samples
	near    bool   // staging is this machine: rows reach its psql without a network between
	zlib    bool   // zstd(1) on staging unpacks gzip
	without string // what of the schema is left out, for people
	list    string // the file in dir of what is restored; empty: everything
}

// Rehearse restores the backup's whole schema without rows and checks the rules against it. It fails with
// run.Unfit where dump and manifest disagree, run.Unclean where the rules do not cover the schema.
func (r *Restore) Rehearse(ctx context.Context) error {
	return r.Target.Step(ctx, "rehearse the schema", func(ctx context.Context, s *run.Step) error {
		tables, err := r.Schema(ctx)
		if err != nil {
			return err
		}
		plan, err := r.Rules.Plan(tables)
		if err != nil {
			return err
		}
		r.plan(plan)
		if err := r.unplanned(); err != nil {
			return err
		}
		s.Detail("%d tables%s", len(tables), r.without)
		return r.execute(ctx, mask.Table.Trigger) // the rules' own SQL is tried out on no rows
	})
}

// plan takes the plan.
func (r *Restore) plan(p *mask.Plan) {
	r.Plan, r.planned = p, map[string]mask.Table{}
	for _, t := range p.Tables {
		r.planned[t.Qualified()] = t
	}
}

// unplanned refuses rows of tables that no rule speaks of: those of extensions, whose tables Schema leaves out.
func (r *Restore) unplanned() error {
	for _, e := range r.toc.Data() {
		name := postgres.Qualify(e.Namespace, e.Tag)
		if _, ok := r.planned[name]; !ok {
			return run.Fail(run.Unclean, "its extension marked it for dumping (pg_extension_config_dump); empty it on production, or drop the extension there",
				"table %s belongs to an extension, and the backup holds rows of it that no rule can mask", name)
		}
	}
	return nil
}

// Schema restores the backup's whole schema without rows and returns its tables, with indexes and keys.
func (r *Restore) Schema(ctx context.Context) ([]postgres.Table, error) {
	text, err := r.readTOC()
	if err != nil {
		return nil, err
	}
	if err := r.prepare(ctx, text); err != nil {
		return nil, err
	}
	conn, err := r.fill(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tables, err := postgres.Schema(ctx, conn)
	if err != nil {
		return nil, err
	}
	return tables, r.compareManifest(tables)
}

// readTOC takes the table of contents, which holds no rows, and refuses one that cannot be restored from.
func (r *Restore) readTOC() (text []byte, err error) {
	if r.toc, text, err = r.Contents(); err != nil {
		return nil, err
	}
	if err := r.allowLargeObjects(); err != nil {
		return nil, err
	}
	return text, r.compareFiles()
}

// prepare makes the new database and, at once, the folder that pg_restore reads.
func (r *Restore) prepare(ctx context.Context, toc []byte) error {
	r.dir = r.Staging.Host.State("restore", "db-"+url.PathEscape(r.Database))
	remove := host.Cmd{Args: []string{"rm", "-rf", "--", r.dir}}
	r.Target.Cleanup("remove "+r.dir+" on "+r.Staging.Host.Name(), func(ctx context.Context) error {
		return r.Staging.Host.Run(ctx, remove)
	})
	// Dropped before the folder goes, unless it was swapped away by then.
	r.Target.Cleanup("drop database "+r.Database+" on "+r.Staging.Host.Name(), r.drop)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := r.Staging.Host.Run(ctx, remove); err != nil {
			return fmt.Errorf("removing what a run left on staging: %w", err)
		}
		return r.layOut(ctx, toc)
	})
	g.Go(func() error { return r.unpackable(ctx) })
	g.Go(func() error {
		return r.Staging.Create(ctx, r.Session, r.Database, r.Staging.Spec.Owner, r.toc.DatabaseOptions())
	})
	return g.Wait()
}

// layOut lays the table of contents into a private folder on staging, where pg_restore takes it for the whole archive as
// long as no rows are asked for, and the list of what is restored beside it.
func (r *Restore) layOut(ctx context.Context, toc []byte) error {
	list := r.leaveOut()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.Staging.Host.WriteFile(ctx, r.dir+"/toc.dat", toc) })
	if r.list != "" {
		g.Go(func() error { return r.Staging.Host.WriteFile(ctx, r.list, list) })
	}
	return g.Wait()
}

// fill restores the schema into the new database and returns a session in it, opened meanwhile.
func (r *Restore) fill(ctx context.Context) (*pgx.Conn, error) {
	var conn *pgx.Conn
	g, both := errgroup.WithContext(ctx)
	g.Go(func() error { return r.schema(both, "--schema-only") })
	g.Go(func() (err error) {
		conn, err = r.Staging.Connect(both, r.Database)
		return err
	})
	err := g.Wait()
	if err != nil && conn != nil {
		conn.Close(context.WithoutCancel(ctx))
	}
	return conn, err
}

// allowLargeObjects refuses a backup with large objects, which nothing can mask, unless the rules drop them.
func (r *Restore) allowLargeObjects() error {
	if !r.toc.LargeObjects() {
		return nil
	}
	switch verb, _ := r.Rules.LargeObjects(); verb {
	case "drop":
		r.Target.Warn("large objects are left out, as columns.yaml says; columns that refer to them do not")
		return nil
	case "keep":
		return run.Fail(run.Unclean, "write large_objects: drop; or move them into a bytea column, which can be classified",
			"columns.yaml keeps large objects, but nothing can prove what is in those of backup %s", r.Backup.ID)
	}
	return run.Fail(run.Unclean, "write into columns.yaml: large_objects: drop; or move them into a bytea column, which can be classified",
		"backup %s holds large objects, which no rule can mask", r.Backup.ID)
}

// schemaOnly is what pg_restore is told to read where no rows are wanted.
func (r *Restore) schemaOnly() string {
	if r.toc.Kind == archive.Custom {
		return r.dir + "/toc.dat" // an archive cut off before its rows
	}
	return r.dir
}

// administrators are extensions for looking at a server, which hold no data of the application and which only a
// superuser may create: a staging without them is none the worse.
var administrators = []string{"amcheck", "pageinspect", "pg_buffercache", "pg_freespacemap", "pg_stat_statements", "pg_visibility",
	"pg_walinspect", "pgrowlocks", "pgstattuple"}

// leaveOut makes the list of what is restored, where something is left out: administrators' extensions, large objects.
func (r *Restore) leaveOut() (list []byte) {
	var left []string
	entries := slices.DeleteFunc(slices.Clone(r.toc.Entries), func(e archive.Entry) bool {
		if e.LargeObject() {
			return true
		}
		name, ok := e.Extension()
		ok = ok && slices.Contains(administrators, name)
		if ok && e.Desc == "EXTENSION" {
			left = append(left, name)
		}
		return ok
	})
	if len(entries) == len(r.toc.Entries) {
		return nil
	}
	if left != nil {
		r.Target.Set("left_out", left)
		r.without = ", without " + strings.Join(left, ", ")
	}
	r.list = r.dir + "/objects.list"
	return []byte(archive.List(entries))
}

// compareFiles checks that the data of every table in the dump is a file that the manifest swears to.
func (r *Restore) compareFiles() error {
	if r.toc.Kind == archive.Custom {
		return nil // one file holds all
	}
	for _, e := range r.toc.Data() {
		if e.Copy == "" {
			return run.Fail(run.Unfit, "make one without --inserts, --column-inserts and --rows-per-insert", "backup %s holds the rows of %s as INSERT statements, which cannot be streamed table by table",
				r.Backup.ID, postgres.Qualify(e.Namespace, e.Tag))
		}
		if _, ok := r.dataFile(e); !ok {
			return r.unfit("the dump's rows of %s have no file in the manifest", postgres.Qualify(e.Namespace, e.Tag))
		}
	}
	return nil
}

// dataFile finds the file of a table's rows: the dump names it without the suffix of its compression.
func (r *Restore) dataFile(e archive.Entry) (archive.File, bool) {
	for _, suffix := range []string{".gz", "", ".zst", ".lz4"} {
		if f, ok := r.Backup.Manifest.File("dump/" + e.File + suffix); ok && e.File != "" {
			return f, true
		}
	}
	return archive.File{}, false
}

// compareManifest checks that the dump holds every table of the manifest, and rows for it.
func (r *Restore) compareManifest(tables []postgres.Table) error {
	schema, data := map[string]bool{}, map[string]bool{}
	for _, t := range tables {
		schema[t.Qualified()] = true
	}
	for _, e := range r.toc.Data() {
		data[postgres.Qualify(e.Namespace, e.Tag)] = true
	}
	for _, t := range r.Backup.Manifest.Tables {
		if !schema[t.Name] {
			return r.unfit("table %s is in its manifest (%d rows) and not in its dump", t.Name, t.Rows)
		}
		if t.Rows > 0 && !data[t.Name] {
			return r.unfit("the %d rows of table %s in its manifest are not in its dump", t.Rows, t.Name)
		}
	}
	return nil
}

func (r *Restore) unfit(format string, args ...any) error {
	return run.Fail(run.Unfit, "make a new backup: mage backup:create; or take an older one with -backup=ID",
		"backup %s is damaged: %w", r.Backup.ID, fmt.Errorf(format, args...))
}

// drop works in a session of its own: the run's may have ended with what ended the run.
func (r *Restore) drop(ctx context.Context) error {
	conn, err := r.Staging.ConnectMaintenance(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return r.Staging.Drop(ctx, conn, r.Database)
}

// postData is the section of indexes, constraints and triggers.
const postData = "--section=post-data"

// schema runs pg_restore for objects without rows; the first option says which.
func (r *Restore) schema(ctx context.Context, options ...string) error {
	if r.list != "" {
		options = append(options, "--use-list="+r.list)
	}
	return r.pgRestore(ctx, options...)
}

// pgRestore runs pg_restore and reads every line that it says: one that is not known to be harmless is a failure, though
// pg_restore calls it a warning and exits with 0.
func (r *Restore) pgRestore(ctx context.Context, options ...string) error {
	cmd, err := r.Staging.Command(ctx, postgres.RestoreArgs(r.Staging.Spec, r.Database, r.schemaOnly(), options...), nil)
	if err != nil {
		return err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := r.Staging.Host.Run(ctx, cmd); err != nil {
		return restoreError(options[0], err)
	}
	if unknown := unknownLines(stderr.String()); len(unknown) > 0 {
		return run.Fail(run.Unfit, "find out what they mean before this backup is relied on", "pg_restore %s on %s says what is not known to be harmless:\n  %s",
			options[0], r.Staging.Host.Name(), strings.Join(unknown, "\n  "))
	}
	return nil
}

// Finish builds indexes and constraints over the masked rows, applies the grants of roles that staging has,
// and collects statistics. A unique index or foreign key that fails here proves that a mask was wrong.
func (r *Restore) Finish(ctx context.Context) error {
	err := r.Target.Step(ctx, "indexes and constraints", func(ctx context.Context, s *run.Step) error {
		return r.blame(r.schema(ctx, postData, fmt.Sprintf("--jobs=%d", indexJobs)))
	})
	if err != nil {
		return err
	}
	return r.Target.Step(ctx, "grants and statistics", func(ctx context.Context, s *run.Step) error {
		conn, err := r.Staging.Connect(ctx, r.Database)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if _, err := conn.Exec(ctx, "SET ROLE "+postgres.Ident(r.Staging.Spec.Owner)); err != nil {
			return fmt.Errorf("becoming %s: %w", r.Staging.Spec.Owner, err)
		}
		var notes []string
		r.MissingRoles, notes, err = postgres.Grant(ctx, conn, r.toc.Grants())
		for _, note := range notes {
			r.Target.Warn("%s", note)
		}
		if err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "ANALYZE"); err != nil {
			return fmt.Errorf("collecting statistics: %w", err)
		}
		return nil
	})
}

// indexJobs is how many indexes and constraints are built at once.
const indexJobs = 2
