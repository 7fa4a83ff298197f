package archive

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Verdict is what is known of a backup.
type Verdict string

// The verdicts.
const (
	Verified   Verdict = "verified"   // restored, and its rows were counted
	Sealed     Verdict = "sealed"     // created, not yet restored
	Suspicious Verdict = "suspicious" // whole, and not what floors and history let expect; never chosen
	Bad        Verdict = "bad"        // damaged, empty, of another server, or its restore failed
)

// judge sorts backups, newest first, and gives each its verdict: by what lies there, by where the inventory says it
// must come from, by floors, and by the good backup before it. What a rehearsal has settled stays so.
func (a *Archive) judge(backups []Backup) {
	slices.SortFunc(backups, func(x, y Backup) int {
		return cmp.Or(y.createdAt().Compare(x.createdAt()), strings.Compare(y.ID, x.ID))
	})
	for i := len(backups) - 1; i >= 0; i-- {
		b := &backups[i]
		if b.Problem == "" {
			b.Problem = a.wrong(b)
		}
		if b.Problem == "" && b.Kind == Ours && !b.settled {
			b.Against, b.Suspicions = a.Suspect(b.Manifest, backups[i+1:])
			b.old = len(b.Suspicions) == 1 && len(old(b.Manifest, a.Database.Backups.MaxAge)) == 1
		}
		b.Verdict = b.verdict()
	}
}

// createdAt is when the backup was made, as far as anything says so.
func (b *Backup) createdAt() time.Time {
	if b.Manifest != nil {
		return b.Manifest.CreatedAt
	}
	if t, err := time.Parse(IDLayout, b.ID); err == nil {
		return t
	}
	return b.changed
}

func (b *Backup) verdict() Verdict {
	switch {
	case b.Problem != "" || b.Failed != "":
		return Bad
	case len(b.Suspicions) > 0 && b.Accepted == nil:
		return Suspicious
	case !b.RehearsedAt.IsZero():
		return Verified
	}
	return Sealed
}

// good says whether a newer backup may be held against this one.
func (b *Backup) good() bool { return b.Verdict == Verified || b.Verdict == Sealed }

// wrong says what the inventory knows against a backup that is whole.
func (a *Archive) wrong(b *Backup) string {
	m, expected := b.Manifest, a.Database.Production.SystemIdentifier
	switch {
	case b.Kind != Ours && m.Database != a.Database.Production.Name:
		return fmt.Sprintf("it is a dump of database %q, production's is %q", m.Database, a.Database.Production.Name)
	case b.Kind != Ours:
		return ""
	case m.Database != a.Database.Name:
		return fmt.Sprintf("it is a backup of database %q, not of %s", m.Database, a.Database.Name)
	case expected != "" && m.Source.SystemIdentifier != expected:
		b.stranger = true
		return fmt.Sprintf("it was taken from the server with system identifier %s, production's in the inventory is %s",
			m.Source.SystemIdentifier, expected)
	case m.Rows() == 0:
		return "it is empty: no table has a row"
	}
	return ""
}

// Suspect holds what a backup says of itself against the inventory's floors and against history, which are what a dump
// of an empty or wrong instance cannot satisfy: its own source would agree with it. older are the judged backups
// before it, newest first. against is the one it was compared with, "" where there is none: the newest that was
// verified or accepted or, while there is no such one, the newest sealed. Those of a server that production was before
// count: who writes an empty instance's identity into the inventory must not end history with it. Those that others made
// count for one another only: what was counted of them is what their rules load. Growth never raises a suspicion. Tables
// that nobody counted are left out.
func (a *Archive) Suspect(m *Manifest, older []Backup, uncounted ...string) (against string, suspicions []string) {
	policy := a.Database.Backups
	floors := maps.Clone(policy.MinRows)
	maps.DeleteFunc(floors, func(name string, _ int64) bool { return slices.Contains(uncounted, name) })
	suspicions = append(belowFloors(m.Tables, floors), old(m, policy.MaxAge)...)
	last := history(older, m.Format > 0)
	if last == nil {
		return "", suspicions
	}
	before := byRoot(last.Manifest.Tables)
	maps.DeleteFunc(before, func(name string, _ int64) bool { return slices.Contains(uncounted, name) })
	suspicions = append(suspicions, shrunk(before, byRoot(m.Tables), policy.MaxShrink, last.ID)...)
	return last.ID, append(suspicions, wentBack(m.Source, last)...)
}

// wentBack compares WAL positions: those of one cluster only grow. One that went back was set back to an older state of
// its files, or another server on the same files answers now.
func wentBack(now Source, last *Backup) []string {
	before, is := last.Manifest.Source, position(now.LSN)
	if before.SystemIdentifier != now.SystemIdentifier || is == 0 || is >= position(before.LSN) {
		return nil
	}
	return []string{fmt.Sprintf("its server stood at WAL position %s, at backup %s already at %s: it has gone back, or is not the one it was", now.LSN, last.ID, before.LSN)}
}

// position is a pg_lsn as a number, 0 for what is none.
func position(lsn string) (n uint64) {
	var high, low uint64
	if _, err := fmt.Sscanf(lsn, "%X/%X", &high, &low); err != nil {
		return 0
	}
	return high<<32 | low
}

// history picks the backup that newer ones are compared with, or nil; ours says that only one of our own will do.
func history(older []Backup, ours bool) *Backup {
	var sealed *Backup
	for i := range older {
		b := &older[i]
		switch {
		case ours && b.Kind != Ours:
		case !b.good() && !b.stranger || b.Failed != "" || len(b.Manifest.Tables) == 0: // no tables: made by others, and not restored yet
		case !b.RehearsedAt.IsZero() || b.Accepted != nil:
			return b
		case sealed == nil:
			sealed = b
		}
	}
	return sealed
}

// belowFloors lists tables that have fewer rows than the inventory's min_rows.
func belowFloors(tables []postgres.TableRows, floors map[string]int64) (problems []string) {
	rows := byRoot(tables)
	for _, name := range slices.Sorted(maps.Keys(floors)) {
		n, ok := rows[name]
		switch {
		case !ok:
			problems = append(problems, fmt.Sprintf("%s is not there, its min_rows is %d", name, floors[name]))
		case n < floors[name]:
			problems = append(problems, fmt.Sprintf("%s has %d rows, its min_rows is %d", name, n, floors[name]))
		}
	}
	return problems
}

// old compares the newest event with the moment of the snapshot: a copy that stopped a week ago dumps as well as today.
func old(m *Manifest, limit time.Duration) []string {
	if len(m.NewestEvents) == 0 {
		return []string{"events.sql found no event in it: nothing shows how fresh its data is"}
	}
	age := m.CreatedAt.Sub(m.NewestEvents[0].At)
	if limit == 0 || age <= limit {
		return nil
	}
	return []string{fmt.Sprintf("its newest event was %s old when it was made (max_age is %s)", run.Age(age), run.Age(limit))}
}

// shrinkFloor is how many rows a table must have had before its shrinking alone is a suspicion: a queue of twenty
// jobs halves every minute. For smaller tables that matter there is min_rows.
const shrinkFloor = 100

// shrunk lists the tables that vanished and what lost more than the share limit of its rows: tables, partitions taken
// together, and the database as a whole.
func shrunk(before, now map[string]int64, limit float64, last string) (problems []string) {
	var was, is int64
	for _, n := range now {
		is += n
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		was += before[name]
		n, ok := now[name]
		switch {
		case !ok:
			problems = append(problems, fmt.Sprintf("%s had %d rows in backup %s and is gone", name, before[name], last))
		case before[name] >= shrinkFloor && float64(n) < float64(before[name])*(1-limit):
			problems = append(problems, fmt.Sprintf("%s had %d rows in backup %s and has %d (max_shrink is %g%%)", name, before[name], last, n, limit*100))
		}
	}
	if float64(is) < float64(was)*(1-limit) {
		problems = append(problems, fmt.Sprintf("all tables together had %d rows in backup %s and have %d (max_shrink is %g%%)", was, last, is, limit*100))
	}
	return problems
}

// byRoot sums rows by table; partitions count for their topmost parent, so that a policy may drop the oldest.
func byRoot(tables []postgres.TableRows) map[string]int64 {
	rows := map[string]int64{}
	for _, t := range tables {
		rows[cmp.Or(t.Root, t.Name)] += t.Rows
	}
	return rows
}

// clockTolerance is how far the clocks of two hosts may differ before a backup counts as one of the future. The
// header of an archive that others made holds local time without its zone.
func (b *Backup) clockTolerance() time.Duration {
	if b.Kind != Ours {
		return 14 * time.Hour
	}
	return 10 * time.Minute
}

// Pick finds the backup with that ID or, for "", the newest, whatever its verdict. Errors are run.Unfit.
func (a *Archive) Pick(backups []Backup, id string) (*Backup, error) {
	where := a.where()
	if len(backups) == 0 {
		return nil, run.Fail(run.Unfit, "make one: mage backup:create", "no backup of %s in %s", a.Database.Name, where)
	}
	if id == "" {
		return &backups[0], nil
	}
	i := slices.IndexFunc(backups, func(b Backup) bool { return b.ID == id })
	if i < 0 {
		return nil, run.Fail(run.Unfit, "see what is there: mage backup:list", "no backup %q of %s in %s", id, a.Database.Name, where)
	}
	return &backups[i], nil
}

func (a *Archive) where() string {
	return fmt.Sprintf("%s on %s", a.Database.Backups.Path, a.Database.Backups.Host.Name)
}

// Choose picks the backup to restore: the one with that ID or, for "", the newest. A newest one that is not fit is an
// error and never passed over: somebody must hear of it. A suspicious one is not fit until a human accepts it. Errors
// are run.Unfit. How old it and its newest event are and how its last rehearsal ended are judged only where no ID asks
// for a certain backup.
func (a *Archive) Choose(backups []Backup, id string, now time.Time) (*Backup, error) {
	b, err := a.Pick(backups, id)
	if err != nil {
		return nil, err
	}
	if onPurpose := id != "" && b.Problem == "" && (b.Failed != "" || b.old); !onPurpose {
		if err := a.Fit(b, backups); err != nil {
			return nil, err
		}
	}
	age, limit := now.Sub(b.Manifest.CreatedAt), a.Database.Backups.MaxAge
	switch {
	case age < -b.clockTolerance():
		return nil, run.Fail(run.Unfit, "compare the clocks of production and of this machine", "backup %s in %s was created in the future, at %s",
			b.ID, a.where(), b.Manifest.CreatedAt.Format(time.RFC3339))
	case id == "" && limit > 0 && age > limit:
		return nil, run.Fail(run.Unfit, fmt.Sprintf("make a new one: mage backup:create; or take this one on purpose: -backup=%s", b.ID),
			"the newest backup of %s is %s old (max_age is %s): %s in %s", a.Database.Name, run.Age(age), run.Age(limit), b.ID, a.where())
	}
	return b, nil
}

// Fit is nil for a backup that may be restored, else run.Unfit with what is against it and the next step.
func (a *Archive) Fit(b *Backup, backups []Backup) error {
	switch b.Verdict {
	case Bad:
		problem, hint := b.Problem, older(backups, b)
		if problem == "" {
			problem, hint = b.Failed, hint+"; to try it again, once you know why: mage backup:verify -backup="+b.ID
		}
		return run.Fail(run.Unfit, hint, "backup %s in %s is not fit: %s", b.ID, a.where(), problem)
	case Suspicious:
		return run.Fail(run.Unfit, acceptHint(b.ID), "backup %s in %s is suspicious:\n  %s", b.ID, a.where(), strings.Join(b.Suspicions, "\n  "))
	}
	return nil
}

// acceptHint is the way on from a suspicious backup.
func acceptHint(id string) string {
	return fmt.Sprintf("find out why on production; if it is meant: mage backup:accept -backup=%s -why='the reason'", id)
}

// older names the newest verified backup before b or, where none is, the newest sealed one.
func older(backups []Backup, b *Backup) string {
	i := slices.IndexFunc(backups, func(o Backup) bool { return o.ID == b.ID })
	var fit string
	for _, o := range backups[i+1:] {
		if o.Verdict == Verified {
			fit = o.ID
			break
		}
		if o.good() {
			fit = cmp.Or(fit, o.ID)
		}
	}
	if fit == "" {
		return "there is no older fit one: mage backup:create"
	}
	return fmt.Sprintf("find out what happened to it, then take an older one on purpose: -backup=%s", fit)
}
