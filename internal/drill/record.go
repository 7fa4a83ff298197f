package drill

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/run"
)

// Record writes beside the backup what this rehearsal found: the run's JSON without people and events, and the verdict.
func (d *Drill) Record(ctx context.Context) error {
	b := d.Backup
	if b.Verdict = archive.Verified; len(b.Suspicions) > 0 && b.Accepted == nil {
		b.Verdict = archive.Suspicious
	}
	report := d.Target.Report()
	report["verdict"] = b.Verdict
	return d.record(ctx, report)
}

// RecordFailure does so for a rehearsal that found the backup unfit. One that ended for another reason, the staging
// server's or a person's, says nothing about the backup and leaves it as it is. A record that cannot be written is a
// warning: why the rehearsal failed is what counts.
func (d *Drill) RecordFailure(ctx context.Context, failed error) {
	if d.recorded || run.CodeOf(failed) != run.Unfit {
		return
	}
	report := d.Target.Report()
	report["status"], report["exit_code"] = "failed", run.Unfit
	report["verdict"] = archive.Bad
	report["error"] = map[string]string{"message": failed.Error(), "hint": run.HintOf(failed)}
	if err := d.record(context.WithoutCancel(ctx), report); err != nil {
		d.Target.Warn("%v", err)
	}
}

func (d *Drill) record(ctx context.Context, report map[string]any) error {
	delete(report, "events")
	delete(report, "accounts")
	now := time.Now().UTC()
	report["by"], report["recorded_at"] = run.User(), now
	if d.Backup.Kind != archive.Ours {
		report["suspicions"] = d.Backup.Suspicions
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	_, verb, _ := strings.Cut(d.Name, ":") // reset of staging:reset
	name := now.Format(archive.IDLayout) + "-" + verb + ".json"
	d.recorded = true
	return d.Archive.Record(ctx, d.Backup, name, append(text, '\n'))
}
