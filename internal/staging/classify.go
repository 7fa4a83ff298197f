package staging

import (
	"context"
	"os"
	"path/filepath"

	"rehearsal/internal/inventory"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Classify prints lines for columns.yaml for every column of the newest backup's schema that it does not
// classify yet; without a columns.yaml, for all. No row is read: the schema is restored empty and dropped.
func Classify(ctx context.Context, t *run.Target, db *inventory.Database, o Options) error {
	s := newStage(t, db, nil, "staging:classify")
	file := filepath.Join(db.SQL, "columns.yaml")
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return run.Fail(run.Usage, "", "reading the classification: %w", err)
	}
	if s.Rules, err = mask.Parse(file, text); err != nil {
		return err
	}
	if err := s.ready(ctx, o); err != nil {
		return err
	}
	var lines string
	err = t.Step(ctx, "read the backup's schema", func(ctx context.Context, _ *run.Step) error {
		tables, err := s.Restore(postgres.Incoming(db.Staging.Name)).Schema(ctx)
		if err == nil {
			lines = mask.Classify(tables, s.Rules)
		}
		return err
	})
	if err != nil {
		return err
	}
	t.Set("lines", lines)
	if lines == "" {
		t.Printf("\n%s classifies every column of backup %s\n", file, s.Backup.ID)
		return nil
	}
	t.Printf("\n# paste into %s, and change clear to keep where a column is not sensitive\n%s", file, lines)
	return nil
}
