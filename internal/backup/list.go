package backup

import (
	"context"
	"fmt"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// listed is one backup in the JSON of backup:list.
type listed struct {
	ID          string          `json:"id"`
	CreatedAt   *time.Time      `json:"created_at"`
	Bytes       int64           `json:"bytes"`
	Tables      int             `json:"tables"`
	Rows        int64           `json:"rows"`
	Verdict     archive.Verdict `json:"verdict"`
	RehearsedAt *time.Time      `json:"rehearsed_at"`
	Problem     string          `json:"problem,omitempty"`
}

// List prints every backup of db, newest first. None at all is run.Unfit: nobody should read an empty list as
// good news.
func List(ctx context.Context, t *run.Target, db *inventory.Database) error {
	h, err := host.Dial(ctx, db.Backups.Host)
	if err != nil {
		return err
	}
	defer h.Close()
	a := &archive.Archive{Host: h, Database: db}
	backups, err := a.List(ctx)
	if err != nil {
		return err
	}
	rows, entries := [][]string{}, []listed{}
	for _, b := range backups {
		e, row := describe(b, time.Now())
		entries, rows = append(entries, e), append(rows, row)
	}
	t.Set("backups", entries)
	if len(backups) == 0 {
		return run.Fail(run.Unfit, "make one: mage backup:create", "no backup of %s in %s on %s", db.Name, a.Path(), h.Name())
	}
	t.Table([]string{"backup", "age", "size", "tables", "rows", "verdict", "last rehearsal"}, rows)
	return nil
}

func describe(b archive.Backup, now time.Time) (listed, []string) {
	e := listed{ID: b.ID, Verdict: b.Verdict, Problem: b.Problem}
	row := []string{b.ID, "?", "?", "?", "?", string(b.Verdict), "never"}
	if m := b.Manifest; m != nil {
		e.CreatedAt, e.Bytes, e.Tables, e.Rows = &m.CreatedAt, m.Bytes(), len(m.Tables), m.Rows()
		row = []string{b.ID, run.Age(now.Sub(m.CreatedAt)), run.Bytes(e.Bytes), fmt.Sprint(e.Tables), fmt.Sprint(e.Rows), string(b.Verdict), "never"}
	}
	if !b.RehearsedAt.IsZero() {
		e.RehearsedAt = &b.RehearsedAt
		row[6] = run.Age(now.Sub(b.RehearsedAt)) + " ago"
	}
	if b.Problem != "" {
		row[5] += ": " + b.Problem
	}
	return e, row
}
