package backup

import (
	"context"
	"slices"
	"strings"

	"rehearsal/internal/archive"
	"rehearsal/internal/drill"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/restore"
	"rehearsal/internal/run"
)

// Verify restores a backup, the newest where id is nil, into a scratch database on staging's server, masked as for a
// reset, and records the verdict beside the backup: the sha256 of every file, the rows of every table of the manifest,
// all of post-data, sequences, indexes, collations, business checks, newest events. The scratch database is dropped
// whatever happens; the one in use is never touched.
//
// What is wrong with the backup is run.Unfit, and so is a backup that restores well and is suspicious. What keeps it
// from being looked at is another code, and leaves its verdict as it was.
func Verify(ctx context.Context, t *run.Target, db *inventory.Database, id *string) error {
	v := &verification{Drill: &drill.Drill{Target: t, DB: db, Name: "backup:verify"}}
	if err := v.Read(); err != nil {
		return err
	}
	err := t.Steps(ctx,
		run.Named("connect", v.Connect),
		run.Named("choose the backup", func(ctx context.Context, step *run.Step) error { return v.ChooseAny(ctx, id, step) }),
		run.Named("check staging", v.CheckStaging),
	)
	if err != nil {
		return err
	}
	if err := v.verify(ctx); err != nil {
		if run.CodeOf(err) == run.Unfit {
			t.Set("verdict", archive.Bad)
		}
		v.RecordFailure(ctx, err)
		return err
	}
	return v.conclude(ctx)
}

// verification is a drill that leaves nothing but a verdict.
type verification struct {
	*drill.Drill
	restore *restore.Restore
	tables  []restore.TableResult
}

func (v *verification) verify(ctx context.Context) error {
	v.restore = v.Restore(postgres.Scratch(v.DB.Staging.Name))
	r := v.restore
	if err := r.Rehearse(ctx); err != nil {
		return err
	}
	if err := v.Target.Steps(ctx,
		run.Named("try the queries", func(ctx context.Context, _ *run.Step) error { return v.TryQueries(ctx, r.Database) }),
		run.Named("hash what is not loaded", v.hash),
		run.Named("count what is not loaded", v.countSkipped),
	); err != nil {
		return err
	}
	if err := r.Load(ctx); err != nil {
		return err
	}
	proof, tables, err := r.Prove(ctx)
	if err != nil {
		return err
	}
	v.merge(tables)
	v.Target.Set("tables", v.rows())
	if err := v.everyTable(); err != nil {
		return err
	}
	if err := r.Finish(ctx); err != nil {
		return err
	}
	proof.Searched, err = r.Search(ctx, nil)
	v.Target.Set("proof", proof)
	if err != nil {
		return err
	}
	err = v.Target.Steps(ctx,
		run.Named("sequences, indexes, collations", v.integrity),
		run.Named("checks", func(ctx context.Context, step *run.Step) error { return v.Check(ctx, r.Database, step) }),
		run.Named("newest events", func(ctx context.Context, _ *run.Step) error { return v.ReadEvents(ctx, r.Database) }),
	)
	if err != nil {
		return err
	}
	v.Judge(v.tables)
	return nil
}

// merge adds the tables that were loaded to those that were counted where they lie.
func (v *verification) merge(loaded []restore.TableResult) {
	for _, t := range loaded {
		if !slices.ContainsFunc(v.tables, func(c restore.TableResult) bool { return c.Name == t.Name }) {
			v.tables = append(v.tables, t)
		}
	}
	slices.SortFunc(v.tables, func(a, b restore.TableResult) int { return strings.Compare(a.Name, b.Name) })
}

// hash reads the files that no table is loaded from where they lie; the others are hashed as they pass.
func (v *verification) hash(ctx context.Context, s *run.Step) error {
	loaded := v.restore.Loaded()
	files := slices.DeleteFunc(slices.Clone(v.Backup.Manifest.Files), func(f archive.File) bool { return slices.Contains(loaded, f.Name) })
	if v.Backup.Kind != archive.Ours {
		s.Detail("there is no manifest to compare with")
		return nil
	}
	s.Detail("%d files", len(files))
	return v.Archive.Hash(ctx, v.Backup, files)
}

func (v *verification) countSkipped(ctx context.Context, s *run.Step) (err error) {
	v.tables, err = v.restore.CountSkipped(ctx)
	s.Detail("%d tables that columns.yaml truncates", len(v.tables))
	return err
}

// everyTable goes through the manifest, not through what was restored: a table that is not there at all has no count
// that could differ.
func (v *verification) everyTable() error {
	counted := map[string]bool{}
	for _, t := range v.tables {
		counted[t.Name] = true
	}
	var missing []string
	for _, t := range v.Backup.Manifest.Tables {
		if !counted[t.Name] && t.Rows > 0 {
			missing = append(missing, t.Name)
		}
	}
	if len(missing) > 0 {
		return run.Fail(run.Unfit, "make a new backup: mage backup:create", "backup %s: tables of its manifest that nobody could count: %s",
			v.Backup.ID, strings.Join(missing, ", "))
	}
	return nil
}

func (v *verification) rows() []postgres.TableRows {
	rows := []postgres.TableRows{}
	for _, t := range v.tables {
		rows = append(rows, postgres.TableRows{Name: t.Name, Rows: t.Rows})
	}
	return rows
}

func (v *verification) integrity(ctx context.Context, s *run.Step) error {
	conn, err := v.Staging.Connect(ctx, v.restore.Database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	problems, err := postgres.Integrity(ctx, conn, v.restore.Readable)
	if err != nil {
		return run.Fail(run.Incomplete, "", "%w", err)
	}
	if len(problems) > 0 {
		return run.Fail(run.Unfit, "look at the same on production and mend it there", "backup %s holds every row, and is not sound:\n  %s",
			v.Backup.ID, strings.Join(problems, "\n  "))
	}
	return nil
}

// conclude records the verdict and says it.
func (v *verification) conclude(ctx context.Context) error {
	b := v.Backup
	err := v.Target.Step(ctx, "record the verdict", func(ctx context.Context, _ *run.Step) error { return v.Record(ctx) })
	if err != nil {
		return run.Fail(run.Incomplete, "run it again once the backup host takes the record", "backup %s restores well, but its verdict is not recorded: %w", b.ID, err)
	}
	v.Target.Set("verdict", b.Verdict)
	var rows int64
	for _, t := range v.tables {
		rows += t.Rows
	}
	v.Target.Printf("\nnewest events in backup %s\n", b.ID)
	drill.ShowEvents(v.Target, v.Events)
	v.Target.Printf("\nbackup %s restores: %d rows in %d tables were counted, all indexes and constraints built, %d checks passed\n",
		b.ID, rows, len(v.tables), len(v.Files.Checks))
	if b.Verdict == archive.Suspicious {
		return v.Archive.Fit(b, nil)
	}
	v.Target.Printf("it is %s\n", b.Verdict)
	return nil
}
