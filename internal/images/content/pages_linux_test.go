package content

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"rehearsal/internal/images/tree"
)

func TestReleasesOfKernelsAreCompared(t *testing.T) {
	for release, want := range map[string]bool{
		"6.16.0": true, "6.16-rc1": true, "6.18.44-fc-v657": true, "7.0.1": true, "10.1": true,
		"6.15.9": false, "6.14.0-24-generic": false, "6.1.0-37-amd64": false, "5.15.0": false, "": false, "6": false, "x.y": false,
	} {
		if got := atLeast(release, 6, 16); got != want {
			t.Errorf("%q is at least 6.16: %v", release, got)
		}
	}
}

// ways are both ways of sparing the page cache: the kernel's where it has it, and ours.
func ways(t *testing.T, f func(t *testing.T, r *Reader)) {
	for name, dontcache := range map[string]bool{"RWF_DONTCACHE": true, "mincore": false} {
		t.Run(name, func(t *testing.T) {
			r := newReader(t, Options{Algorithm: XXH128})
			if dontcache && !r.pages.dontcache {
				t.Skip("this kernel has no RWF_DONTCACHE to be trusted")
			}
			r.pages.dontcache = dontcache
			f(t, r)
		})
	}
}

func newReader(t testing.TB, o Options) *Reader {
	t.Helper()
	r, err := NewReader(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// folder opens dir as readers get it.
func folder(t testing.TB, dir string) *tree.Folder {
	t.Helper()
	root, err := tree.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := root.Folder(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); root.Close() })
	return f
}

// noise writes a file of bytes that no two files have in common.
func noise(t testing.TB, path string, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	var seed [32]byte
	copy(seed[:], path)
	rand.NewChaCha8(seed).Read(data)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return data
}

// cool takes a file out of memory.
func cool(t testing.TB, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

// cold is a file that is not in memory.
func cold(t testing.TB, size int) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	noise(t, path, size)
	cool(t, path)
	if slices.Contains(resident(t, path), true) {
		t.Skip("the file system of the folder for temporary files keeps them in memory")
	}
	return path
}

// warm reads pages into memory, the given ones only.
func warm(t testing.TB, path string, pages ...int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM) // no reading ahead
	for _, page := range pages {
		if _, err := f.ReadAt(make([]byte, 1), int64(page*os.Getpagesize())); err != nil {
			t.Fatal(err)
		}
	}
}

// resident says which pages of a file are in memory.
func resident(t testing.TB, path string) []bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return nil
	}
	p := newPages()
	p.fd = int(f.Fd())
	core, err := p.mincore(0, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	in := make([]bool, len(core))
	for i, c := range core {
		in[i] = c&1 != 0
	}
	return in
}

func TestThePageCacheIsAsItWas(t *testing.T) {
	page := os.Getpagesize()
	all := func(n int) []int {
		pages := make([]int, (n+page-1)/page)
		for i := range pages {
			pages[i] = i
		}
		return pages
	}
	for name, c := range map[string]struct {
		size int
		hot  []int
	}{
		"a cold small file":           {24_000, nil},
		"a hot small file":            {24_000, all(24_000)},
		"a small file, half hot":      {24_000, []int{0, 2}},
		"a cold large file":           {5_000_000, nil},
		"a hot large file":            {5_000_000, all(5_000_000)},
		"a large file with a hot end": {5_000_000, []int{5_000_000 / page}},
		"a large file, hot in places": {5_000_000, []int{0, 1, 2, 30, 31, 100, 300}},
		"an empty file":               {0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := cold(t, c.size)
			f := folder(t, filepath.Dir(path))
			ways(t, func(t *testing.T, r *Reader) {
				cool(t, path)
				warm(t, path, c.hot...)
				before := resident(t, path)
				if _, err := r.Read(t.Context(), f, []byte("file")); err != nil {
					t.Fatal(err)
				}
				if after := resident(t, path); !slices.Equal(after, before) {
					t.Errorf("pages in memory: %d of %d before, %d after", count(before), len(before), count(after))
				}
			})
		})
	}
}

func count(in []bool) (n int) {
	for _, b := range in {
		if b {
			n++
		}
	}
	return n
}

func TestPlainReadingWouldFillTheCache(t *testing.T) { // so that the test above can fail
	path := cold(t, 5_000_000)
	if _, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if in := resident(t, path); count(in) < len(in) {
		t.Errorf("%d of %d pages in memory", count(in), len(in))
	}
}

func TestAFileThatIsReadInPartLeavesNothing(t *testing.T) {
	path := cold(t, 5_000_000)
	ways(t, func(t *testing.T, r *Reader) {
		cool(t, path)
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		r.pages.open(int(file.Fd()), 5_000_000)
		if _, err := r.pages.pread(make([]byte, 100_000), 0); err != nil {
			t.Fatal(err)
		}
		r.pages.close()
		if in := resident(t, path); !r.pages.asks && count(in) > 0 { // with RWF_DONTCACHE, what was read ahead stays
			t.Errorf("%d of %d pages in memory", count(in), len(in))
		}
	})
}

func TestMoreSpansThanAreRememberedStay(t *testing.T) {
	var p pages
	core := make([]byte, 4*maxSpans)
	for i := range core {
		core[i] = byte(i & 1)
	}
	page := int64(os.Getpagesize())
	if p.add(0, int64(len(core))*page, core) {
		t.Error("there was room for all")
	}
	if len(p.cold) != maxSpans || p.cold[1] != (span{2 * page, 3 * page}) {
		t.Errorf("%d spans, the second is %v", len(p.cold), p.cold[1])
	}
}

func TestAFileSystemThatRefusesIsReadAllTheSame(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "content")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(dir)
	data := noise(t, filepath.Join(dir, "file"), 3_000_000)
	ways(t, func(t *testing.T, r *Reader) {
		res, err := r.Read(t.Context(), folder(t, dir), []byte("file"))
		if err != nil || res.Hash != HashOf(XXH128, data) {
			t.Errorf("%v, %v", res, err)
		}
		if in := resident(t, filepath.Join(dir, "file")); count(in) < len(in) {
			t.Errorf("%d of %d pages in memory", count(in), len(in))
		}
	})
}

func TestUnderAnOverlayHotStaysHotAndColdCold(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		os.Mkdir(filepath.Join(dir, d), 0o755)
	}
	lower, merged := filepath.Join(dir, "lower/file"), filepath.Join(dir, "merged")
	noise(t, lower, 3_000_000)
	o := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	if err := unix.Mount("overlay", merged, "overlay", 0, o); err != nil {
		t.Skipf("mounting an overlay: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
	ways(t, func(t *testing.T, r *Reader) {
		f := folder(t, merged)
		for _, hot := range []bool{true, false} {
			cool(t, lower)
			if hot {
				os.ReadFile(lower)
			}
			before := resident(t, lower)
			if _, err := r.Read(t.Context(), f, []byte("file")); err != nil {
				t.Fatal(err)
			}
			if after := resident(t, lower); !slices.Equal(after, before) {
				t.Errorf("pages in memory: %d before, %d after", count(before), count(after))
			}
		}
	})
}

// asNobody runs f without root's rights, on a thread that is not used again.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		unix.Setfsuid(65534) // which takes the capabilities to override permissions, too: capabilities(7)
		f()
	}()
	<-done
}

func TestWhatWeMayNotKnowStaysInMemory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs a file of somebody else: run as root")
	}
	path := filepath.Join(t.TempDir(), "file")
	noise(t, path, 3_000_000)
	f := folder(t, filepath.Dir(path))
	r := newReader(t, Options{Algorithm: XXH128})
	r.pages.dontcache = false
	asNobody(t, func() {
		if _, err := r.Read(t.Context(), f, []byte("file")); err != nil {
			t.Error(err)
		}
	})
	if in := resident(t, path); count(in) < len(in) {
		t.Errorf("%d of %d pages in memory", count(in), len(in))
	}
}
