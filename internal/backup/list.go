package backup

import (
	"cmp"
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
	Kind        archive.Kind    `json:"made_by,omitempty"` // pg_dump's format, where others made it
	CreatedAt   *time.Time      `json:"created_at"`
	Bytes       int64           `json:"bytes"`
	Tables      int             `json:"tables"`
	Rows        int64           `json:"rows"`
	Verdict     archive.Verdict `json:"verdict"`
	RehearsedAt *time.Time      `json:"rehearsed_at"`
	Problem     string          `json:"problem,omitempty"`
	Suspicions  []string        `json:"suspicions,omitempty"`
	Against     string          `json:"compared_with,omitempty"` // ID of the backup that history means; none for a first one

	Accepted *archive.Acceptance `json:"accepted,omitempty"`
}

// List prints every backup of db, newest first. None at all is run.Unfit: nobody should read an empty list as
// good news.
func List(ctx context.Context, t *run.Target, db *inventory.Database) error {
	a, backups, err := catalogue(ctx, t, db)
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
		return run.Fail(run.Unfit, "make one: mage backup:create", "no backup of %s in %s on %s", db.Name, a.Path(), a.Host.Name())
	}
	t.Table([]string{"backup", "age", "size", "tables", "rows", "verdict", "last rehearsal"}, rows)
	explain(t, backups)
	return nil
}

// catalogue connects to the backup host until the target ends, and lists what is there.
func catalogue(ctx context.Context, t *run.Target, db *inventory.Database) (*archive.Archive, []archive.Backup, error) {
	h, err := host.DialFor(ctx, t, db.Backups.Host)
	if err != nil {
		return nil, nil, err
	}
	a := &archive.Archive{Host: h, Database: db}
	backups, err := a.List(ctx)
	return a, backups, err
}

func describe(b archive.Backup, now time.Time) (listed, []string) {
	e := listed{ID: b.ID, Kind: b.Kind, Verdict: b.Verdict, Problem: cmp.Or(b.Problem, b.Failed), Suspicions: b.Suspicions, Against: b.Against, Accepted: b.Accepted}
	row := []string{b.ID, "?", "?", "?", "?", string(b.Verdict), "never"}
	if m := b.Manifest; m != nil {
		e.CreatedAt, e.Bytes, e.Tables, e.Rows = &m.CreatedAt, m.Bytes(), len(m.Tables), m.Rows()
		row = []string{b.ID, run.Age(now.Sub(m.CreatedAt)), run.Bytes(e.Bytes), fmt.Sprint(e.Tables), fmt.Sprint(e.Rows), string(b.Verdict), "never"}
	}
	if !b.RehearsedAt.IsZero() {
		e.RehearsedAt = &b.RehearsedAt
		row[6] = run.Age(now.Sub(b.RehearsedAt)) + " ago"
	}
	if b.Manifest != nil && len(b.Manifest.Tables) == 0 {
		row[3], row[4] = "?", "?" // made by others and not restored yet
	}
	return e, row
}

// explain says below the table what stands behind verdicts that are not plain.
func explain(t *run.Target, backups []archive.Backup) {
	first := true
	for _, b := range backups {
		reasons := b.Suspicions
		switch {
		case b.Verdict == archive.Bad:
			reasons = []string{cmp.Or(b.Problem, b.Failed)}
		case b.Accepted != nil:
			reasons = []string{fmt.Sprintf("accepted by %s: %s", b.Accepted.By, b.Accepted.Why)}
		case b.Verdict != archive.Suspicious && b.Kind != archive.Ours:
			reasons = []string{"made by others with " + string(b.Kind) + ": without a manifest there are no counts, hashes or source to compare"}
		case b.Verdict != archive.Suspicious:
			continue
		}
		for _, reason := range reasons {
			if first {
				t.Printf("\n")
				first = false
			}
			t.Printf("%s is %s: %s\n", b.ID, b.Verdict, reason)
		}
	}
}
