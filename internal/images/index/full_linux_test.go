package index

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// small mounts a file system of n bytes.
func small(t *testing.T, n string) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size="+n); err != nil {
		t.Skipf("mounting: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestAFullDiskEndsTheRunAndLosesNothing(t *testing.T) {
	dir := small(t, "1m")
	old := ordinaries(0, 3000, 7)
	sealed(t, dir, old)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 500_000), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := Create(dir, header)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for err == nil && n < 100000 {
		e := ordinary(n, 9)
		w.Folder([]byte(e.Folder))
		err = w.Add(&e.Entry)
		n++
	}
	e := ordinary(n+1, 9).Entry
	_, sealing := w.Seal()
	for what, err := range map[string]error{"Add": err, "Add again": w.Add(&e), "Sync": w.Sync(), "Seal": sealing} {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.Close()

	for _, left := range []int64{500_000, 400_000} { // at its beginning, and on the way
		if err := os.Truncate(ballast, left); err != nil {
			t.Fatal(err)
		}
		if _, err := Resume(dir, header); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("Resume on a full disk: %v", err)
		}
	}
	same(t, rest(opened(t, dir)), old)
	if _, err := os.Stat(filepath.Join(dir, resumedName)); err == nil {
		t.Error("what could not be completed still fills the disk")
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	resume(t, dir, true)
	r, err := Open(dir, header)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := rest(r)
	saved := slices.IndexFunc(got, func(e filed) bool { return e.Read == 7 })
	if saved < 0 {
		saved = len(got)
	}
	if saved < n-2500 || saved > n {
		t.Errorf("%d of %d entries were saved", saved, n)
	}
	same(t, got, slices.Concat(ordinaries(0, saved, 9), ordinaries(saved, 3000, 7)))
}
