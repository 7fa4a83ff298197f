package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// vault is a database whose backups lie, in a folder of this test, behind a real sshd.
func vault(t *testing.T) *inventory.Database {
	t.Helper()
	s, machine, err := lab.StartHost(t.Context(), inventory.Host{Name: "vault", Role: inventory.Backup}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &inventory.Database{Name: "shop", Backups: inventory.Backups{Host: machine,
		Path: filepath.Join(t.TempDir(), "shop's backups"), MaxAge: 26 * time.Hour, MaxShrink: 0.2}}
}

// put makes a backup of that age and returns its ID.
func put(t *testing.T, db *inventory.Database, age time.Duration, verified bool) string {
	t.Helper()
	at := time.Now().UTC().Add(-age).Truncate(time.Second)
	id := at.Format(archive.IDLayout)
	m := archive.Manifest{Format: archive.Format, ID: id, Database: "shop", CreatedAt: at, Source: archive.Source{SystemIdentifier: "7"},
		Tables: []postgres.TableRows{{Name: "public.users", Rows: 3}}, NewestEvents: []postgres.Event{{At: at, What: "x"}},
		Files: []archive.File{{Name: "dump/toc.dat", Bytes: 3, SHA256: strings.Repeat("a", 64)}}}
	write(t, filepath.Join(db.Backups.Path, id, "dump", "toc.dat"), []byte("toc"))
	write(t, filepath.Join(db.Backups.Path, id, "manifest.json"), m)
	if verified {
		write(t, filepath.Join(db.Backups.Path, id, "rehearsals", "r.json"), map[string]any{"status": "ok", "recorded_at": at.Add(time.Minute)})
	}
	return id
}

func write(t *testing.T, file string, content any) {
	t.Helper()
	text, ok := content.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// prune runs backup:prune and returns the IDs in its report.
func prune(t *testing.T, db *inventory.Database, dryRun bool) (kept, removed []string, err error) {
	t.Helper()
	var report struct{ Kept, Removed []pruned }
	err = run.Main(t.Context(), "backup:prune", func(ctx context.Context, target *run.Target) error {
		err := Prune(ctx, target, db, dryRun)
		text, _ := json.Marshal(target.Report())
		if err := json.Unmarshal(text, &report); err != nil {
			t.Error(err)
		}
		if said := target.Report()["dry_run"]; fmt.Sprint(said) != fmt.Sprint(dryRun) {
			t.Errorf("dry_run is %v", said)
		}
		return err
	})
	ids := func(all []pruned) (ids []string) {
		for _, p := range all {
			if p.Why == "" {
				t.Errorf("%s: why?", p.ID)
			}
			ids = append(ids, p.ID)
		}
		return ids
	}
	return ids(report.Kept), ids(report.Removed), err
}

// lying is what lies in the folder of backups, sorted.
func lying(t *testing.T, db *inventory.Database) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(db.Backups.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantExit(t *testing.T, err error, code run.Code, says string) {
	t.Helper()
	var exit interface{ ExitStatus() int }
	if !errors.As(err, &exit) || exit.ExitStatus() != int(code) || !strings.Contains(err.Error(), says) {
		t.Errorf("want exit code %d and %q, got %v", code, says, err)
	}
}

func TestPruneRemovesWhatThePolicyDoesNotKeepAndNothingElse(t *testing.T) {
	db := vault(t)
	var keep, remove []string
	for night := range 3 {
		keep = append(keep, put(t, db, time.Hour+time.Duration(night)*24*time.Hour, true))
	}
	remove = append(remove, put(t, db, 80*time.Hour, true), put(t, db, 100*time.Hour, false))
	// Of others, or nobody's: a dump, a folder, and the neighbours of a backup.
	for _, other := range []string{"notes.txt", "lost+found/x", ".partial-20260101T020000Z/manifest.json", "20260101/x"} {
		write(t, filepath.Join(db.Backups.Path, other), []byte("x"))
	}
	before := lying(t, db)

	kept, removed, err := prune(t, db, true)
	if err != nil || !slices.Equal(kept, keep) || !slices.Equal(removed, remove) {
		t.Errorf("dry run: keeps %v, removes %v, %v; want %v, %v", kept, removed, err, keep, remove)
	}
	if now := lying(t, db); !slices.Equal(now, before) {
		t.Errorf("after a dry run: %v, before it: %v", now, before)
	}
	kept, removed, err = prune(t, db, false)
	if err != nil || !slices.Equal(kept, keep) || !slices.Equal(removed, remove) {
		t.Errorf("keeps %v, removes %v, %v; want %v, %v", kept, removed, err, keep, remove)
	}
	want := slices.DeleteFunc(before, func(name string) bool { return slices.Contains(remove, name) })
	if now := lying(t, db); !slices.Equal(now, want) {
		t.Errorf("after: %v, want %v", now, want)
	}
	if kept, removed, err = prune(t, db, false); err != nil || !slices.Equal(kept, keep) || len(removed) > 0 {
		t.Errorf("again: keeps %v, removes %v, %v", kept, removed, err)
	}
}

func TestPruneWithoutAFreshVerifiedBackupRemovesNothingAndTellsSomebody(t *testing.T) {
	db := vault(t)
	_, _, err := prune(t, db, false)
	wantExit(t, err, run.Unfit, "mage backup:create")

	put(t, db, time.Hour, false)
	for night := range 5 {
		put(t, db, time.Duration(30+24*night)*time.Hour, true)
	}
	before := lying(t, db)
	for _, dryRun := range []bool{true, false} {
		kept, removed, err := prune(t, db, dryRun)
		wantExit(t, err, run.Unfit, "no verified backup of shop is younger than 26 hours (max_age)")
		wantExit(t, err, run.Unfit, "mage backup:create backup:verify")
		if len(kept) != 6 || len(removed) > 0 || !slices.Equal(lying(t, db), before) {
			t.Errorf("keeps %v, removes %v; there is %v", kept, removed, lying(t, db))
		}
	}
}

func TestWhatAKilledPruneLeftIsNoBackupAndGoesWithTheNext(t *testing.T) {
	db := vault(t)
	keep := put(t, db, time.Hour, true)
	for n := range 2 { // the state between the rename and the end of rm
		id := put(t, db, time.Duration(100+n)*time.Hour, true)
		if err := os.Rename(filepath.Join(db.Backups.Path, id), filepath.Join(db.Backups.Path, ".pruned-"+id)); err != nil {
			t.Fatal(err)
		}
	}
	if kept, removed, err := prune(t, db, true); err != nil || !slices.Equal(kept, []string{keep}) || len(removed) > 0 || len(lying(t, db)) < 3 {
		t.Errorf("dry run: keeps %v, removes %v, %v; there is %v", kept, removed, err, lying(t, db))
	}
	if _, _, err := prune(t, db, false); err != nil || !slices.Equal(lying(t, db), []string{keep}) {
		t.Errorf("%v; there is %v", err, lying(t, db))
	}
}

func TestAKillWhileABackupIsRemovedLeavesNoHalfOfIt(t *testing.T) {
	db := vault(t)
	h, err := host.Dial(t.Context(), db.Backups.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	a := &archive.Archive{Host: h, Database: db}
	id := put(t, db, time.Hour, true)
	for i := range 10000 {
		if err := os.WriteFile(filepath.Join(db.Backups.Path, id, "dump", fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, kill := context.WithCancel(t.Context())
	go func() { // as soon as it has its new name
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(db.Backups.Path, ".pruned-"+id)); err == nil {
				kill()
			}
		}
	}()
	err = a.Remove(ctx, id)
	kill()
	t.Logf("%v; there is %v", err, lying(t, db))
	if backups, err := a.List(t.Context()); err != nil || len(backups) > 0 || slices.Contains(lying(t, db), id) {
		t.Errorf("half a backup is listed: %v, %v; there is %v", backups, err, lying(t, db))
	}
	if err := a.RemovePruned(t.Context()); err != nil || len(lying(t, db)) > 0 {
		t.Errorf("%v; there is %v", err, lying(t, db))
	}
}

func TestOnlyAnIDOfOursIsEverRemoved(t *testing.T) {
	db := vault(t)
	h, err := host.Dial(t.Context(), db.Backups.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	a := &archive.Archive{Host: h, Database: db}
	write(t, filepath.Join(db.Backups.Path, "shop.dump"), []byte("PGDMP"))
	for _, id := range []string{"", ".", "..", "*", "shop.dump", "20260101T020000Z/..", "20260101T020000Z"} {
		if err := a.Remove(t.Context(), id); err == nil {
			t.Errorf("%q: no error", id)
		}
	}
	if got := lying(t, db); !slices.Equal(got, []string{"shop.dump"}) {
		t.Errorf("there is %v", got)
	}
}

func TestAnInterruptedPruneStopsBetweenTwoAndSaysWhatIsGone(t *testing.T) {
	db := vault(t)
	for night := range 3 {
		put(t, db, time.Hour+time.Duration(night)*24*time.Hour, true)
	}
	for n := range 60 {
		put(t, db, time.Duration(100+n)*time.Hour, false)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var report map[string]any
	err := run.Main(ctx, "backup:prune", func(ctx context.Context, target *run.Target) error {
		go func() {
			for ctx.Err() == nil {
				if len(lying(t, db)) < 60 {
					cancel()
				}
			}
		}()
		err := Prune(ctx, target, db, false)
		report = target.Report()
		return err
	})
	wantExit(t, err, run.Interrupted, "")
	text, _ := json.Marshal(report["removed"])
	var removed []pruned
	if err := json.Unmarshal(text, &removed); err != nil {
		t.Fatal(err)
	}
	left := lying(t, db)
	if len(removed) < 3 || len(removed) == 60 || len(removed)+len(left) != 63 {
		t.Errorf("%d are said to be gone, %d are left of 63", len(removed), len(left))
	}
	for _, name := range left {
		if strings.HasPrefix(name, ".pruned-") || slices.ContainsFunc(removed, func(p pruned) bool { return p.ID == name }) {
			t.Errorf("%s is still there", name)
		}
	}
}
