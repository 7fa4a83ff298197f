package doctor

import (
	"context"
	"slices"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// store is what was learned of a database's backups.
type store struct {
	archive *archive.Archive
	folders fact[folders]
	disk    fact[disk]
	lacking fact[[]string]
	list    fact[[]archive.Backup]
}

// backupTools read a backup where it lies.
var backupTools = []string{"gzip", "sha256sum|shasum|openssl"}

func (b *store) look(ctx context.Context, h *host.Host, db *inventory.Database) {
	b.archive = &archive.Archive{Host: h, Database: db}
	together(
		func() { b.folders.learn(readFolders(ctx, h, b.archive.Path())) },
		func() { b.disk.learn(freeAt(ctx, h, b.archive.Path())) },
		func() { b.lacking.learn(lacking(ctx, h, backupTools...)) },
		func() { b.list.learn(b.archive.List(ctx)) },
	)
}

func (s *subject) judgeBackups(r *report, now time.Time) {
	b := &s.backups
	r.judgeFolders(b.folders)
	r.judgeDisk(b.disk, s.dumpBytes(), "the next backup", "make room there: mage backup:prune -dryRun shows what the policy would remove")
	r.judgeTools(b.lacking, backupTools...)
	if !b.list.known() {
		r.error("newest backup", b.list.err)
		return
	}
	s.judgeNewest(r, now)
	judgeRehearsals(r, b.list.is, now)
}

// judgeNewest asks what a reset would: is the newest one fit? None at all is not a young one.
func (s *subject) judgeNewest(r *report, now time.Time) {
	b := &s.backups
	newest, err := b.archive.Choose(b.list.is, "", now)
	switch {
	case len(b.list.is) == 0:
		r.fail(run.Unfit, "newest backup", "make one: mage backup:create", "never: there is none in %s", s.Backups.Path)
	case err != nil:
		r.error("newest backup", err)
	default:
		r.ok("newest backup", "%s, %s old, %s", newest.ID, run.Age(now.Sub(newest.Manifest.CreatedAt)), newest.Verdict)
	}
}

// rehearseEvery is how long a rehearsal is evidence: production's schema and our grants change every week.
const rehearseEvery = 7 * 24 * time.Hour

func judgeRehearsals(r *report, backups []archive.Backup, now time.Time) {
	var last time.Time
	for _, b := range backups {
		if b.RehearsedAt.After(last) {
			last = b.RehearsedAt
		}
	}
	const hint = "mage staging:reset, or mage backup:verify where staging must stay as it is"
	switch age := now.Sub(last); {
	case len(backups) == 0:
		r.warn("last rehearsal", "", "never: there is no backup")
	case last.IsZero():
		r.warn("last rehearsal", hint, "never: no backup was ever restored")
	case age > rehearseEvery:
		r.warn("last rehearsal", hint, "%s ago", run.Age(age))
	default:
		r.ok("last rehearsal", "%s ago", run.Age(age))
	}
}

// good is the newest good backup's manifest, by which the next one is judged, or nil.
func (b *store) good() *archive.Manifest {
	i := slices.IndexFunc(b.list.is, func(b archive.Backup) bool { return b.Verdict == archive.Verified || b.Verdict == archive.Sealed })
	if i < 0 {
		return nil
	}
	return b.list.is[i].Manifest
}

// dumpBytes is what the next backup needs, on production's spool and on the backup host; 0: not known. Without a good
// one it is a third of the database, which is what gzip makes of rows.
func (s *subject) dumpBytes() int64 {
	if last := s.backups.good(); last != nil {
		return last.DumpBytes()
	}
	return s.production.bytes.is / 3
}

// restoreBytes is what the next reset needs on staging; 0: not known.
func (s *subject) restoreBytes() int64 {
	if last := s.backups.good(); last != nil {
		return last.RestoreBytes()
	}
	return s.production.bytes.is + s.production.bytes.is/5
}
