package archive

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// listingOf is what the host prints for one backup.
func listingOf(t *testing.T, m Manifest, sizes map[string]int64, records ...string) string {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("backup 0 %s\nmanifest 1 ./%[1]s/manifest.json\n%s\n", m.ID, text)
	for _, r := range records {
		out += fmt.Sprintf("record 1 ./%s/rehearsals/r.json\n%s\n", m.ID, r)
	}
	for name, size := range sizes {
		out += fmt.Sprintf("file %d ./%s/dump/%s\n", size, m.ID, name)
	}
	return out + "end 0 -\n"
}

var whole = map[string]int64{"toc.dat": 10, "1.dat.gz": 5}

func shopArchive() *Archive {
	return &Archive{Database: &inventory.Database{Name: "shop",
		Production: inventory.Server{SystemIdentifier: "7301234567890123456"}, Backups: inventory.Backups{Host: &inventory.Host{Name: "backup"}, Path: "/srv", MaxAge: 26 * time.Hour}}}
}

func TestTheCatalogueJudgesWhatTheListingShows(t *testing.T) {
	other := good()
	other.Source.SystemIdentifier = "1"
	empty := good()
	empty.Tables[0].Rows = 0
	for name, c := range map[string]struct {
		listing string
		verdict Verdict
		problem string
	}{
		"whole":          {listingOf(t, good(), whole), Sealed, ""},
		"rehearsed":      {listingOf(t, good(), whole, `{"status":"ok","recorded_at":"2026-01-01T03:00:00Z"}`), Verified, ""},
		"staging failed": {listingOf(t, good(), whole, `{"status":"failed","exit_code":6,"recorded_at":"2026-01-01T03:00:00Z"}`), Sealed, ""},
		"failed": {listingOf(t, good(), whole, `{"status":"ok","recorded_at":"2026-01-01T03:00:00Z"}`,
			`{"status":"failed","exit_code":3,"recorded_at":"2026-01-02T03:00:00Z","error":{"message":"a row is lost"}}`), Bad, "rehearsal of 2026-01-02 03:00:00 failed: a row is lost"},
		"mended": {listingOf(t, good(), whole, `{"status":"failed","exit_code":3,"recorded_at":"2026-01-01T03:00:00Z","error":{"message":"a row is lost"}}`,
			`{"status":"ok","recorded_at":"2026-01-02T03:00:00Z"}`), Verified, ""},
		"broken record": {listingOf(t, good(), whole, `{`), Sealed, ""},
		"missing":       {listingOf(t, good(), map[string]int64{"toc.dat": 10}), Bad, "dump/1.dat.gz is missing"},
		"short":         {listingOf(t, good(), map[string]int64{"toc.dat": 10, "1.dat.gz": 4}), Bad, "dump/1.dat.gz has 4 bytes instead of 5"},
		"other server":  {listingOf(t, other, whole), Bad, "system identifier 1"},
		"empty":         {listingOf(t, empty, whole), Bad, "it is empty"},
		"no manifest":   {"backup 0 20260101T020000Z\nfile 3 ./20260101T020000Z/dump/toc.dat\nend 0 -\n", Bad, "it has no manifest.json"},
		"not JSON":      {"backup 0 20260101T020000Z\nmanifest 1 manifest.json\n{,}\nend 0 -\n", Bad, "manifest.json is not a manifest"},
	} {
		backups, err := parseListing(c.listing)
		if err != nil || len(backups) != 1 {
			t.Errorf("%s: %d backups, %v", name, len(backups), err)
			continue
		}
		shopArchive().judge(backups)
		b := backups[0]
		problem := b.Problem + b.Failed
		if b.Verdict != c.verdict || !strings.Contains(problem, c.problem) || (c.problem == "") != (problem == "") {
			t.Errorf("%s: verdict %s, problem %q, want %s, %q", name, b.Verdict, problem, c.verdict, c.problem)
		}
	}
}

func TestAListingThatIsNoneIsAnError(t *testing.T) {
	whole := listingOf(t, good(), whole)
	for _, out := range []string{"", "hello\n", "manifest 1 x\n{}\nend 0 -\n", "backup 0 20260101T020000Z\nmanifest 2 manifest.json\n{}\n", "backup x\n",
		"\x1f\x8b", strings.TrimSuffix(whole, "end 0 -\n"), whole[:len(whole)-2]} {
		if _, err := readListing(out); err == nil {
			t.Errorf("%q: no error", out)
		}
	}
	if backups, err := parseListing("backup 0 2026\nend 0 -\n"); err != nil || len(backups) != 0 {
		t.Errorf("a folder that is no backup: %v, %v", backups, err)
	}
}

func TestANewestBackupThatIsNotFitIsNeverPassedOver(t *testing.T) {
	m := good()
	now := m.CreatedAt.Add(time.Hour)
	fit := Backup{ID: m.ID, Manifest: &m, Verdict: Sealed}
	bad := Backup{ID: "20260102T020000Z", Manifest: &m, Problem: "it is broken", Verdict: Bad}
	for name, c := range map[string]struct {
		backups []Backup
		id      string
		now     time.Time
		want    string
		hint    string
	}{
		"none":             {nil, "", now, "no backup of shop", "backup:create"},
		"fit":              {[]Backup{fit}, "", now, "", ""},
		"newest is bad":    {[]Backup{bad, fit}, "", now, "is not fit: it is broken", "-backup=" + m.ID},
		"bad and alone":    {[]Backup{bad}, "", now, "is not fit: it is broken", "no older fit one"},
		"older on purpose": {[]Backup{bad, fit}, m.ID, now, "", ""},
		"no such":          {[]Backup{fit}, "20200101T000000Z", now, `no backup "20200101T000000Z"`, "backup:list"},
		"stale":            {[]Backup{fit}, "", now.Add(26 * time.Hour), "max_age is 26 hours", "-backup=" + m.ID},
		"stale on purpose": {[]Backup{fit}, m.ID, now.Add(26 * time.Hour), "", ""},
		"of the future":    {[]Backup{fit}, "", now.Add(-2 * time.Hour), "created in the future", "clocks"},
	} {
		_, err := shopArchive().Choose(c.backups, c.id, c.now)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(run.HintOf(err), c.hint) || run.CodeOf(err) != run.Unfit {
			t.Errorf("%s: want %q and the hint %q, got %v (%s, exit %d)", name, c.want, c.hint, err, run.HintOf(err), run.CodeOf(err))
		}
	}
}
