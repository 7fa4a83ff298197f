package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rehearsal/internal/run"
)

// brisk makes chunks small and patience short, so that little data is much and a test need not wait.
func brisk(h *Host) *warnings {
	var said warnings
	h.warn = said.warn
	h.writers.chunk, h.writers.backoff, h.writers.attempts = block, 10*time.Millisecond, 5
	return &said
}

func writeAll(t *testing.T, h *Host, file string, data []byte) {
	t.Helper()
	if err := h.Write(t.Context(), file, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Errorf("%d bytes: %v", len(data), err)
	} else if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes: %d others arrived, %v", len(data), len(got), err)
	}
}

// before calls f each time that another n bytes have been read, before it reads on.
type before struct {
	r       io.Reader
	n, seen int
	f       func(times int)
}

func (b *before) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(len(p), b.n-b.seen%b.n)])
	if b.seen += n; n > 0 && b.seen%b.n == 0 {
		b.f(b.seen / b.n)
	}
	return n, err
}

// of counts the processes on this machine that have a certain home.
func of(home string) (n int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains("\x00"+string(text), "\x00HOME="+home+"\x00") {
			n++
		}
	}
	return n
}

func TestAFileIsWrittenByteByByteAtTheEdgesOfItsChunks(t *testing.T) {
	noLeak(t)
	h := dial(t, serve(t))
	sizes := []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 5*chunkBytes + 12345}
	for _, chunk := range []int{chunkBytes, block, 3 * block} {
		if h.writers.endIdle(); chunk != chunkBytes {
			h.writers.chunk = chunk
			sizes = []int{0, 1, block - 1, block, block + 1, chunk - 1, chunk, chunk + 1, 7*chunk - 1, 7 * chunk, 7*chunk + 1, 50*chunk + 777}
		}
		for _, size := range sizes {
			_, data := noise(t, size)
			file := filepath.Join(t.TempDir(), "it's a\\new\nfile\n")
			writeAll(t, h, file, data)
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("got %v, %v", info, err)
			}
		}
	}
}

func TestEveryShellWritesFiles(t *testing.T) {
	t.Parallel()
	_, data := noise(t, 20*block+1)
	for _, shell := range []string{"dash", "bash", "busybox", "ksh", "zsh"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip("not installed")
			}
			bin := t.TempDir()
			for _, tool := range []string{"sh", "dd", "sync", "wc"} { // busybox is all of them, the others only sh
				if tool == "sh" || shell == "busybox" {
					if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
						t.Fatal(err)
					}
				}
			}
			h := dial(t, serve(t, fmt.Sprintf(`ForceCommand PATH=%s:$PATH; export PATH; exec sh -c "$SSH_ORIGINAL_COMMAND"`, bin)))
			brisk(h)
			writeAll(t, h, filepath.Join(t.TempDir(), "it's\\ a\nfile\n"), data)
			writeAll(t, h, filepath.Join(t.TempDir(), "empty"), nil)
			err = h.Write(t.Context(), "/nonexistent/file", bytes.NewReader(data), int64(len(data)))
			var exit *ExitError
			if !errors.As(err, &exit) || !strings.Contains(err.Error(), "nonexistent") {
				t.Errorf("a folder that is not there: %v", err)
			}
			if err := h.Write(t.Context(), "/dev/full", bytes.NewReader(data), int64(len(data))); !errors.As(err, &exit) || !exit.DiskFull() {
				t.Errorf("a full disk: %v", err)
			}
		})
	}
}

func TestAHostWithAPlainDdIsWrittenToOverOneChannel(t *testing.T) {
	t.Parallel()
	bin := filepath.Dir(program(t, "true"))
	if err := os.WriteFile(filepath.Join(bin, "dd"), []byte("#!/bin/sh\necho \"dd: unknown operand $1\" >&2; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := dial(t, serve(t, fmt.Sprintf(`ForceCommand PATH=%s:$PATH; export PATH; exec sh -c "$SSH_ORIGINAL_COMMAND"`, bin)))
	brisk(h)
	for _, size := range []int{0, 1, 20*block + 1} {
		_, data := noise(t, size)
		writeAll(t, h, filepath.Join(t.TempDir(), "file"), data)
	}
	if h.writers.fit || h.writers.most > 0 {
		t.Error("it was believed to know fullblock")
	}
	if err := h.Write(t.Context(), filepath.Join(t.TempDir(), "file"), strings.NewReader("more"), 3); err == nil || !strings.Contains(err.Error(), "4 bytes instead of 3") {
		t.Errorf("a longer input: %v", err)
	}
	var exit *ExitError
	if err := h.Write(t.Context(), "/dev/full", strings.NewReader("x"), 1); !errors.As(err, &exit) || !exit.DiskFull() {
		t.Errorf("a full disk: %v", err)
	}
}

func refusesWrongInput(t *testing.T, h *Host) {
	t.Helper()
	_, data := noise(t, 10*block)
	for _, size := range []int{0, 1, block, len(data) - 1, len(data) + 1, 2 * len(data)} {
		err := h.Write(t.Context(), filepath.Join(t.TempDir(), "file"), bytes.NewReader(data), int64(size))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("bytes instead of %d", size)) {
			t.Errorf("%d bytes for %d: %v", len(data), size, err)
		}
	}
	broken := errors.New("the source is broken")
	for _, n := range []int{0, block, 5*block + 1, len(data)} {
		in := io.MultiReader(bytes.NewReader(data[:n]), failing{broken})
		if err := h.Write(t.Context(), filepath.Join(t.TempDir(), "file"), in, int64(len(data))); !errors.Is(err, broken) || !strings.Contains(err.Error(), "reading the input") {
			t.Errorf("broken after %d: %v", n, err)
		}
	}
}

func TestAnInputOfAnotherSizeIsAnError(t *testing.T) {
	noLeak(t)
	h := dial(t, serve(t))
	brisk(h)
	refusesWrongInput(t, h)
	if err := h.Write(t.Context(), "/dev/null", strings.NewReader(""), -1); err == nil {
		t.Error("a size below 0: no error")
	}
	if h.writers.lent != 0 {
		t.Errorf("%d chunks are held by nobody", h.writers.lent)
	}
}

func TestAFileThatIsLongerInTheEndIsAnError(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	brisk(h)
	file, data := noise(t, 10*block)
	for _, size := range []int{0, 5, 5 * block} {
		sizeIs(t, h.Write(t.Context(), file, bytes.NewReader(data[:size]), int64(size)), 10*block)
	}
	writeAll(t, h, file, append(data, "and more"...))
}

func TestWritesGoOnAfterTenCutsAndSayEachOnce(t *testing.T) {
	noLeak(t)
	for _, most := range []int{10, 1} { // sessions a connection: one connection for all writers, or one for each
		t.Run(fmt.Sprintf("MaxSessions %d", most), func(t *testing.T) {
			spec := serve(t, fmt.Sprintf("MaxSessions %d", most))
			proxy := proxied(t, spec)
			h := dial(t, spec)
			w := brisk(h)
			_, data := noise(t, 330*block+5)
			file := filepath.Join(t.TempDir(), "file")
			err := h.Write(t.Context(), file, &before{r: bytes.NewReader(data), n: 30 * block, f: func(times int) {
				if times > 10 {
					return
				}
				eventually(t, "chunks arrive, and others are under way", 10*time.Second, func() bool { return writing(h) })
				proxy.Cut()
				eventually(t, "it is said", 10*time.Second, func() bool { return len(w.all()) == times })
			}}, int64(len(data)))
			if got, _ := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d of %d bytes arrived, %v", len(got), len(data), err)
			}
			said := w.all()
			if len(said) != 10 || !strings.Contains(said[9], "db1") || !strings.Contains(said[9], "goes on") || strings.Contains(said[9], "\n") {
				t.Errorf("said %q", said)
			}
		})
	}
}

// writing tells whether a chunk has arrived since the last break.
func writing(h *Host) bool {
	h.writers.mu.Lock()
	defer h.writers.mu.Unlock()
	for _, l := range h.writers.all {
		if l.open && h.writers.tries == 0 {
			return true
		}
	}
	return false
}

func TestASilentLineIsDialledAgainForAWrite(t *testing.T) {
	hurry(t, 300*time.Millisecond)
	noLeak(t)
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	w := brisk(h)
	_, data := noise(t, 100*block)
	file := filepath.Join(t.TempDir(), "file")
	err := h.Write(t.Context(), file, &before{r: bytes.NewReader(data), n: 50 * block, f: func(times int) {
		if times == 1 {
			proxy.Stall(true)
			go func() {
				eventually(t, "it is said", 20*time.Second, func() bool { return len(w.all()) > 0 })
				proxy.Stall(false)
			}()
		}
	}}, int64(len(data)))
	if got, _ := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes arrived, %v", len(got), len(data), err)
	}
	if said := w.all(); len(said) == 0 || !strings.Contains(said[0], "stopped answering") {
		t.Errorf("said %q", said)
	}
}

func TestALineThatStaysDownEndsAWrite(t *testing.T) {
	noLeak(t)
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	w := brisk(h)
	_, data := noise(t, 100*block)
	err := h.Write(t.Context(), filepath.Join(t.TempDir(), "file"), &before{r: bytes.NewReader(data), n: 50 * block, f: func(int) { proxy.Close() }}, int64(len(data)))
	if run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "nothing arrived in 5 attempts") || run.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
	if said := w.all(); len(said) != 1 {
		t.Errorf("said %q", said)
	}
}

func TestWritesShareWritersAndMemory(t *testing.T) {
	noLeak(t)
	h := dial(t, serve(t))
	brisk(h)
	h.writers.memory = 8
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 20 {
		_, data := noise(t, i*3*block+i)
		all.Go(func() { writeAll(t, h, filepath.Join(dir, strconv.Itoa(i)), data) })
	}
	all.Wait()
	h.writers.mu.Lock()
	defer h.writers.mu.Unlock()
	if h.writers.most != 8 || h.writers.lent != 0 || len(h.writers.all) > 4 {
		t.Errorf("%d chunks were held, %d are, by %d writers", h.writers.most, h.writers.lent, len(h.writers.all))
	}
}

// What a dd has not read must not be taken for requests.
func TestWhatTheHostRefusesIsAnErrorOfThatFileAlone(t *testing.T) {
	noLeak(t)
	h := dial(t, serve(t))
	w := brisk(h)
	dir := t.TempDir()
	evil := filepath.Join(dir, "evil")
	request := []byte(fmt.Sprintf("last 0 0 %s\n", evil))
	_, good := noise(t, 100*block+1)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() { writeAll(t, h, filepath.Join(dir, strconv.Itoa(i)), good) })
		for target, says := range map[string]string{"/nonexistent/file": "No such file", dir: "Is a directory", "/dev/full": "No space left on device"} {
			all.Go(func() {
				data := bytes.Repeat(request, 20*block/len(request))
				err := h.Write(t.Context(), target, bytes.NewReader(data), int64(len(data)))
				var exit *ExitError
				if !errors.As(err, &exit) || exit.Status != 1 || exit.DiskFull() != (target == "/dev/full") || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %v", target, err)
				}
			})
		}
	}
	all.Wait()
	if _, err := os.Stat(evil); err == nil {
		t.Error("data were taken for a request")
	}
	if said := w.all(); len(said) > 0 {
		t.Errorf("warned: %q", said)
	}
}

func TestACancelledWriteLeavesNothingOnTheHost(t *testing.T) {
	noLeak(t)
	home := t.TempDir()
	h := dial(t, serve(t, "SetEnv HOME="+home))
	brisk(h)
	h.writers.linger = time.Hour
	_, data := noise(t, 400*block)
	for _, other := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		dir := t.TempDir()
		stay := make(chan struct{})
		err := h.Write(ctx, filepath.Join(dir, "file"), &before{r: bytes.NewReader(data), n: 100 * block, f: func(times int) {
			if times != 1 {
				return
			}
			eventually(t, "the writers are seen", 5*time.Second, func() bool { return of(home) > 0 })
			if other {
				go func() { defer close(stay); writeAll(t, h, filepath.Join(t.TempDir(), "other"), data) }()
			}
			cancel()
		}}, int64(len(data)))
		if !errors.Is(err, context.Canceled) || run.CodeOf(err) != run.Interrupted {
			t.Errorf("got %v", err)
		}
		if err := os.RemoveAll(dir); err != nil { // nobody writes into it
			t.Error(err)
		}
		if other { // which is not disturbed
			<-stay
			h.writers.endIdle()
		}
		eventually(t, "nothing of the writers is left", 5*time.Second, func() bool { return of(home) == 0 })
		if _, err := os.Stat(dir); err == nil {
			t.Error("the folder is back")
		}
		h.writers.mu.Lock()
		if h.writers.lent != 0 {
			t.Errorf("%d chunks are held by nobody", h.writers.lent)
		}
		h.writers.mu.Unlock()
	}
}

func TestCloseEndsWrites(t *testing.T) {
	noLeak(t)
	h := dial(t, serve(t))
	brisk(h)
	_, data := noise(t, 100*block)
	file := filepath.Join(t.TempDir(), "file")
	err := h.Write(t.Context(), file, &before{r: bytes.NewReader(data), n: 50 * block, f: func(int) { h.Close() }}, int64(len(data)))
	if err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v", err)
	}
	if err := h.Write(t.Context(), file, bytes.NewReader(data), int64(len(data))); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("on a closed host: %v", err)
	}
}

func TestAChunkThatBreaksOffIsNotAnsweredFor(t *testing.T) {
	if err := exec.Command("sh", "-c", takesBlocks).Run(); err != nil {
		t.Skip(err)
	}
	for name, c := range map[string]struct {
		input string
		want  string // the answers
	}{
		"whole":     {"- 0 5 %[1]s\nwhole", "0 1+0 records in\n"},
		"in two":    {"- 0 5 %[1]s\nwholelast 0 0 %[1]s\n", "0 1+0 records in\n0 5\n"},
		"broken":    {"- 0 5 %[1]s\nwho", ""},
		"empty":     {"- 0 5 %[1]s\n", ""},
		"last":      {"last 0 5 %[1]s\nwho", ""},
		"next line": {"- 0 5 %[1]s\nwhole- 0", "0 1+0 records in\n"},
	} {
		place := exec.Command("sh", "-c", placeChunks)
		place.Env = append(os.Environ(), "LC_ALL=C")
		place.Stdin = strings.NewReader(fmt.Sprintf(c.input, filepath.Join(t.TempDir(), "file")))
		if got, err := place.Output(); err != nil || string(got) != c.want {
			t.Errorf("%s: got %q (%v), want %q", name, got, err, c.want)
		}
	}
}
