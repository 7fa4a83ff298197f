package archive

import (
	"strings"
	"testing"
	"time"

	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// madeOn is a good backup of that day of January, with rows in the tables of the map.
func madeOn(day int, rows map[string]int64) Backup {
	m := good()
	m.CreatedAt = time.Date(2026, 1, day, 2, 0, 0, 0, time.UTC)
	m.ID = m.CreatedAt.Format(IDLayout)
	m.NewestEvents = []postgres.Event{{At: m.CreatedAt.Add(-time.Minute), What: "order placed"}}
	m.Tables = nil
	for name, n := range rows {
		root, _, partition := strings.Cut(name, "/")
		t := postgres.TableRows{Name: name, Rows: n}
		if partition {
			t.Root = root
		}
		m.Tables = append(m.Tables, t)
	}
	return Backup{ID: m.ID, Manifest: &m}
}

// afterRehearsal is the same after a rehearsal that succeeded.
func afterRehearsal(b Backup) Backup {
	b.RehearsedAt = b.Manifest.CreatedAt.Add(time.Hour)
	return b
}

var usual = map[string]int64{"orders": 1000, "jobs": 20, "log/2025": 500, "log/2026": 500, "empty": 0}

func changed(changes map[string]int64) map[string]int64 {
	rows := map[string]int64{}
	for name, n := range usual {
		rows[name] = n
	}
	for name, n := range changes {
		if rows[name] = n; n < 0 {
			delete(rows, name)
		}
	}
	return rows
}

func TestHistoryAndFloorsMakeABackupSuspiciousAndGrowthDoesNot(t *testing.T) {
	floor := map[string]int64{"orders": 900}
	for name, c := range map[string]struct {
		now    map[string]int64
		floors map[string]int64
		want   string
	}{
		"the same":              {usual, floor, ""},
		"growth":                {changed(map[string]int64{"orders": 9000, "new": 1}), floor, ""},
		"a little less":         {changed(map[string]int64{"orders": 801}), nil, ""},
		"an empty queue":        {changed(map[string]int64{"jobs": 0}), nil, ""},
		"a partition less":      {changed(map[string]int64{"log/2025": -1, "log/2026": 900}), nil, ""},
		"a table shrank":        {changed(map[string]int64{"orders": 700, "jobs": 900}), nil, "orders had 1000 rows in backup 20260101T020000Z and has 700"},
		"a table vanished":      {changed(map[string]int64{"jobs": -1}), nil, "jobs had 20 rows in backup 20260101T020000Z and is gone"},
		"an empty one vanished": {changed(map[string]int64{"empty": -1}), nil, "empty had 0 rows in backup 20260101T020000Z and is gone"},
		"partitions vanished":   {changed(map[string]int64{"log/2025": -1, "log/2026": -1}), nil, "log had 1000 rows in backup 20260101T020000Z and is gone"},
		"all shrank":            {changed(map[string]int64{"orders": 100}), nil, "all tables together had 2020 rows in backup 20260101T020000Z and have 1120"},
		"below its floor":       {changed(map[string]int64{"orders": 899}), floor, "orders has 899 rows, its min_rows is 900"},
		"a floor of no table":   {usual, map[string]int64{"people": 1}, "people is not there, its min_rows is 1"},
	} {
		a := shopArchive()
		a.Database.Backups.MaxShrink, a.Database.Backups.MinRows = 0.2, c.floors
		backups := []Backup{madeOn(2, c.now), afterRehearsal(madeOn(1, usual))}
		if c.floors["people"] > 0 {
			backups = backups[:1] // the older one has no such table either
		}
		a.judge(backups)
		got := strings.Join(backups[0].Suspicions, "; ")
		if !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		if (backups[0].Verdict == Suspicious) != (c.want != "") {
			t.Errorf("%s: verdict %s", name, backups[0].Verdict)
		}
	}
}

func TestABackupIsComparedWithTheLastOneThatIsKnownToBeGood(t *testing.T) {
	fewer := func(n int64) map[string]int64 { return changed(map[string]int64{"orders": n}) }
	accepted := madeOn(3, fewer(500))
	accepted.Accepted = &Acceptance{Why: "archived"}
	for name, c := range map[string]struct {
		backups []Backup
		against string
		verdict Verdict
	}{
		"a first one has no history":                 {[]Backup{madeOn(4, usual)}, "", Sealed},
		"sealed where nothing is verified":           {[]Backup{madeOn(4, usual), madeOn(3, usual)}, "20260103T020000Z", Sealed},
		"verified rather than the sealed before":     {[]Backup{madeOn(4, usual), madeOn(3, usual), afterRehearsal(madeOn(2, usual))}, "20260102T020000Z", Sealed},
		"small steps do not add up unseen":           {[]Backup{madeOn(4, fewer(700)), madeOn(3, fewer(850)), afterRehearsal(madeOn(2, usual))}, "20260102T020000Z", Suspicious},
		"never with a suspicious one":                {[]Backup{madeOn(4, fewer(500)), madeOn(3, fewer(500)), afterRehearsal(madeOn(2, usual))}, "20260102T020000Z", Suspicious},
		"with one that a human accepted":             {[]Backup{madeOn(4, fewer(500)), accepted, afterRehearsal(madeOn(2, usual))}, "20260103T020000Z", Sealed},
		"never with one that failed":                 {[]Backup{madeOn(4, usual), {ID: "20260103T020000Z", Manifest: madeOn(3, usual).Manifest, Failed: "damaged"}}, "", Sealed},
		"its own rehearsal does not make it history": {[]Backup{afterRehearsal(madeOn(4, usual))}, "", Verified},
	} {
		a := shopArchive()
		a.Database.Backups.MaxShrink = 0.2
		a.judge(c.backups)
		if b := c.backups[0]; b.Against != c.against || b.Verdict != c.verdict {
			t.Errorf("%s: compared with %q, verdict %s (%q); want %q, %s", name, b.Against, b.Verdict, b.Suspicions, c.against, c.verdict)
		}
	}
}

func TestABackupOfOursIsComparedWithOursOnlyAndOneOfOthersWithAny(t *testing.T) {
	theirs := afterRehearsal(madeOn(2, usual))
	theirs.Kind, theirs.Verdict, theirs.Manifest.Format = Custom, Verified, 0
	ours := afterRehearsal(madeOn(1, usual))
	ours.Verdict = Verified
	for format, against := range map[int]string{Format: ours.ID, 0: theirs.ID} {
		m := *madeOn(3, usual).Manifest
		m.Format = format
		if got, _ := shopArchive().Suspect(&m, []Backup{theirs, ours}); got != against {
			t.Errorf("format %d: compared with %q, want %q", format, got, against)
		}
	}
}

func TestTheNewestEventTellsACopyThatStopped(t *testing.T) {
	for name, c := range map[string]struct {
		events []postgres.Event
		want   string
	}{
		"fresh":  {[]postgres.Event{{At: time.Date(2026, 1, 2, 1, 0, 0, 0, time.UTC)}}, ""},
		"old":    {[]postgres.Event{{At: time.Date(2025, 12, 24, 1, 0, 0, 0, time.UTC)}}, "its newest event was 9 days old when it was made (max_age is 26 hours)"},
		"future": {[]postgres.Event{{At: time.Date(2026, 1, 3, 1, 0, 0, 0, time.UTC)}}, ""},
		"none":   {nil, "found no event"},
	} {
		b := madeOn(2, usual)
		b.Manifest.NewestEvents = c.events
		_, suspicions := shopArchive().Suspect(b.Manifest, nil)
		if got := strings.Join(suspicions, "; "); !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestAServerWhoseWALPositionWentBackIsSuspicious(t *testing.T) {
	for name, c := range map[string]struct {
		system, before, now string
		suspicious          bool
	}{
		"on it goes":     {"1", "2/FF000000", "3/10", false},
		"it stood still": {"1", "3/10", "3/10", false},
		"it went back":   {"1", "3/10", "2/FF000000", true},
		"another server": {"2", "3/10", "2/FF000000", false},
		"unknown":        {"1", "3/10", "", false},
	} {
		before, now := madeOn(1, usual), madeOn(2, usual)
		before.Manifest.Source = Source{SystemIdentifier: "1", LSN: c.before}
		now.Manifest.Source = Source{SystemIdentifier: c.system, LSN: c.now}
		before.Verdict = Verified
		if _, got := shopArchive().Suspect(now.Manifest, []Backup{before}); (len(got) > 0) != c.suspicious {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestASuspiciousBackupIsNeverChosenUntilAHumanAcceptsIt(t *testing.T) {
	a := shopArchive()
	a.Database.Backups.MaxShrink = 0.2
	backups := []Backup{madeOn(3, changed(map[string]int64{"orders": 1})), afterRehearsal(madeOn(2, usual))}
	a.judge(backups)
	now := backups[0].Manifest.CreatedAt.Add(time.Hour)
	for _, id := range []string{"", backups[0].ID} {
		_, err := a.Choose(backups, id, now)
		if run.CodeOf(err) != run.Unfit || !strings.Contains(err.Error(), "suspicious") || !strings.Contains(run.HintOf(err), "mage backup:accept -backup=20260103T020000Z -why=") {
			t.Errorf("-backup=%s: %v, next %q", id, err, run.HintOf(err))
		}
	}
	if b, err := a.Choose(backups, backups[1].ID, now); err != nil || b.ID != backups[1].ID {
		t.Errorf("the verified one before it, on purpose: %v", err)
	}
	backups[0].Accepted = &Acceptance{Why: "the archive was moved out"}
	a.judge(backups)
	if _, err := a.Choose(backups, "", now); err != nil {
		t.Errorf("accepted: %v", err)
	}
}
