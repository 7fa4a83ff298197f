package images

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// special are files that hold no bytes.
var special = []struct {
	name string
	make func(path string) error
}{
	{"pipe", func(path string) error { return unix.Mkfifo(path, 0o644) }},
	{"socket", func(path string) error {
		dir, err := os.Open(filepath.Dir(path)) // a socket's own path is short
		if err != nil {
			return err
		}
		defer dir.Close()
		l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return l.Close()
	}},
	{"device", func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o644, 1<<8|3) }}, // for root alone
}

func TestOddFilesAreCompared(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	kinds := special
	if os.Geteuid() != 0 {
		kinds = kinds[:2]
	}
	const size = 256 << 20
	for _, root := range []string{s.production, s.backup} {
		sparse := filepath.Join(root, "sparse.dat")
		s.write(t, root, "sparse.dat", nil)
		if err := errors.Join(os.Truncate(sparse, size), os.Chtimes(sparse, old, old)); err != nil {
			t.Fatal(err)
		}
		s.write(t, root, "linked.dat", []byte("one file under two names"))
		if err := os.Link(filepath.Join(root, "linked.dat"), filepath.Join(root, "folder", "too.dat")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(root, "special"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, one := range kinds {
			if err := one.make(filepath.Join(root, "special", one.name)); err != nil {
				t.Fatal(err)
			}
		}
		deep(t, root, 30, ".dat")
	}
	time.Sleep(1100 * time.Millisecond)
	found, fields, code := s.verify(t, Options{})
	wantFound(t, found)
	wantCode(t, code, run.Done)
	wantField(t, fields, "identical", 13+3+30+len(kinds))

	var want []string
	for i, one := range kinds { // each is another kind on the backup, now
		at := filepath.Join(s.backup, "special", one.name)
		if err := os.Remove(at); err != nil {
			t.Fatal(err)
		}
		if err := kinds[(i+1)%len(kinds)].make(at); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("different unknown %q", "special/"+one.name))
	}
	f, err := os.OpenFile(filepath.Join(s.backup, "sparse.dat"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{1}, size*2/3)
	if err := errors.Join(err, f.Close(), os.Chtimes(f.Name(), old, old)); err != nil {
		t.Fatal(err)
	}
	s.alter(t, s.backup, "linked.dat") // under both names
	want = append(want, `different backup "sparse.dat"`, `different backup "linked.dat"`, `different backup "folder/too.dat"`)
	at := deep(t, filepath.Join(s.production, "folder two"), 30, ".dat") // each path is 40 kB long
	for i := range 30 {
		want = append(want, fmt.Sprintf("missing backup %q", fmt.Sprintf("folder two/%s/%03d.dat", at, i)))
	}
	found, _, code = s.verify(t, Options{})
	wantFound(t, found, want...)
	wantCode(t, code, run.Differ)
}

// deep makes folders in one another, so that the path of the last one is longer than PATH_MAX, and writes
// files there.
func deep(t *testing.T, at string, files int, extension string) (path string) {
	t.Helper()
	root, err := os.OpenRoot(at)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range 200 {
		name := fmt.Sprintf("%03d%s", i, strings.Repeat("d", 197))
		names = append(names, name)
		if err := root.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := root.OpenRoot(name)
		root.Close()
		if err != nil {
			t.Fatal(err)
		}
		root = next
	}
	defer root.Close()
	for i := range files {
		name := fmt.Sprintf("%03d%s", i, extension)
		if err := root.WriteFile(name, []byte("deep down"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := root.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(names, "/")
}

func TestAFolderOfAHundredThousandFilesIsCompared(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	for _, root := range []string{s.production, s.backup} {
		dir := filepath.Join(root, "large")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		inMemory(t, dir)
		for i := range 100_000 {
			fd, err := unix.Open(fmt.Sprintf("%s/%06d", dir, i), unix.O_WRONLY|unix.O_CREAT, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
		}
	}
	s.write(t, s.production, "large/054321", []byte("here it is not empty"))
	s.write(t, s.backup, "large/1.jpg", drawn(t, 1))
	found, fields, code := s.verify(t, Options{})
	wantFound(t, found, `different unknown "large/054321"`, `extra backup "large/1.jpg"`)
	wantCode(t, code, run.Differ)
	wantField(t, fields, "identical", 100_012)
	if wan := number(t, fields, "wan_bytes"); wan > 100_000 {
		t.Errorf("%d bytes went over the line", wan)
	}
}

func TestTheFolderItselfMayBeEverything(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	elsewhere := t.TempDir()
	link := filepath.Join(elsewhere, "uploads")
	if err := os.Symlink(s.production, link); err != nil {
		t.Fatal(err)
	}
	trees := func(path string) []inventory.Tree { return []inventory.Tree{{Host: s.Backup[0].Host, Path: path}} }
	s.Production[0].Path = link
	t.Run("a link to a folder is followed", func(t *testing.T) {
		found, fields, code := s.verify(t, Options{})
		wantFound(t, found)
		wantCode(t, code, run.Done)
		wantField(t, fields, "identical", 13)
	})
	t.Run("of an empty backup everything is missing", func(t *testing.T) {
		s.Backup = trees(t.TempDir())
		found, fields, code := s.verify(t, Options{})
		wantCode(t, code, run.Differ)
		wantField(t, fields, "identical", 0)
		if len(found) != 13 {
			t.Errorf("found: %v", found)
		}
		for _, one := range found {
			if !strings.HasPrefix(one, "missing backup ") {
				t.Error(one)
			}
		}
	})
	for what, c := range map[string]struct {
		path string
		code run.Code
	}{
		"a backup that is not there":        {filepath.Join(elsewhere, "nowhere"), run.Unfit},
		"a backup that is a file":           {filepath.Join(s.backup, "a.jpg"), run.Usage},
		"a backup that is a link to a file": {filepath.Join(elsewhere, "file"), run.Usage},
		"a backup that is a dangling link":  {filepath.Join(elsewhere, "dangling"), run.Unfit},
	} {
		t.Run(what, func(t *testing.T) {
			s.Backup = trees(c.path)
			switch filepath.Base(c.path) {
			case "file":
				_ = os.Symlink(filepath.Join(s.production, "a.jpg"), c.path)
			case "dangling":
				_ = os.Symlink("nothing", c.path)
			}
			err := s.running(t.Context(), t)
			wantCode(t, run.CodeOf(err), c.code)
			if run.HintOf(err) == "" || !strings.Contains(err.Error(), c.path) {
				t.Errorf("%v\nnext: %s", err, run.HintOf(err))
			}
		})
	}
}

func TestAFolderWithoutPermissionIsNeverEqual(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may enter everything")
	}
	t.Parallel()
	s := twoHosts(t)
	closed := func(path string) {
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(path, 0o755) })
	}
	closed(filepath.Join(s.production, "folder"))
	found, fields, code := s.verify(t, Options{})
	wantFound(t, found, `unreadable production "folder/"`, `unreadable production "folder/f.jpg"`, `unreadable production "folder/deep/er/g.jpg"`)
	wantCode(t, code, run.Incomplete)
	wantField(t, fields, "identical", 11)

	closed(filepath.Join(s.backup, "folder"))
	closed(filepath.Join(s.backup, "folder two"))
	found, fields, code = s.verify(t, Options{})
	wantFound(t, found, `unreadable production "folder/"`, `unreadable backup "folder/"`, `unreadable backup "folder two/"`, `unreadable backup "folder two/h.jpg"`)
	wantCode(t, code, run.Incomplete)
	wantField(t, fields, "identical", 10)

	closed(s.production)
	err := s.running(t.Context(), t)
	if run.CodeOf(err) == run.Done || run.CodeOf(err) == run.Unfit || run.HintOf(err) == "" || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("%v: exit %d\nnext: %s", err, run.CodeOf(err), run.HintOf(err))
	}
}

func TestAFolderInTheFilesPlaceIsADifference(t *testing.T) {
	s := twoHosts(t)
	for root, name := range map[string]string{s.backup: "a.jpg", s.production: "b.jpg"} {
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	found, _, code := s.verify(t, Options{})
	wantFound(t, found, `missing backup "a.jpg"`, `extra backup "b.jpg"`)
	wantCode(t, code, run.Differ)
}

// Each of 300 paths is 40 kB long.
func TestATreeDeeperThanPathsMayBeLongIsCompared(t *testing.T) {
	s := twoHosts(t)
	at := deep(t, s.production, 300, ".jpg")
	deep(t, s.backup, 300, ".jpg")
	deep(t, filepath.Join(s.production, "folder two"), 300, ".jpg")
	found, fields, code := s.verify(t, Options{})
	slices.Sort(found)
	wantCode(t, code, run.Differ)
	wantField(t, fields, "files", 613)
	if len(found) != 600 || !strings.HasPrefix(found[0], "damaged both \""+at) || !strings.HasPrefix(found[599], `missing backup "folder two/`+at) {
		t.Errorf("%d were found", len(found))
	}
}
