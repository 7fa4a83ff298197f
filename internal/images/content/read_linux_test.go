package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehearsal/internal/images/tree"
)

func TestAFileIsHashedWhole(t *testing.T) {
	dir := t.TempDir()
	f := folder(t, dir)
	for _, size := range []int{0, 1, 4095, 24_000, bufferSize - 1, bufferSize, bufferSize + 1, 3*bufferSize + 5} {
		name := fmt.Sprint(size)
		data := noise(t, filepath.Join(dir, name), size)
		ways(t, func(t *testing.T, r *Reader) {
			for _, algorithm := range []string{BLAKE3, XXH128} {
				r.digest, _ = newDigest(algorithm)
				res, err := r.Read(t.Context(), f, []byte(name))
				if err != nil {
					t.Fatal(err)
				}
				meta, err := f.Stat([]byte(name))
				if want := (Result{Meta: meta, Hash: HashOf(algorithm, data)}); err != nil || res != want {
					t.Errorf("%d bytes: %+v, want %+v", size, res, want)
				}
			}
		})
	}
}

func TestHolesAreZeros(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	noise(t, path, 10_000)
	if err := os.Truncate(path, 5_000_000); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ways(t, func(t *testing.T, r *Reader) {
		res, err := r.Read(t.Context(), folder(t, dir), []byte("file"))
		if err != nil || res.Hash != HashOf(XXH128, data) {
			t.Errorf("%v, %v", res, err)
		}
	})
}

// writers change a file in every way that writers do, each time to other bytes.
var writers = map[string]func(path string, i int) error{
	"appending": func(path string, i int) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString("more")
		return err
	},
	"truncating": func(path string, i int) error {
		return os.Truncate(path, int64(3_000_000-1000*i))
	},
	"rewriting with the old mtime": func(path string, i int) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		if _, err := f.WriteAt([]byte{byte(i)}, 1_000_000); err != nil {
			return err
		}
		return os.Chtimes(path, time.Time{}, st.ModTime())
	},
	"replacing": func(path string, i int) error {
		next := path + ".next"
		if err := os.WriteFile(next, bytes.Repeat([]byte{byte(i)}, 4_000_000), 0o644); err != nil {
			return err
		}
		return os.Rename(next, path)
	},
}

func TestAFileThatChangesIsReadAgainAndThenIsChanging(t *testing.T) {
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			noise(t, path, 4_000_000)
			f := folder(t, dir)
			slow := &Limit{rate: 16e6} // a quarter of a second for the file
			r := newReader(t, Options{Algorithm: BLAKE3, Limit: slow})

			failed := make(chan error, 1)
			time.AfterFunc(100*time.Millisecond, func() { failed <- write(path, 1) })
			res, err := r.Read(t.Context(), f, []byte("file"))
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
			data, _ := os.ReadFile(path)
			meta, _ := f.Stat([]byte("file"))
			if want := (Result{Meta: meta, Hash: HashOf(BLAKE3, data)}); err != nil || res != want {
				t.Errorf("changed once: %+v, %v, want %+v", res, err, want)
			}

			stop := make(chan struct{})
			go func() {
				for i := 2; ; i++ {
					select {
					case <-stop:
						failed <- nil
						return
					case <-time.After(30 * time.Millisecond):
						if err := write(path, i); err != nil {
							failed <- err
							return
						}
					}
				}
			}()
			_, err = r.Read(t.Context(), f, []byte("file"))
			close(stop)
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
			if !errors.Is(err, ErrChanging) {
				t.Errorf("changed all the time: %v", err)
			}
		})
	}
}

// A change within the tick of the file's last one does not change its times.
func TestAChangeRightAfterAnotherIsSeen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	r := newReader(t, Options{Algorithm: XXH128})
	f := folder(t, dir)
	for range 10 {
		noise(t, path, 100)
		res, err := r.Read(t.Context(), f, []byte("file"))
		if err != nil {
			t.Fatal(err)
		}
		if age := time.Since(time.Unix(0, res.Ctime)); age < tick {
			t.Fatalf("read %s after it was written", age)
		}
	}
}

func TestWhatTookAFilesNameIsNotRead(t *testing.T) {
	dir := t.TempDir()
	noise(t, filepath.Join(dir, "other"), 100)
	for name, put := range map[string]func(path string) error{
		"link":   func(path string) error { return os.Symlink("other", path) },
		"pipe":   func(path string) error { return unix.Mkfifo(path, 0o600) },
		"folder": func(path string) error { return os.Mkdir(path, 0o755) },
		"socket": func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
	} {
		if err := put(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := newReader(t, Options{Algorithm: XXH128}).Read(t.Context(), folder(t, dir), []byte(name))
		if !errors.Is(err, ErrChanging) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: it took %s to see that it is no file", name, took)
		}
	}
}

func TestAFileThatIsGoneIsGone(t *testing.T) {
	r := newReader(t, Options{Algorithm: XXH128})
	f := folder(t, t.TempDir())
	if _, err := r.Read(t.Context(), f, []byte("file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading: %v", err)
	}
	if _, err := r.Link(f, []byte("file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading a link: %v", err)
	}
}

func TestAFileWithoutReadPermissionIsNotRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	noise(t, path, 100)
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	f := folder(t, dir)
	asNobody(t, func() {
		if _, err := newReader(t, Options{Algorithm: XXH128}).Read(t.Context(), f, []byte("file")); !errors.Is(err, fs.ErrPermission) {
			t.Error(err)
		}
	})
}

// The kernel's own files say a page as their size, whatever is in them, and one of lo fails to be read.
func TestAReadThatFailsOrEndsEarlyIsAnError(t *testing.T) {
	for path, want := range map[string]error{
		"/sys/class/net/lo/speed": unix.EINVAL,
		"/sys/class/net/lo/mtu":   io.ErrUnexpectedEOF,
	} {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			t.Skip(err)
		}
		_, err = newReader(t, Options{Algorithm: XXH128}).Read(t.Context(), folder(t, dir), []byte(filepath.Base(path)))
		if !errors.Is(err, want) || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func TestReadingEndsWithTheContext(t *testing.T) {
	dir := t.TempDir()
	noise(t, filepath.Join(dir, "file"), 10*bufferSize)
	f := folder(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := newReader(t, Options{Algorithm: XXH128, Limit: &Limit{rate: 1e6}}).Read(ctx, f, []byte("file"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestRealReadingKeepsToTheLimit(t *testing.T) {
	dir := t.TempDir()
	const size, rate = 3_000_000, 6_000_000
	noise(t, filepath.Join(dir, "file"), size)
	f := folder(t, dir)
	r := newReader(t, Options{Algorithm: XXH128, Limit: NewLimit(rate)})
	began := time.Now()
	if _, err := r.Read(t.Context(), f, []byte("file")); err != nil {
		t.Fatal(err)
	}
	if got := size / time.Since(began).Seconds(); got > 1.1*rate+rate*credit.Seconds()/0.5 {
		t.Errorf("%.0f bytes per second, the limit is %d", got, rate)
	}
}

func TestALinkIsItsTarget(t *testing.T) {
	dir := t.TempDir()
	f := folder(t, dir)
	r := newReader(t, Options{Algorithm: BLAKE3})
	for name, target := range map[string]string{"plain": "other.jpg", "odd": "../\n\xff", "long": strings.Repeat("x/", 2000)} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		res, err := r.Link(f, []byte(name))
		if err != nil || res.Hash != HashOf(BLAKE3, []byte(target)) || res.Kind != tree.Link || res.Size != int64(len(target)) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
	noise(t, filepath.Join(dir, "file"), 10)
	if _, err := r.Link(f, []byte("file")); !errors.Is(err, ErrChanging) {
		t.Errorf("a file: %v", err)
	}
}

func TestReadingAllocatesNoMoreThanOpening(t *testing.T) {
	dir := t.TempDir()
	noise(t, filepath.Join(dir, "photo.jpg"), 24_000)
	f, name := folder(t, dir), []byte("photo.jpg")
	time.Sleep(tick)
	opening := testing.AllocsPerRun(100, func() {
		file, err := f.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		file.Fd()
		file.Close()
	})
	for _, algorithm := range []string{BLAKE3, XXH128} {
		ways(t, func(t *testing.T, r *Reader) {
			r.digest, _ = newDigest(algorithm)
			r.Limit = NewLimit(0)
			r.Limit.courtesy.file = "" // which is read every 2 s only
			reading := testing.AllocsPerRun(100, func() {
				if _, err := r.Read(t.Context(), f, name); err != nil {
					t.Fatal(err)
				}
			})
			if reading > opening {
				t.Errorf("%s: %v allocations for each file, %v of them to open it", algorithm, reading, opening)
			}
		})
	}
}

func TestAnUnknownHashIsRefused(t *testing.T) {
	if _, err := NewReader(Options{Algorithm: "md5"}); err == nil {
		t.Error("NewReader accepts md5")
	}
}
