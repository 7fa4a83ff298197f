package archive

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
)

// countedPrograms are those that a listing may start.
var countedPrograms = []string{"sh", "awk", "ls", "od", "stat", "gzip", "cat", "wc", "tr"}

// vault is a folder of backups behind a real sshd, whose programs are written down in a log as they start. Those in
// missing are not there.
type vault struct {
	*Archive
	dir, log string
}

func newVault(t *testing.T, missing ...string) *vault {
	t.Helper()
	v := &vault{dir: filepath.Join(t.TempDir(), "shop's backups"), log: filepath.Join(t.TempDir(), "log")}
	bin := t.TempDir()
	for _, name := range countedPrograms {
		program, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(missing, name) {
			write(t, filepath.Join(bin, name), fmt.Sprintf("#!/bin/sh\necho %s >>%s\nexec %s \"$@\"\n", name, v.log, program))
		}
	}
	for _, dir := range []string{bin, v.dir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s, machine, err := lab.StartHost(t.Context(), inventory.Host{Name: "backup", Role: inventory.Backup}, t.TempDir(), "SetEnv HOME="+t.TempDir()+" PATH="+bin) // no start file of a shell changes it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	h, err := host.Dial(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	v.Archive = shopArchive()
	v.Host, v.Database.Backups.Path = h, v.dir
	return v
}

// list returns the catalogue, and how often each program was started for it.
func (v *vault) list(t *testing.T) (backups []Backup, started map[string]int) {
	t.Helper()
	if err := os.WriteFile(v.log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	backups, err := v.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(v.log)
	if err != nil {
		t.Fatal(err)
	}
	started = map[string]int{}
	for _, name := range strings.Fields(string(text)) {
		started[name]++
	}
	return backups, started
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

const record = `{"status":"ok","recorded_at":"2026-01-01T03:00:00Z"}`

// put makes a backup of the i-th night, rehearsed twice, and returns its ID.
func (v *vault) put(t *testing.T, i int) string {
	t.Helper()
	m := good()
	m.CreatedAt = m.CreatedAt.Add(time.Duration(i) * 24 * time.Hour)
	m.ID, m.NewestEvents[0].At = m.CreatedAt.Format(IDLayout), m.CreatedAt
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(v.dir, m.ID, "manifest.json"), string(text))
	for name, size := range whole {
		write(t, filepath.Join(v.dir, m.ID, "dump", name), strings.Repeat("x", int(size)))
	}
	write(t, filepath.Join(v.dir, m.ID, "rehearsals", "1.json"), record)
	write(t, filepath.Join(v.dir, m.ID, "rehearsals", "2.json"), record+"\n")
	return m.ID
}

func TestACatalogueOfManyBackupsIsOneCommandThatStartsNoMorePrograms(t *testing.T) {
	v := newVault(t)
	v.put(t, 0)
	_, one := v.list(t)
	for i := range 150 {
		v.put(t, i)
	}
	backups, many := v.list(t)
	if len(backups) != 150 || backups[0].Verdict != Verified || backups[149].Verdict != Verified {
		t.Errorf("%d backups: %v … %v", len(backups), backups[0], backups[len(backups)-1])
	}
	if one["cat"] > 2 || many["cat"] > 2 {
		t.Errorf("%v and %v: more cats than a command and its watchdog start", one, many)
	}
	delete(one, "cat") // the watchdog's may start when the listing has been read
	delete(many, "cat")
	if diff := cmp.Diff(one, many); diff != "" {
		t.Errorf("150 backups start other programs than one does:\n%s", diff)
	}
}

func TestTheListingReadsWhatLiesThereWithAndWithoutGzip(t *testing.T) {
	for _, missing := range [][]string{nil, {"gzip"}} {
		v := newVault(t, missing...)
		fit := v.put(t, 0)
		empty := v.put(t, 1)
		write(t, filepath.Join(v.dir, empty, "manifest.json"), "")
		nul := v.put(t, 2)
		write(t, filepath.Join(v.dir, nul, "manifest.json"), "{\n\x00end 0 -\n")
		none := v.put(t, 3)
		if err := os.Remove(filepath.Join(v.dir, none, "manifest.json")); err != nil {
			t.Fatal(err)
		}
		short := v.put(t, 4)
		write(t, filepath.Join(v.dir, short, "dump", "1.dat.gz"), "x")
		accepted := v.put(t, 5)
		write(t, filepath.Join(v.dir, accepted, "accepted.json"), `{"why":"it
is meant"}`)
		bare := v.put(t, 6)
		if err := os.RemoveAll(filepath.Join(v.dir, bare, "dump")); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(v.dir, "of others =1.sql"), "-- PostgreSQL database dump\n")
		write(t, filepath.Join(v.dir, ".rehearsals", "of others =1.sql", "r.json"), record)
		write(t, filepath.Join(v.dir, "folder: of others", "toc.dat"), "no archive")
		write(t, filepath.Join(v.dir, "empty.dump"), "")
		write(t, filepath.Join(v.dir, "two\nlines.sql"), "-- PostgreSQL database dump\n")
		write(t, filepath.Join(v.dir, "notes.txt"), "of no interest")
		write(t, filepath.Join(v.dir, ".partial-20260101T020000Z", "manifest.json"), "{}")
		if err := os.Symlink(fit, filepath.Join(v.dir, "20270101T020000Z")); err != nil {
			t.Fatal(err)
		}
		backups, started := v.list(t)
		if started["gzip"] > 0 == slices.Contains(missing, "gzip") {
			t.Errorf("without %v: %v", missing, started)
		}
		got := map[string]string{}
		for _, b := range backups {
			got[b.ID] = b.Problem
			if b.Accepted != nil {
				got[b.ID] += "accepted: " + b.Accepted.Why
			}
			if v.Recordable(&b) != nil {
				t.Errorf("%s: not recordable", b.ID)
			}
		}
		want := map[string]string{
			fit:                 "",
			empty:               "manifest.json is not a manifest",
			nul:                 "manifest.json is not a manifest",
			none:                "it has no manifest.json",
			short:               "dump/1.dat.gz has 1 bytes instead of 5",
			accepted:            "",
			bare:                "is missing",
			"of others =1.sql":  "it is plain SQL",
			"empty.dump":        "it is an empty file",
			"folder: of others": "its toc.dat is not one of pg_dump",
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
			t.Errorf("without %v: other backups:\n%s", missing, diff)
		}
		for id, problem := range want {
			if !strings.Contains(got[id], problem) || (problem == "") != (got[id] == "") && id != accepted {
				t.Errorf("without %v: %s: %q, want %q", missing, id, got[id], problem)
			}
		}
	}
}

func TestARehearsalThatCouldNotBeRecordedIsRefused(t *testing.T) {
	listed := listingOf(t, good(), whole)
	for _, c := range []struct{ listing, problem string }{
		{listed, good().ID + " on backup is not writable, so the rehearsal could not be recorded"},
		{strings.Replace(listed, "\n", "\nwritable 0 "+good().ID+"\n", 1), "<nil>"},
	} {
		backups, err := parseListing(c.listing)
		if err != nil {
			t.Fatal(err)
		}
		a := newVault(t).Archive
		if err := a.Recordable(&backups[0]); !strings.HasSuffix(fmt.Sprint(err), c.problem) {
			t.Errorf("got %v, want %s", err, c.problem)
		}
	}
}
