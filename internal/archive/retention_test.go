package archive

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/inventory"
)

// noon is "now" in these tests, a Saturday in the ISO week 2026-W05.
var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// aged is a backup of that age with that verdict.
func aged(age time.Duration, verdict Verdict) Backup {
	at := noon.Add(-age)
	b := Backup{ID: at.UTC().Format(IDLayout), Verdict: verdict,
		Manifest: &Manifest{Database: "shop", CreatedAt: at, Source: Source{SystemIdentifier: "7"}}}
	if verdict == Verified {
		b.RehearsedAt = at.Add(time.Hour)
	}
	return b
}

const day = 24 * time.Hour

// everyNight is a verified backup of each of the last nights, newest first.
func everyNight(nights int) (backups []Backup) {
	for n := range nights {
		backups = append(backups, aged(10*time.Hour+time.Duration(n)*day, Verified))
	}
	return backups
}

// decided is a line for each decision.
func decided(decisions []Decision) (lines []string) {
	for _, d := range decisions {
		what := "remove"
		if d.Keep {
			what = "keep"
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", d.Backup.ID, what, d.Why))
	}
	return lines
}

func TestThePolicyKeepsTheNewestOfEachDayWeekAndMonth(t *testing.T) {
	policy := inventory.Backups{MaxAge: 26 * time.Hour, Keep: inventory.Keep{Daily: 4, Weekly: 3, Monthly: 2}}
	backups := slices.Insert(everyNight(35), 4, aged(3*day+11*time.Hour, Verified)) // a second one of the 28th
	got := decided(Retain(backups, policy, noon))
	kept := map[string]string{
		"20260131T020000Z": "one of the newest three verified",
		"20260130T020000Z": "one of the newest three verified",
		"20260129T020000Z": "one of the newest three verified",
		"20260128T020000Z": "daily 2026-01-28",
		"20260125T020000Z": "weekly 2026-W04", // a Sunday
		"20260118T020000Z": "weekly 2026-W03",
		"20251231T020000Z": "monthly 2025-12",
	}
	if len(got) != len(backups) {
		t.Fatalf("%d decisions on %d backups", len(got), len(backups))
	}
	for _, line := range got {
		id, rest, _ := strings.Cut(line, " ")
		want := "remove: newer ones take its day, week and month"
		if why, ok := kept[id]; ok {
			want = "keep: " + why
			delete(kept, id)
		}
		if rest != want {
			t.Errorf("%s %s, want %s", id, rest, want)
		}
	}
	if len(kept) > 0 {
		t.Errorf("there are no decisions on %v", kept)
	}
}

func TestSlotsAreDaysInUTC(t *testing.T) {
	policy := inventory.Backups{MaxAge: 26 * time.Hour, Keep: inventory.Keep{Daily: 5}}
	backups := everyNight(3)
	late, early := aged(0, Verified), aged(0, Verified)
	late.ID, late.Manifest.CreatedAt = "20260120T233000Z", time.Date(2026, 1, 21, 0, 30, 0, 0, time.FixedZone("CET", 3600))
	early.ID, early.Manifest.CreatedAt = "20260121T003000Z", time.Date(2026, 1, 20, 19, 30, 0, 0, time.FixedZone("EST", -5*3600))
	for _, d := range Retain(append(backups, late, early), policy, noon)[3:] {
		if want := "daily " + d.Backup.ID[:4] + "-" + d.Backup.ID[4:6] + "-" + d.Backup.ID[6:8]; d.Why != want {
			t.Errorf("%s: %s, want %s", d.Backup.ID, d.Why, want)
		}
	}
}

func TestOnlyWhatIsVerifiedTakesASlotAndTheRestGoesBehindThreeOfThose(t *testing.T) {
	policy := inventory.Backups{MaxAge: 26 * time.Hour, Keep: inventory.Keep{Daily: 30}}
	old := 5 * day
	for name, c := range map[string]struct {
		change func(*Backup)
		want   string
	}{
		"verified":                  {func(*Backup) {}, "keep: daily 2026-01-26"},
		"sealed":                    {func(b *Backup) { b.Verdict, b.RehearsedAt = Sealed, time.Time{} }, "remove: sealed, never restored; 3 newer ones are verified"},
		"suspicious":                {func(b *Backup) { b.Verdict, b.RehearsedAt = Suspicious, time.Time{} }, "remove: suspicious, never restored; 3 newer"},
		"bad":                       {func(b *Backup) { b.Verdict = Bad }, "remove: bad; 3 newer ones are verified"},
		"restored, then suspicious": {func(b *Backup) { b.Verdict = Suspicious }, "keep: restored once"},
		"of another server":         {func(b *Backup) { b.Verdict, b.Manifest.Source.SystemIdentifier = Bad, "8" }, "keep: of another database or server"},
		"of another database":       {func(b *Backup) { b.Verdict, b.Manifest.Database = Bad, "blog" }, "keep: of another database or server"},
		"made by others":            {func(b *Backup) { b.Kind, b.Verdict = Custom, Sealed }, "keep: made by others"},
		"made by others, and bad":   {func(b *Backup) { b.Kind, b.Verdict, b.Manifest = Directory, Bad, nil }, "keep: made by others"},
		"without a manifest":        {func(b *Backup) { b.Verdict, b.Manifest = Bad, nil }, "keep: no manifest"},
	} {
		b := aged(old, Verified)
		c.change(&b)
		for _, d := range Retain(append(everyNight(3), b), policy, noon) {
			if got := strings.SplitN(decided([]Decision{d})[0], " ", 2)[1]; d.Backup.ID == b.ID && !strings.HasPrefix(got, c.want) {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
		}
		for _, d := range Retain(append(everyNight(2), b), policy, noon) {
			if !d.Keep {
				t.Errorf("%s behind two verified ones: removed, %s", name, d.Why)
			}
		}
	}
}

func TestNothingIsRemovedWhereNoVerifiedBackupIsFresh(t *testing.T) {
	backups := append(everyNight(20), aged(40*day, Bad))
	for name, c := range map[string]struct {
		backups []Backup
		maxAge  time.Duration
		now     time.Time
		fresh   bool
	}{
		"a fresh one":          {backups, 26 * time.Hour, noon, true},
		"all too old":          {backups, 26 * time.Hour, noon.Add(16 * time.Hour), false},
		"old, and no limit":    {backups, 0, noon.Add(1000 * day), true},
		"none verified":        {[]Backup{aged(time.Hour, Sealed), aged(day, Suspicious), aged(2*day, Bad)}, 0, noon, false},
		"fresh, and sealed":    {append([]Backup{aged(time.Hour, Sealed)}, backups[10:]...), 26 * time.Hour, noon, false},
		"one of the future":    {backups, 26 * time.Hour, noon.Add(-30 * day), false},
		"clocks a little off":  {backups, 26 * time.Hour, noon.Add(-10*time.Hour - 5*time.Minute), true},
		"one verified by some": {append([]Backup{{ID: "x.dump", Kind: Custom, Manifest: &Manifest{CreatedAt: noon}, Verdict: Verified}}, backups[10:]...), 26 * time.Hour, noon, true},
	} {
		policy := inventory.Backups{MaxAge: c.maxAge}
		if got := Fresh(c.backups, c.maxAge, c.now); got != c.fresh {
			t.Errorf("%s: fresh is %t", name, got)
		}
		removed := removedOf(Retain(c.backups, policy, c.now))
		if (len(removed) > 0) != c.fresh {
			t.Errorf("%s: removes %v", name, removed)
		}
	}
}

func removedOf(decisions []Decision) map[string]bool {
	removed := map[string]bool{}
	for _, d := range decisions {
		if !d.Keep {
			removed[d.Backup.ID] = true
		}
	}
	return removed
}

// catalogue is a random one.
func catalogue(r *rand.Rand) (backups []Backup) {
	verdicts := []Verdict{Verified, Verified, Verified, Sealed, Suspicious, Bad}
	for at, n := time.Duration(r.IntN(40))*time.Hour, r.IntN(60); len(backups) < n; at += time.Duration(1+r.IntN(100)) * time.Hour {
		b := aged(at, verdicts[r.IntN(len(verdicts))])
		switch r.IntN(20) {
		case 0:
			b.Kind, b.ID = Custom, fmt.Sprintf("shop-%d.dump", len(backups))
		case 1:
			b.Manifest, b.Verdict = nil, Bad
		case 2:
			b.Manifest.Source.SystemIdentifier, b.Verdict = "8", Bad
		}
		backups = append(backups, b)
	}
	return backups
}

func TestWhateverThePolicyWhatMustNotGoStays(t *testing.T) {
	removals := 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		backups := catalogue(r)
		policy := inventory.Backups{MaxAge: time.Duration(r.IntN(40)) * time.Hour,
			Keep: inventory.Keep{Daily: r.IntN(9), Weekly: r.IntN(6), Monthly: r.IntN(13)}}
		decisions := Retain(backups, policy, noon)
		removed := removedOf(decisions)
		removals += len(removed)
		mustStay(t, backups, policy, removed)

		shuffled := slices.Clone(backups)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if !reflect.DeepEqual(decided(Retain(shuffled, policy, noon)), decided(decisions)) {
			t.Errorf("seed %d: another order of the catalogue is another decision", seed)
		}
		left := slices.DeleteFunc(slices.Clone(backups), func(b Backup) bool { return removed[b.ID] })
		if again := removedOf(Retain(left, policy, noon)); len(again) > 0 {
			t.Errorf("seed %d: pruning again removes %v", seed, again)
		}
		if t.Failed() {
			t.Fatalf("seed %d, policy %+v:\n%s", seed, policy, strings.Join(decided(decisions), "\n"))
		}
	}
	if removals < 10000 {
		t.Errorf("only %d removals in all catalogues: nothing was tried", removals)
	}
}

// mustStay says of every promise what it means, in the simplest way and not in Retain's.
func mustStay(t *testing.T, backups []Backup, policy inventory.Backups, removed map[string]bool) {
	t.Helper()
	fresh, verified := false, 0
	slotted := map[string]bool{}
	days, weeks, months := map[string]bool{}, map[string]bool{}, map[string]bool{}
	first := func(seen map[string]bool, count int, slot string) bool {
		if seen[slot] || len(seen) >= count {
			return false
		}
		seen[slot] = true
		return true
	}
	for _, b := range backups { // newest first
		gone := removed[b.ID]
		if gone && (b.Kind != Ours || b.Manifest == nil || verified < 3) {
			t.Errorf("%s goes: it is the %d. verified one, kind %q, manifest %v", b.ID, verified, b.Kind, b.Manifest)
		}
		if b.Verdict != Verified {
			continue
		}
		fresh = fresh || policy.MaxAge == 0 || noon.Sub(b.Manifest.CreatedAt) < policy.MaxAge
		if b.Kind != Ours {
			continue
		}
		verified++
		at := b.Manifest.CreatedAt
		year, week := at.ISOWeek()
		inDay := first(days, policy.Keep.Daily, at.Format(time.DateOnly))
		inWeek := first(weeks, policy.Keep.Weekly, fmt.Sprint(year, week))
		inMonth := first(months, policy.Keep.Monthly, at.Format("2006-01"))
		slotted[b.ID] = inDay || inWeek || inMonth
		if gone && slotted[b.ID] {
			t.Errorf("%s goes, and has a slot", b.ID)
		}
	}
	if !fresh && len(removed) > 0 {
		t.Errorf("%v go, and no verified one is fresh", slices.Sorted(maps.Keys(removed)))
	}
	for i, b := range backups { // and nothing else stays
		older := len(slices.DeleteFunc(slices.Clone(backups[:i]), func(b Backup) bool { return !counts(&b) })) >= 3
		plain := b.Kind == Ours && b.Manifest != nil && b.Manifest.Source.SystemIdentifier == "7"
		if fresh && older && plain && !slotted[b.ID] && !removed[b.ID] {
			t.Errorf("%s stays", b.ID)
		}
	}
}
