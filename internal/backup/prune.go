package backup

import (
	"context"
	"fmt"
	"strings"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// pruned is one backup in the JSON of backup:prune.
type pruned struct {
	ID  string `json:"id"`
	Why string `json:"why"`
}

// Prune removes the backups that db's policy does not keep; see archive.Retain. With dryRun it only says which. Where no
// verified backup is younger than max_age it removes nothing and fails with run.Unfit: somebody must hear of it.
//
// On cancel it stops between two backups; which ones are gone is said and in the JSON's "removed".
func Prune(ctx context.Context, t *run.Target, db *inventory.Database, dryRun bool) error {
	a, backups, err := catalogue(ctx, t, db)
	if err != nil {
		return err
	}
	now := time.Now()
	decisions := archive.Retain(backups, db.Backups, now)
	kept, remove := divide(decisions)
	t.Set("dry_run", dryRun)
	t.Set("kept", kept)
	t.Set("removed", []pruned{})
	if len(backups) == 0 {
		return run.Fail(run.Unfit, "make one: mage backup:create", "no backup of %s in %s on %s", db.Name, a.Path(), a.Host.Name())
	}
	t.Table([]string{"backup", "age", "verdict", "decision", "why"}, retention(decisions, now))
	switch {
	case !archive.Fresh(backups, db.Backups.MaxAge, now):
		return run.Fail(run.Unfit, "make one and restore it: mage backup:create backup:verify",
			"no verified backup of %s%s in %s on %s: nothing was removed", db.Name, younger(db.Backups.MaxAge), a.Path(), a.Host.Name())
	case dryRun:
		t.Set("removed", remove)
		t.Printf("this was a dry run: nothing was removed")
		return nil
	}
	return removeAll(ctx, t, a, remove)
}

func younger(maxAge time.Duration) string {
	if maxAge == 0 {
		return ""
	}
	return fmt.Sprintf(" is younger than %s (max_age)", run.Age(maxAge))
}

func divide(decisions []archive.Decision) (kept, remove []pruned) {
	kept, remove = []pruned{}, []pruned{}
	for _, d := range decisions {
		if d.Keep {
			kept = append(kept, pruned{d.Backup.ID, d.Why})
		} else {
			remove = append(remove, pruned{d.Backup.ID, d.Why})
		}
	}
	return kept, remove
}

func retention(decisions []archive.Decision, now time.Time) (rows [][]string) {
	for _, d := range decisions {
		age, what := "?", "remove"
		if d.Backup.Manifest != nil {
			age = run.Age(now.Sub(d.Backup.Manifest.CreatedAt))
		}
		if d.Keep {
			what = "keep"
		}
		rows = append(rows, []string{d.Backup.ID, age, string(d.Backup.Verdict), what, d.Why})
	}
	return rows
}

// removeAll removes one after the other. A removal that has begun is not interrupted: it takes a moment, and what it did
// would be unknown.
func removeAll(ctx context.Context, t *run.Target, a *archive.Archive, remove []pruned) error {
	var gone []string
	err := t.Step(ctx, "remove", func(ctx context.Context, s *run.Step) error {
		if err := a.RemovePruned(ctx); err != nil {
			return err
		}
		for _, p := range remove {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := a.Remove(context.WithoutCancel(ctx), p.ID); err != nil {
				return err
			}
			gone = append(gone, p.ID)
			s.Count(len(gone), len(remove), "backups")
			t.Set("removed", remove[:len(gone)])
		}
		if len(remove) == 0 {
			s.Detail("the policy keeps all of them")
		}
		return nil
	})
	if err != nil && len(gone) > 0 {
		t.Printf("removed before that: %s", strings.Join(gone, ", "))
	}
	return err
}
