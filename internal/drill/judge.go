package drill

import (
	"slices"

	"rehearsal/internal/archive"
	"rehearsal/internal/postgres"
	"rehearsal/internal/restore"
)

// Judge holds a restored backup that others made against floors and history, which for one of our own the catalogue
// does from its manifest. Tables that the rules truncate are left out: nobody counted them. Suspicions make the backup
// suspicious, unless a human has accepted it.
func (d *Drill) Judge(tables []restore.TableResult) {
	b := d.Backup
	if b.Kind == archive.Ours {
		return
	}
	m := &archive.Manifest{CreatedAt: b.Manifest.CreatedAt, NewestEvents: d.Events}
	for _, t := range tables {
		m.Tables = append(m.Tables, postgres.TableRows{Name: t.Name, Rows: t.Rows, Root: t.Root})
	}
	i := slices.IndexFunc(d.catalogue, func(o archive.Backup) bool { return o.ID == b.ID })
	_, b.Suspicions = d.Archive.Suspect(m, d.catalogue[i+1:], d.Rules.Truncated()...)
	if len(b.Suspicions) > 0 && b.Accepted == nil {
		b.Verdict = archive.Suspicious
	}
}

// Suspicious is nil, or run.Unfit for a backup that Judge found suspicious, which is recorded: a human may accept it.
func (d *Drill) Suspicious() error {
	if d.Backup.Verdict != archive.Suspicious {
		return nil
	}
	return d.Archive.Fit(d.Backup, d.catalogue)
}
