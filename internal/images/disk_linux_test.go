package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// mounted mounts a file system for the time of the test, where that is possible.
func mounted(t *testing.T, source, on, kind string, flags uintptr, data string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	if err := unix.Mount(source, on, kind, flags, data); err != nil {
		t.Skipf("mounting %s: %v", on, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(on, 0); err != nil {
			t.Errorf("unmounting %s: %v", on, err)
		}
	})
}

// inMemory makes an empty folder one that is quick to fill, where that is possible.
func inMemory(t *testing.T, dir string) {
	t.Helper()
	if unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size=500m") != nil {
		return
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
}

// unreadable is a file of some size that even root cannot read: the speed of a network interface that has none.
func unreadable(t *testing.T) string {
	t.Helper()
	const file = "/sys/class/net/lo/speed"
	st, err := os.Stat(file)
	if err != nil || st.Size() == 0 {
		t.Skipf("%s is no file of some size: %v", file, err)
	}
	if _, err := os.ReadFile(file); err == nil {
		t.Skipf("%s can be read", file)
	}
	return file
}

// disk makes a file system in a file, with a file in it, and then takes half of it away: what is there no more is
// EIO.
func disk(t *testing.T, on string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 8<<20); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, on}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%s: %v: %s", command[0], err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(on, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(on, "bad.dat"), make([]byte, 5<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	syscall.Sync()
	if err := os.Truncate(image, 3<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		t.Skip(err)
	}
	if err := os.RemoveAll(filepath.Join(on, "lost+found")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(on, "bad.dat")); !errors.Is(err, unix.EIO) {
		t.Skipf("reading what is gone: %v", err)
	}
}

func TestWhatTheDiskCannotReadIsNeverEqual(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	t.Run("a file whose disk has gone", func(t *testing.T) {
		at := filepath.Join(s.backup, "disk")
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		disk(t, at)
		s.write(t, s.production, "disk/bad.dat", make([]byte, 5<<20))
		found, fields, code := s.verify(t, Options{})
		wantFound(t, found, `unreadable backup "disk/bad.dat"`)
		wantCode(t, code, run.Incomplete)
		if why := fmt.Sprint(fields["unchecked_paths"]); !strings.Contains(why, unix.EIO.Error()) {
			t.Errorf("the reason is %s", why)
		}
	})
	if err := os.RemoveAll(filepath.Join(s.production, "disk")); err != nil {
		t.Fatal(err)
	}
	t.Run("a file that fails on every reading", func(t *testing.T) {
		bad := unreadable(t)
		mounted(t, bad, filepath.Join(s.backup, "a.jpg"), "", unix.MS_BIND, "")
		mounted(t, bad, filepath.Join(s.production, "a.jpg"), "", unix.MS_BIND, "")
		found, fields, code := s.verify(t, Options{})
		wantFound(t, found, `unreadable both "a.jpg"`) // though nothing else in that folder differs
		wantCode(t, code, run.Incomplete)
		wantField(t, fields, "unchecked", 1)
		mounted(t, bad, filepath.Join(s.production, "b.jpg"), "", unix.MS_BIND, "")
		for range 2 { // nothing is believed of it the next time, either
			found, fields, code = s.verify(t, Options{})
			wantFound(t, found, `unreadable both "a.jpg"`, `unreadable production "b.jpg"`)
			wantCode(t, code, run.Incomplete)
			wantField(t, fields, "unchecked", 2)
			wantField(t, fields, "identical", 11)
		}
	})
}

// full fills the file system of dir but for so many bytes, until release is called.
func full(t *testing.T, dir string, but int64) (release func()) {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ballast, make([]byte, int64(st.Bavail)*st.Bsize-but), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFullDiskUnderTheIndexEndsTheRunAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	state := s.Backup[0].Host.State
	mounted(t, "tmpfs", state, "tmpfs", 0, "mode=700,size=32m")
	s.small(t, 1500) // two blocks of an index
	s.Reread = 0
	if _, _, code := s.verify(t, Options{}); code != run.Done {
		t.Fatal("the trees are not identical at first")
	}
	size := fileSize(t, indexOf(t, s.Backup[0].Host))
	for i, c := range []struct {
		where string
		free  int64
	}{{"as it begins", 0}, {"on the way", 8 << 10}, {"as it is sealed", size &^ (page - 1)}} {
		t.Run(c.where, func(t *testing.T) {
			name := fmt.Sprintf("small/%d/%04d.dat", i, 500*i)
			s.alter(t, s.backup, name)
			release := full(t, state, c.free)
			err := s.running(t.Context(), t)
			wantCode(t, run.CodeOf(err), run.Unreachable)
			if hint := run.HintOf(err); !strings.Contains(hint, "make room on backup") || !strings.Contains(hint, state) {
				t.Errorf("%v\nnext: %s", err, hint)
			}
			release()
			found, fields, code := s.verify(t, Options{})
			wantFound(t, found, fmt.Sprintf("different backup %q", name)) // which the index of the first run tells
			wantCode(t, code, run.Differ)
			if read := number(t, fields, "read_bytes"); read > 1000 {
				t.Errorf("%d bytes were read again", read)
			}
			if err := os.Remove(filepath.Join(s.backup, name)); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(s.production, name)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

const page = 4096

func fileSize(t *testing.T, file string) int64 {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// small writes n files of 100 bytes into both trees, old enough to be believed from the first reading on.
func (s *stores) small(t *testing.T, n int) {
	t.Helper()
	for _, root := range []string{s.production, s.backup} {
		dir := filepath.Join(root, "small")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		inMemory(t, dir)
	}
	for i := range n {
		name, data := fmt.Sprintf("small/%d/%04d.dat", i/500, i), bytes.Repeat([]byte{byte(i)}, 100)
		s.write(t, s.production, name, data)
		s.write(t, s.backup, name, data)
	}
	time.Sleep(1100 * time.Millisecond)
}

// running is verify for its error.
func (s *stores) running(ctx context.Context, t *testing.T) (err error) {
	t.Helper()
	_ = run.Main(ctx, "images:verify", func(ctx context.Context, target *run.Target) error {
		err = Verify(ctx, target, []*inventory.ImageStore{s.ImageStore}, Options{})
		return nil
	})
	return err
}

func TestAFullBackupKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	dir := t.TempDir()
	mounted(t, "tmpfs", dir, "tmpfs", 0, "mode=755,size=4m")
	if out, err := exec.Command("cp", "-a", s.backup+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	s.backup, s.Backup[0].Path = dir, dir
	bad := []byte("it was cut short")
	s.write(t, s.production, "large.jpg", append(drawn(t, 40), make([]byte, 8e6)...))
	s.write(t, s.backup, "large.jpg", bad)
	got := <-s.repairing(t.Context(), t)
	err := got.err
	wantCode(t, got.code, run.Unreachable)
	if !strings.Contains(fmt.Sprint(err), "no space left on device") || !strings.Contains(run.HintOf(err), "make room on backup for "+dir) {
		t.Errorf("%v\nnext: %s", err, run.HintOf(err))
	}
	if got := s.read(t, s.backup, "large.jpg"); !bytes.Equal(got, bad) {
		t.Error("what was to be replaced is another")
	}
	wantNoDrafts(t, s)
}
