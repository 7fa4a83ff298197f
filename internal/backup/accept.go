package backup

import (
	"context"
	"strings"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Accept writes down beside a suspicious backup why it is what it should be, and who says so. From then on it may be
// chosen, and newer ones are compared with it. A bad backup cannot be accepted (run.Unfit), and one that nobody
// suspects need not be (run.Usage).
func Accept(ctx context.Context, t *run.Target, db *inventory.Database, id, why string) error {
	why = strings.TrimSpace(why)
	switch {
	case id == "":
		return run.Fail(run.Usage, "see what is there: mage backup:list", "say which backup: -backup=ID")
	case why == "":
		return run.Fail(run.Usage, "", "say why it is fit in spite of what speaks against it: -why='the reason'; it is kept beside the backup")
	}
	a, backups, err := catalogue(ctx, t, db)
	if err != nil {
		return err
	}
	b, err := a.Pick(backups, id)
	if err != nil {
		return err
	}
	switch b.Verdict {
	case archive.Bad:
		return a.Fit(b, backups)
	case archive.Verified, archive.Sealed:
		return run.Fail(run.Usage, "", "backup %s is %s: there is nothing to accept", b.ID, b.Verdict)
	}
	word := archive.Acceptance{Why: why, By: run.User(), At: time.Now().UTC(), Suspicions: b.Suspicions}
	if err := a.Accept(ctx, b, word); err != nil {
		return err
	}
	t.Set("backup", b.ID)
	t.Set("accepted", word)
	t.Printf("backup %s is accepted by %s: %s\n", b.ID, word.By, why)
	t.Printf("what spoke against it:\n  %s\n", strings.Join(b.Suspicions, "\n  "))
	return nil
}
