package restore

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"

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
	Staging  *postgres.Server
	Session  *pgx.Conn // in the maintenance database
	Database string    // the new database
	Rules    *mask.Rules
	Key      mask.Key

	Plan         *mask.Plan // after Rehearse: what happens to every table
	MissingRoles []string   // after Finish: roles of the backup's grants that staging lacks

	toc *archive.TOC
	dir string // on staging: toc.dat and lists; never rows
}

// Rehearse restores the backup's whole schema without rows and checks the rules against it. It fails with
// run.Unfit where dump and manifest disagree, run.Unclean where the rules do not cover the schema.
func (r *Restore) Rehearse(ctx context.Context) error {
	return r.Target.Step(ctx, "rehearse the schema", func(ctx context.Context, s *run.Step) error {
		tables, err := r.Schema(ctx)
		if err != nil {
			return err
		}
		if r.Plan, err = r.Rules.Plan(tables); err != nil {
			return err
		}
		if err := r.unplanned(); err != nil {
			return err
		}
		s.Detail("%d tables", len(tables))
		return r.execute(ctx, mask.Table.Trigger) // the rules' own SQL is tried out on no rows
	})
}

// unplanned refuses rows of tables that no rule speaks of: those of extensions, whose tables Schema leaves out.
func (r *Restore) unplanned() error {
	planned := map[string]bool{}
	for _, t := range r.Plan.Tables {
		planned[t.Qualified()] = true
	}
	for _, e := range r.toc.Data() {
		if name := postgres.Qualify(e.Namespace, e.Tag); !planned[name] {
			return run.Fail(run.Unclean, "its extension marked it for dumping (pg_extension_config_dump); empty it on production, or drop the extension there",
				"table %s belongs to an extension, and the backup holds rows of it that no rule can mask", name)
		}
	}
	return nil
}

// Schema restores the backup's whole schema without rows and returns its tables, with indexes and keys.
func (r *Restore) Schema(ctx context.Context) ([]postgres.Table, error) {
	if err := r.readTOC(ctx); err != nil {
		return nil, err
	}
	if err := r.create(ctx); err != nil {
		return nil, err
	}
	if err := r.schema(ctx, "--schema-only"); err != nil {
		return nil, err
	}
	conn, err := r.Staging.Connect(ctx, r.Database)
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

// readTOC fetches toc.dat, which holds no rows, and lays it into a private folder on staging.
func (r *Restore) readTOC(ctx context.Context) error {
	var toc strings.Builder
	if err := r.Archive.Copy(ctx, &toc, r.Backup, "dump/toc.dat", nil); err != nil {
		return err
	}
	var err error
	if r.toc, err = archive.ParseTOC([]byte(toc.String())); err != nil {
		return run.Fail(run.Unfit, "make a new backup: mage backup:create", "backup %s: %w", r.Backup.ID, err)
	}
	if r.toc.LargeObjects() {
		return run.Fail(run.Unclean, "move them into a bytea column, which columns.yaml can classify",
			"backup %s holds large objects, which no rule can mask", r.Backup.ID)
	}
	if err := r.compareFiles(); err != nil {
		return err
	}
	r.dir = r.Staging.Host.State("restore", "db-"+url.PathEscape(r.Database))
	r.Target.Cleanup("remove "+r.dir+" on "+r.Staging.Host.Name(), func(ctx context.Context) error {
		return r.Staging.Host.Run(ctx, host.Cmd{Args: []string{"rm", "-rf", "--", r.dir}})
	})
	if err := r.Staging.Host.Run(ctx, host.Cmd{Args: []string{"rm", "-rf", "--", r.dir}}); err != nil {
		return fmt.Errorf("removing what a run left on staging: %w", err)
	}
	return r.Staging.Host.WriteFile(ctx, r.dir+"/toc.dat", []byte(toc.String()))
}

// compareFiles checks that the data of every table in the dump is a file that the manifest swears to.
func (r *Restore) compareFiles() error {
	for _, e := range r.toc.Data() {
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

// create makes the new database, empty, whatever a run left of it; it is dropped at the end unless it was
// swapped away by then.
func (r *Restore) create(ctx context.Context) error {
	r.Target.Cleanup("drop database "+r.Database+" on "+r.Staging.Host.Name(), func(ctx context.Context) error {
		return r.drop(ctx)
	})
	return r.Staging.Create(ctx, r.Session, r.Database, r.Staging.Spec.Owner, r.toc.DatabaseOptions())
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
	cmd, err := r.Staging.Command(ctx, postgres.RestoreArgs(r.Staging.Spec, r.Database, r.dir, options...), nil)
	if err != nil {
		return err
	}
	if err := r.Staging.Host.Run(ctx, cmd); err != nil {
		return restoreError(options[0], err)
	}
	return nil
}

// Finish builds indexes and constraints over the masked rows, applies the grants of roles that staging has,
// and collects statistics. A unique index or foreign key that fails here proves that a mask was wrong.
func (r *Restore) Finish(ctx context.Context) error {
	err := r.Target.Step(ctx, "indexes and constraints", func(ctx context.Context, s *run.Step) error {
		return r.schema(ctx, postData, fmt.Sprintf("--jobs=%d", indexJobs))
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
