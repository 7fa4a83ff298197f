package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAnOpenFileAndItsNameHaveTheSameMeta(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/file")
	f, err := open(t, dir).Folder([]byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, err := f.Open([]byte("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	m, err := f.Stat([]byte("file"))
	same, err2 := StatFd(int(file.Fd()))
	if err != nil || err2 != nil || m != same || m.Kind != File || m.Size == 0 {
		t.Errorf("%+v, %v; %+v, %v", m, err, same, err2)
	}
	if _, err := StatFd(-1); !errors.Is(err, unix.EBADF) {
		t.Error(err)
	}
}

func TestStatSaysWhatIsGoneAndWhatIsAFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/b/")
	f, err := open(t, dir).Folder([]byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.Stat([]byte("gone"))
	var at *fs.PathError
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &at) || at.Path != "a/gone" {
		t.Error(err)
	}
	if m, err := f.Stat([]byte("b")); !errors.Is(err, unix.EISDIR) || m.Kind != Unknown {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := f.Stat([]byte("../a")); !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
}

func TestOpenNeverWaitsForAPipeAndNeverFollows(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(unix.Mkfifo(dir+"/pipe", 0o600), os.Symlink("/etc/passwd", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	f, err := open(t, dir).Folder(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, err := f.Open([]byte("pipe")) // without O_NONBLOCK this is for ever
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	if _, err := f.Open([]byte("link")); !errors.Is(err, unix.ELOOP) {
		t.Error(err)
	}
	if _, err := f.Open([]byte("gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestReadingLeavesTheAccessTimeAsItIs(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "folder/file")
	old := time.Unix(1000000000, 0) // more than a day ago, so that relatime would touch it
	for _, p := range []string{"/folder/file", "/folder"} {
		if err := os.Chtimes(dir+p, old, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, dir)
	walkAll(t, r, Options{})
	f, err := r.Folder([]byte("folder"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, err := f.Open([]byte("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := io.ReadAll(file); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/folder/file", "/folder"} {
		info, err := os.Stat(dir + p)
		if err != nil {
			t.Fatal(err)
		}
		if atime := info.Sys().(*syscall.Stat_t).Atim.Sec; atime != old.Unix() {
			t.Errorf("%s was touched", p)
		}
	}
}

func TestTheTargetOfALinkIsReadWhole(t *testing.T) {
	dir := t.TempDir()
	f, err := open(t, dir).Folder(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1, 255, 256, 257, 1024, 4095} {
		target := make([]byte, size)
		for i := range target {
			target[i] = byte(1 + i%255)
		}
		os.Remove(dir + "/link")
		if err := os.Symlink(string(target), dir+"/link"); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Readlink([]byte("link")); err != nil || string(got) != string(target) {
			t.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
	}
}

func TestARootThatIsNoFolderIsAnError(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file")
	for path, want := range map[string]error{dir + "/gone": fs.ErrNotExist, dir + "/file": unix.ENOTDIR} {
		_, err := OpenRoot(path)
		var at *fs.PathError
		if !errors.Is(err, want) || !errors.As(err, &at) || at.Path != path {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestARootThatIsDeletedMeanwhileIsAnError(t *testing.T) {
	dir := t.TempDir() + "/root"
	write(t, dir, "")
	r := open(t, dir)
	os.Remove(dir)
	got := walkAll(t, r, Options{})
	if !errors.Is(got.errs["/"], fs.ErrNotExist) {
		t.Errorf("%v", got.errs)
	}
}

// Nothing is forbidden to root, so that root has this done by somebody else, who reaches the folder through an open
// file: the way there may be closed to him.
func TestWhatMayNotBeReadIsAnErrorWithItsName(t *testing.T) {
	dir := os.Getenv("TREE_FORBIDDEN")
	if dir == "" {
		dir = forbidden(t)
	}
	if os.Getuid() == 0 {
		asNobody(t, dir)
		return
	}
	r := open(t, dir)
	got := walkAll(t, r, Options{})
	same(t, got.paths, []string{"/", "/secret", "listed/", "listed/x", "listed/sub/", "locked/", "open/", "open/x"})
	for _, p := range []string{"listed/x", "listed/sub/", "locked/"} {
		if !errors.Is(got.errs[p], fs.ErrPermission) {
			t.Errorf("%s: %v", p, got.errs[p])
		}
	}
	if len(got.errs) != 3 || got.metas["listed/x"].Kind != Unknown || got.names["listed/"] != 1 {
		t.Errorf("%v, %v, %v", got.errs, got.metas, got.names)
	}
	f, err := r.Folder(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Open([]byte("secret")); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
	if _, err := OpenRoot(dir + "/locked"); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
	stranger, err := r.Folder([]byte("open"))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	file, err := stranger.Open([]byte("x")) // O_NOATIME is refused to all but its owner
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
}

func forbidden(t *testing.T) string {
	dir := t.TempDir()
	write(t, dir, "secret", "locked/x", "listed/x", "listed/sub/x", "open/x")
	modes := map[string]os.FileMode{"": 0o755, "/secret": 0, "/locked": 0, "/listed": 0o444}
	for p, mode := range modes {
		if err := os.Chmod(dir+p, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		os.Chmod(dir+"/locked", 0o755)
		os.Chmod(dir+"/listed", 0o755)
	})
	return dir
}

func asNobody(t *testing.T, dir string) {
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Dir, cmd.ExtraFiles = "/", []*os.File{f}
	cmd.Env = []string{"TREE_FORBIDDEN=/proc/self/fd/3"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestTheDraftsOfTheDeadAreSweptAwayAndThoseOfTheLivingAreNot(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".rehearsal-OLD.partial", "kept.partial"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f, err := root.Folder(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	draft, err := f.Draft()
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Discard()
	left := func(age time.Duration) string {
		t.Helper()
		f.sweep(time.Now().Add(age))
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(fmt.Sprint(entries), string(draft.Name), "DRAFT")
	}
	if got := left(0); !strings.Contains(got, "OLD") || !strings.Contains(got, "DRAFT") || !strings.Contains(got, "kept") {
		t.Errorf("at once: %s", got)
	}
	if got := left(2 * time.Minute); strings.Contains(got, "OLD") || !strings.Contains(got, "DRAFT") || !strings.Contains(got, "kept") {
		t.Errorf("later: %s", got)
	}
}
