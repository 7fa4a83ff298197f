package archive

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/postgres"
)

func good() Manifest {
	return Manifest{Format: 1, ID: "20260101T020000Z", Database: "shop", CreatedAt: time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC),
		Source:       Source{Host: "production", SystemIdentifier: "7301234567890123456"},
		Tables:       []postgres.TableRows{{Name: "public.users", Rows: 3}},
		NewestEvents: []postgres.Event{{At: time.Date(2026, 1, 1, 1, 59, 0, 0, time.UTC), What: "signed in"}},
		Files:        []File{{Name: "dump/toc.dat", Bytes: 10, SHA256: strings.Repeat("a", 64)}, {Name: "dump/1.dat.gz", Bytes: 5, SHA256: strings.Repeat("b", 64)}}}
}

func TestAManifestIsReadAsItWasWritten(t *testing.T) {
	m := good()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseManifest(m.ID, text)
	if err != nil {
		t.Fatal(err)
	}
	if got.Rows() != 3 || got.Bytes() != 15 || !got.CreatedAt.Equal(m.CreatedAt) {
		t.Errorf("got %+v", got)
	}
}

func TestAManifestThatDoesNotSwearToEverythingIsRefused(t *testing.T) {
	for want, breakIt := range map[string]func(*Manifest){
		"has no format":                       func(m *Manifest) { m.Format = 0 },
		"newer than this program's":           func(m *Manifest) { m.Format = 2 },
		`is that of backup "x"`:               func(m *Manifest) { m.ID = "x" },
		"when the backup was created":         func(m *Manifest) { m.CreatedAt = time.Time{} },
		"which server":                        func(m *Manifest) { m.Source.SystemIdentifier = "" },
		"lists no table":                      func(m *Manifest) { m.Tables = nil },
		"does not list dump/toc.dat":          func(m *Manifest) { m.Files = m.Files[1:] },
		`a file "../../etc/passwd"`:           func(m *Manifest) { m.Files[1].Name = "../../etc/passwd" },
		`a file "dump/../manifest.json"`:      func(m *Manifest) { m.Files[1].Name = "dump/../manifest.json" },
		"lists dump/toc.dat twice":            func(m *Manifest) { m.Files[1].Name = "dump/toc.dat" },
		"no size or sha256 for dump/1.dat.gz": func(m *Manifest) { m.Files[1].SHA256 = "" },
	} {
		m := good()
		breakIt(&m)
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest("20260101T020000Z", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	for text, want := range map[string]string{"{\n\"format\": 1,,\n}": "line 2", `{"format": "one"}`: "line 1", "": "unexpected end"} {
		if _, err := ParseManifest("x", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want an error with %q, got %v", text, want, err)
		}
	}
}
