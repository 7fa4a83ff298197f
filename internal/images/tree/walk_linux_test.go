package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// seen is what a walk told, with '/' behind each folder: "a/" is the folder, "a/x" a file.
type seen struct {
	paths  []string
	errs   map[string]error
	metas  map[string]Meta
	names  map[string]int
	ignore int
}

func walkAll(t testing.TB, r *Root, o Options) seen {
	t.Helper()
	s, err := tryWalk(context.Background(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryWalk(ctx context.Context, r *Root, o Options) (seen, error) {
	s := seen{errs: map[string]error{}, metas: map[string]Meta{}, names: map[string]int{}}
	var last []byte
	started, open := false, false
	err := r.Walk(ctx, o, func(c *Chunk) error {
		defer c.Release()
		switch {
		case c.First == open:
			return fmt.Errorf("%q begins in the middle", c.Path)
		case c.First && started && Compare(last, c.Path) >= 0:
			return fmt.Errorf("%q after %q", c.Path, last)
		case !c.First && !bytes.Equal(last, c.Path):
			return fmt.Errorf("%q within %q", c.Path, last)
		case len(c.Entries) > ChunkSize:
			return fmt.Errorf("%d entries", len(c.Entries))
		case c.Err != nil && !c.Last:
			return fmt.Errorf("an error before the last chunk")
		}
		started, open, last = true, !c.Last, bytes.Clone(c.Path)
		folder := string(c.Path) + "/"
		if c.First {
			s.paths = append(s.paths, folder)
			s.ignore += c.Ignored
		}
		s.names[folder] = c.Names
		if c.Err != nil {
			s.errs[folder] = c.Err
		}
		for _, e := range c.Entries {
			p := folder + string(e.Name)
			s.paths = append(s.paths, p)
			s.metas[p] = e.Meta
			if e.Err != nil {
				s.errs[p] = e.Err
			}
		}
		return nil
	})
	return s, err
}

func write(t testing.TB, dir string, paths ...string) {
	t.Helper()
	for _, p := range paths {
		p = dir + "/" + p
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(p, "/") {
			continue
		}
		if err := os.WriteFile(p, []byte(p), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func fds(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestFoldersComeInPreorderAndTheirOwnFilesFirst(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "z", "a/z", "a/b/c/1", "a/b/x", "a b/1", "a-/1", "ab/1", "B/1", "empty/", "a.jpg")
	for _, workers := range []int{0, 1, 2, 8} {
		got := walkAll(t, open(t, dir), Options{Workers: workers})
		same(t, got.paths, []string{"/", "/a.jpg", "/z", "B/", "B/1", "a/", "a/z", "a/b/", "a/b/x", "a/b/c/", "a/b/c/1", "a b/", "a b/1", "a-/", "a-/1", "ab/", "ab/1", "empty/"})
	}
}

func TestMetaIsWhatLstatSays(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", "folder/x")
	if err := errors.Join(os.Symlink("folder", dir+"/link"), os.Symlink("nowhere", dir+"/broken"), unix.Mkfifo(dir+"/pipe", 0o600),
		os.Chtimes(dir+"/file", time.Time{}, time.Unix(-5, 7))); err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	t.Chdir(dir) // a socket's path has 108 bytes at most
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: "socket"}); err != nil {
		t.Fatal(err)
	}
	got := walkAll(t, open(t, dir), Options{})
	same(t, got.paths, []string{"/", "/broken", "/file", "/link", "/pipe", "/socket", "folder/", "folder/x"})
	for name, kind := range map[string]Kind{"broken": Link, "file": File, "link": Link, "pipe": Pipe, "socket": Socket} {
		info, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		want := Meta{Kind: kind, Size: st.Size, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(), Inode: st.Ino}
		if got.metas["/"+name] != want {
			t.Errorf("%s: %+v, not %+v", name, got.metas["/"+name], want)
		}
	}
	if got := walkAll(t, open(t, "/dev"), Options{Ignore: []string{"*[^l]", "?", "?????*"}}).metas["/null"].Kind; got != Device {
		t.Errorf("/dev/null is %q", got)
	}
}

func TestNamesAreRawBytes(t *testing.T) {
	dir := t.TempDir()
	odd := []string{"\x01", "\n", " ", " leading", "*", "-rf", "\\", "\xff\xfe.jpg", "a\nb.jpg", "é", "e\u0301", "..."}
	odd = append(odd, strings.Repeat("x", 255), strings.Repeat("\xff", 255))
	slices.Sort(odd)
	want := []string{"/"}
	for _, name := range odd {
		write(t, dir, name+"/f", "files/"+name)
	}
	folders := append(slices.Clone(odd), "files")
	slices.Sort(folders)
	for _, name := range folders {
		want = append(want, name+"/")
		if name != "files" {
			want = append(want, name+"/f")
			continue
		}
		for _, f := range odd {
			want = append(want, "files/"+f)
		}
	}
	r := open(t, dir)
	same(t, walkAll(t, r, Options{}).paths, want)
	f, err := r.Folder([]byte("files"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range odd {
		file, err := f.Open([]byte(name))
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
}

// deep makes folders with names of size bytes in each other without ever using a path longer than one of them.
func deep(t *testing.T, dir string, depth, size int) (rel string) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range depth {
		name := fmt.Sprintf("%0*d", size, i)
		if err := unix.Mkdirat(at, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(at)
		at, names = next, append(names, name)
	}
	defer unix.Close(at)
	fd, err := unix.Openat(at, "file", unix.O_CREAT|unix.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	return strings.Join(names, "/")
}

func TestDepthAndLengthOfAPathHaveNoLimit(t *testing.T) {
	for _, stepwise := range []bool{false, true} {
		for _, size := range []int{3, 200, 255} {
			dir := t.TempDir()
			rel := deep(t, dir, 200, size)
			r := open(t, dir)
			r.stepwise = stepwise
			before := fds(t)
			got := walkAll(t, r, Options{})
			if len(got.paths) != 202 || got.paths[201] != rel+"/file" || len(got.errs) > 0 {
				t.Errorf("names of %d: %d paths, %v", size, len(got.paths), got.errs)
			}
			f, err := r.Folder([]byte(rel))
			if err != nil {
				t.Fatal(err)
			}
			if m, err := f.Stat([]byte("file")); err != nil || m != got.metas[rel+"/file"] {
				t.Errorf("%+v, %v", m, err)
			}
			f.Close()
			if now := fds(t); now != before {
				t.Errorf("%d open files, before %d", now, before)
			}
		}
	}
}

func TestALargeFolderComesInChunksInOrder(t *testing.T) {
	dir := fast(t)
	const files = 100000
	var want []string
	for i := range files {
		name := fmt.Sprintf("%x-%d", i*7919%files, i)
		if err := os.Link(link(t, dir, i), dir+"/large/"+name); err != nil {
			t.Fatal(err)
		}
		want = append(want, "large/"+name)
	}
	slices.Sort(want)
	write(t, dir, "large/sub/x", "small/x")
	for _, workers := range []int{1, 2, 8} {
		got := walkAll(t, open(t, dir), Options{Workers: workers, Ignore: []string{"inode-*"}})
		same(t, got.paths[2:len(got.paths)-4], want)
		same(t, got.paths[len(got.paths)-4:], []string{"large/sub/", "large/sub/x", "small/", "small/x"})
		if got.names["large/"] != files {
			t.Errorf("%d names", got.names["large/"])
		}
	}
}

// fast is a folder for more names than a disk likes to make in a test.
func fast(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "tree")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// link is a file with room for more names: making names is faster than making files, and one file has 65 000 at most.
func link(t *testing.T, dir string, i int) string {
	t.Helper()
	name := fmt.Sprintf("%s/inode-%d", dir, i/30000)
	if i%30000 == 0 {
		write(t, dir, filepath.Base(name), "large/")
	}
	return name
}

func TestFiftyThousandSubfoldersAndFewOpenFilesAtATime(t *testing.T) {
	dir := fast(t)
	const folders = 50000
	for i := range folders {
		if err := os.Mkdir(fmt.Sprintf("%s/%d", dir, i), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, dir)
	most, before, n := 0, fds(t), 0
	err := r.Walk(context.Background(), Options{Workers: 16}, func(c *Chunk) error {
		if n++; n%1000 == 0 {
			time.Sleep(time.Millisecond) // let the workers run ahead
			most = max(most, fds(t)-before)
		}
		c.Release()
		return nil
	})
	if err != nil || n != folders+1 {
		t.Errorf("%d folders, %v", n, err)
	}
	if most > chunksInUse+2*16 {
		t.Errorf("%d folders open", most)
	}
	if now := fds(t); now != before {
		t.Errorf("%d open files, before %d", now, before)
	}
}

func TestALargeFolderWaitsForItsTurn(t *testing.T) {
	dir := fast(t)
	const each = largeFolder + 3000
	var names []string
	for i := range 3 * each {
		folder := fmt.Sprintf("large/%d/", i/each)
		if i%each == 0 {
			write(t, dir, folder, folder+"inside/x")
		}
		if err := os.Link(link(t, dir, i), fmt.Sprintf("%s/%s%d", dir, folder, i)); err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%s%d", folder, i))
	}
	slices.Sort(names)
	r := open(t, dir+"/large")
	before := fds(t)
	got := walkAll(t, r, Options{Workers: 8})
	files := slices.DeleteFunc(got.paths, func(p string) bool { return strings.HasSuffix(p, "/") || strings.Contains(p, "inside") })
	if len(files) != len(names) || len(got.errs) > 0 {
		t.Fatalf("%d files, not %d, %v", len(files), len(names), got.errs)
	}
	for i := range files {
		if "large/"+files[i] != names[i] {
			t.Fatalf("%s, not %s", files[i], names[i])
		}
	}
	if now := fds(t); now != before {
		t.Errorf("%d open files, before %d", now, before)
	}
	var count atomic.Int64
	if err := r.Count(context.Background(), Options{}, &count); err != nil || count.Load() < 3*each {
		t.Errorf("counted %d, %v", count.Load(), err)
	}
}

func TestAFolderThatWasPutOffIsTakenOnceItIsNext(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/", "b/", "c/")
	w, _ := newWalk(open(t, dir), Options{})
	w.list(w.take(), newLister(&w.ignore, nil))
	a, b := w.take(), w.take()
	w.next() // the root
	if err := w.mayGoOn(b, largeFolder-1); err != nil {
		t.Errorf("not large: %v", err)
	}
	if err := w.mayGoOn(a, largeFolder); err != nil {
		t.Errorf("the next: %v", err)
	}
	if err := w.mayGoOn(b, largeFolder); err != errLater {
		t.Errorf("large, and not the next: %v", err)
	}
	w.putOff(b)
	taken := make(chan *node)
	go func() { taken <- w.take() }()
	select {
	case slot := <-taken:
		t.Fatalf("%s was taken", slot.unit.path)
	case <-time.After(50 * time.Millisecond):
	}
	w.finish(a, nil, nil)
	w.next()
	if slot := <-taken; string(slot.unit.path) != "b" || slot != w.first {
		t.Errorf("%s was taken", slot.unit.path)
	}
}

func TestMemoryIsBoundedInAFlatFolder(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 300 000 names")
	}
	dir := fast(t)
	const files = 300000
	for i := range files {
		if err := os.Link(link(t, dir, i), fmt.Sprintf("%s/large/product-%07d-large.jpg", dir, i)); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, dir+"/large")
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	var before, m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var most uint64
	chunks := 0
	err := r.Walk(context.Background(), Options{}, func(c *Chunk) error {
		if chunks++; chunks%50 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc-before.HeapAlloc)
		}
		c.Release()
		return nil
	})
	if limit := uint64(files*40 + 20<<20); err != nil || most > limit {
		t.Errorf("%d bytes in use, more than %d; %v", most, limit, err)
	}
}

func TestLinksAreNeverFollowed(t *testing.T) {
	outside := t.TempDir()
	write(t, outside, "secret")
	for _, stepwise := range []bool{false, true} {
		dir := t.TempDir()
		write(t, dir, "a/b/x", "file")
		os.Symlink(outside, dir+"/a/out")
		os.Symlink("secret", outside+"/link")
		r := open(t, dir)
		r.stepwise = stepwise
		same(t, walkAll(t, r, Options{}).paths, []string{"/", "/file", "a/", "a/out", "a/b/", "a/b/x"})
		for _, bad := range []string{"a/out", "a/out/x", "..", "a/../..", "/", "/etc", "file", "nothing", "a/\x00"} {
			if f, err := r.Folder([]byte(bad)); err == nil {
				t.Errorf("%q was opened", bad)
				f.Close()
			}
		}
		f, err := r.Folder([]byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, bad := range []string{"out", "b/x", "..", ".", "", "x\x00"} {
			if file, err := f.Open([]byte(bad)); err == nil && bad != "b" {
				t.Errorf("%q was opened", bad)
				file.Close()
			}
		}
		if target, err := f.Readlink([]byte("out")); err != nil || string(target) != outside {
			t.Errorf("%q, %v", target, err)
		}
	}
	link := t.TempDir() + "/root"
	os.Symlink(outside, link)
	same(t, walkAll(t, open(t, link), Options{}).paths, []string{"/", "/link", "/secret"})
}

func TestAFolderThatBecomesALinkIsAnErrorAndNotFollowed(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write(t, outside, "secret")
	write(t, dir, "a/x", "b/x", "c/x", "d/x")
	got := walkAnd(t, dir, func() {
		os.RemoveAll(dir + "/b")
		os.Symlink(outside, dir+"/b")
		os.RemoveAll(dir + "/c")
		write(t, dir, "c")
	})
	same(t, got.paths, []string{"/", "a/", "a/x", "b/", "c/", "d/", "d/x"})
	if err := got.errs["b/"]; !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("b: %v", err)
	}
	if err := got.errs["c/"]; !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("c: %v", err)
	}
}

// walkAnd walks dir, and does something after the root was listed and before any of its subfolders is opened.
func walkAnd(t *testing.T, dir string, do func()) seen {
	t.Helper()
	r := open(t, dir)
	w, err := newWalk(r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.list(w.take(), newLister(&w.ignore, nil))
	do()
	return collect(t, w)
}

func collect(t *testing.T, w *walk) (s seen) {
	t.Helper()
	s = seen{errs: map[string]error{}, names: map[string]int{}}
	err := w.run(context.Background(), 2, func(c *Chunk) error {
		defer c.Release()
		folder := string(c.Path) + "/"
		s.paths, s.names[folder] = append(s.paths, folder), c.Names
		if c.Err != nil {
			s.errs[folder] = c.Err
		}
		for _, e := range c.Entries {
			s.paths = append(s.paths, folder+string(e.Name))
			if e.Err != nil {
				s.errs[folder+string(e.Name)] = e.Err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAFolderThatVanishesIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/x", "b/x", "c/x", "d/x")
	before := fds(t)
	got := walkAnd(t, dir, func() {
		os.RemoveAll(dir + "/a")
		os.Rename(dir+"/c", dir+"/later")
		os.RemoveAll(dir + "/d")
		write(t, dir, "d/y")
	})
	same(t, got.paths, []string{"/", "b/", "b/x", "d/", "d/y"})
	if len(got.errs) > 0 || fds(t) != before+1 {
		t.Errorf("%v; %d open files, before %d", got.errs, fds(t), before)
	}
}

func TestWhatVanishesBetweenListingAndLookingIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "b", "c", "d", "e/x")
	r := open(t, dir)
	w, _ := newWalk(r, Options{})
	slot, l := w.take(), newLister(&w.ignore, nil)
	l.more = func() error { return nil }
	f, err := w.open(nil, l)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(dir + "/b")
	os.Remove(dir + "/c")
	os.Mkdir(dir+"/c", 0o755)
	os.Remove(dir + "/d")
	os.Symlink("a", dir+"/d")
	l.files.sort()
	c := w.chunk(nil)
	c.Folder, c.First, c.Last, c.Names = f, true, true, l.files.len()
	c.fill(&l.files, 0, l.files.len())
	w.finish(slot, c, nil)
	got := collect(t, w)
	same(t, got.paths, []string{"/", "/a", "/c", "/d"})
	if !errors.Is(got.errs["/c"], unix.EISDIR) || got.names["/"] != 4 {
		t.Errorf("%v, %d names", got.errs, got.names["/"])
	}
}

func TestAFolderThatIsMadeAnewWhileItIsListedIsListedAnew(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/old")
	w, _ := newWalk(open(t, dir), Options{})
	l := newLister(&w.ignore, nil)
	l.more = func() error { // after the first names, before the kernel is asked for the next
		if os.Remove(dir+"/a/old") == nil {
			os.Remove(dir + "/a")
			write(t, dir, "a/new")
		}
		return nil
	}
	f, err := w.open([]byte("a"), l)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if l.files.len() != 1 || string(l.files.at(0)) != "new" {
		t.Errorf("%d files", l.files.len())
	}
}

func TestATreeThatIsTornDownMeanwhileDoesNoHarm(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write(t, outside, "secret")
	var folders []string
	for i := range 300 {
		folders = append(folders, fmt.Sprintf("%s/%d/%d", dir, i%10, i))
	}
	build := func(p string) {
		os.RemoveAll(p)
		os.MkdirAll(p, 0o755)
		for i := range 5 {
			os.WriteFile(fmt.Sprintf("%s/%d", p, i), nil, 0o644)
		}
	}
	for _, p := range folders {
		build(p)
	}
	r := open(t, dir)
	before := fds(t)
	var stop atomic.Bool
	var hooligans sync.WaitGroup
	for range 2 {
		hooligans.Go(func() {
			for !stop.Load() {
				p := folders[rand.IntN(len(folders))]
				os.RemoveAll(p)
				if rand.IntN(3) == 0 {
					os.Symlink(outside, p)
					continue
				}
				os.Remove(p)
				build(p)
			}
		})
	}
	for range 30 {
		got, err := tryWalk(context.Background(), r, Options{Workers: 4})
		if err != nil {
			t.Fatal(err)
		}
		for p, err := range got.errs {
			if !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EISDIR) {
				t.Errorf("%s: %v", p, err)
			}
		}
		if i := slices.IndexFunc(got.paths, func(p string) bool { return strings.HasSuffix(p, "secret") }); i >= 0 {
			t.Fatalf("followed %s", got.paths[i])
		}
	}
	stop.Store(true)
	hooligans.Wait()
	if now := fds(t); now != before {
		t.Errorf("%d open files, before %d", now, before)
	}
}

func TestPatternsIgnoreNamesAndWholePaths(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.tmp", "a.jpg", ".cache/x", "b/.cache/y", "b/c/keep", "b/d/drop", "b/d.jpg", "c/d/keep")
	got := walkAll(t, open(t, dir), Options{Ignore: []string{"*.tmp", ".cache", "b/d", "*/*.jpg"}})
	same(t, got.paths, []string{"/", "/a.jpg", "b/", "b/c/", "b/c/keep", "c/", "c/d/", "c/d/keep"})
	if got.ignore != 5 || got.names["/"] != 1 || got.names["b/"] != 0 {
		t.Errorf("%d ignored, %v", got.ignore, got.names)
	}
	if _, err := tryWalk(context.Background(), open(t, dir), Options{Ignore: []string{"[a"}}); !errors.Is(err, path.ErrBadPattern) {
		t.Errorf("%v", err)
	}
}

func TestCountFindsWhatWalkFinds(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "1", "a/1", "a/2", "a/b/c/3", "x.tmp", "skip/4")
	os.Symlink("a", dir+"/link")
	var n atomic.Int64
	if err := open(t, dir).Count(context.Background(), Options{Ignore: []string{"*.tmp", "skip"}}, &n); err != nil || n.Load() != 5 {
		t.Errorf("%d, %v", n.Load(), err)
	}
}

// wide is a tree with more chunks than may be in use.
func wide(t *testing.T) *Root {
	dir := t.TempDir()
	for i := range 4 * chunksInUse {
		write(t, dir, fmt.Sprintf("%d/x", i))
	}
	return open(t, dir)
}

func TestAnErrorOfVisitEndsTheWalk(t *testing.T) {
	r := wide(t)
	before := fds(t)
	enough := errors.New("enough")
	visits := 0
	err := r.Walk(context.Background(), Options{}, func(c *Chunk) error {
		defer c.Release()
		if visits++; visits == 10 {
			return enough
		}
		return nil
	})
	if err != enough || visits != 10 {
		t.Errorf("%v after %d visits", err, visits)
	}
	if now := fds(t); now != before {
		t.Errorf("%d open files, before %d", now, before)
	}
}

func TestAWalkThatEndsWithinALargeFolderClosesIt(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 * ChunkSize {
		write(t, dir, fmt.Sprint(i))
	}
	r := open(t, dir)
	before := fds(t)
	w, _ := newWalk(r, Options{})
	w.list(w.take(), newLister(&w.ignore, nil))
	w.stop()
	if err := w.run(context.Background(), 2, nil); err != nil {
		t.Error(err)
	}
	if now := fds(t); now != before {
		t.Errorf("%d open files, before %d", now, before)
	}
}

func TestCancelEndsTheWalk(t *testing.T) {
	r := wide(t)
	before := fds(t)
	ctx, cancel := context.WithCancel(context.Background())
	var held []*Chunk // nothing is ever released: Walk waits, until it is cancelled
	err := r.Walk(ctx, Options{}, func(c *Chunk) error {
		if held = append(held, c); len(held) == chunksInUse {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || len(held) != chunksInUse {
		t.Errorf("%v with %d chunks", err, len(held))
	}
	for _, c := range held {
		if _, err := c.Folder.Stat([]byte("x")); len(c.Path) > 0 && err != nil {
			t.Errorf("a chunk in use is of no use: %v", err)
		}
		c.Release()
	}
	if now := fds(t); now != before {
		t.Errorf("%d open files, before %d", now, before)
	}
	var n atomic.Int64
	if err := r.Count(ctx, Options{}, &n); !errors.Is(err, context.Canceled) {
		t.Errorf("count: %v", err)
	}
}

func TestChunksMayBeReleasedElsewhereAndLate(t *testing.T) {
	dir := t.TempDir()
	for i := range 600 {
		write(t, dir, fmt.Sprintf("%d/x", i))
	}
	for i := range 5000 {
		write(t, dir, fmt.Sprintf("flat/%d", i))
	}
	r := open(t, dir)
	before := fds(t)
	var releasers sync.WaitGroup
	var files atomic.Int64
	err := r.Walk(context.Background(), Options{}, func(c *Chunk) error {
		releasers.Go(func() {
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
			for _, e := range c.Entries {
				if m, err := c.Folder.Stat(e.Name); err != nil || m != e.Meta {
					t.Errorf("%s/%s: %+v, %v", c.Path, e.Name, m, err)
				}
				files.Add(1)
			}
			c.Release()
		})
		return nil
	})
	releasers.Wait()
	if err != nil || files.Load() != 5600 {
		t.Errorf("%d files, %v", files.Load(), err)
	}
	if now := fds(t); now != before {
		t.Errorf("%d open files, before %d", now, before)
	}
}

func TestAChunkThatIsReleasedTwicePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	open(t, t.TempDir()).Walk(context.Background(), Options{}, func(c *Chunk) error {
		c.Release()
		c.Release()
		return nil
	})
}

func TestTheListingOfAFileSystemThatKnowsNoTypesIsAskedFor(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", "folder/x")
	os.Symlink("folder", dir+"/link")
	f, err := open(t, dir).Folder(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, want := range map[string]bool{"file": false, "folder": true, "link": false, "gone": false} {
		if got := isFolder(f.fd, append([]byte(name), 0)[:len(name)], unix.DT_UNKNOWN); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTheOrderOfFoldersIsThatOfTheirComponents(t *testing.T) {
	byComponents := func(a, b string) int {
		return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
	}
	random := rand.New(rand.NewPCG(1, 2))
	letters := []byte("ab/ \x01\xff-")
	for range 100000 {
		a, b := randomPath(random, letters), randomPath(random, letters)
		if got, want := Compare([]byte(a), []byte(b)), byComponents(a, b); min(1, max(-1, got)) != want {
			t.Fatalf("%q %q: %d, not %d", a, b, got, want)
		}
	}
	if Compare(nil, []byte("a")) >= 0 || Compare(nil, nil) != 0 {
		t.Error("the root is not the first")
	}
}

func randomPath(random *rand.Rand, letters []byte) string {
	p := make([]byte, 1+random.IntN(6))
	for i := range p {
		p[i] = letters[random.IntN(len(letters))]
	}
	return path.Clean(strings.Trim("a"+strings.ReplaceAll(string(p), "//", "/"), "/"))
}
