package host

import (
	"bytes"
	"context"
	"crypto/rand"
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

	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// warnings are what a Host warned of.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

func (w *warnings) warn(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

func (w *warnings) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.lines...)
}

// quick makes spans small and patience short, so that little data is much and a test need not wait.
func quick(h *Host) *warnings {
	var w warnings
	h.warn = w.warn
	h.lanes.span, h.lanes.backoff, h.lanes.attempts, h.lanes.interval = block, 10*time.Millisecond, 5, 20*time.Millisecond
	return &w
}

// noise is a new file of so many random bytes.
func noise(t *testing.T, size int) (file string, data []byte) {
	t.Helper()
	data = make([]byte, size)
	_, _ = rand.Read(data)
	file = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, data
}

func readAll(t *testing.T, h *Host, file string, want []byte) {
	t.Helper()
	var got bytes.Buffer
	if err := h.Read(t.Context(), &got, file, int64(len(want))); err != nil {
		t.Errorf("%d bytes: %v", len(want), err)
	} else if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d bytes: got %d others", len(want), got.Len())
	}
}

// at calls f before it writes on, each time that another n bytes have passed.
type at struct {
	w       io.Writer
	n, seen int
	f       func(times int)
}

func (a *at) Write(p []byte) (int, error) {
	for before := a.seen / a.n; before < (a.seen+len(p))/a.n; before++ {
		a.f(before + 1)
	}
	a.seen += len(p)
	return a.w.Write(p)
}

func TestAFileIsReadByteByByteAtTheEdgesOfItsSpans(t *testing.T) {
	noLeak(t)
	h := dial(t, serve(t))
	sizes := []int{0, 1, spanBytes - 1, spanBytes, spanBytes + 1, 5*spanBytes + 12345}
	for _, span := range []int{spanBytes, block, 3 * block} {
		if h.lanes.endIdle(); span != spanBytes {
			h.lanes.span = span
			sizes = []int{0, 1, block - 1, block, block + 1, span - 1, span, span + 1, 7*span - 1, 7 * span, 7*span + 1, 50*span + 777}
		}
		for _, size := range sizes {
			file, data := noise(t, size)
			readAll(t, h, file, data)
		}
	}
}

func TestTheStartOfAFileIsReadOfOneThatHasLessToo(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	quick(h)
	for _, size := range []int{0, 1, block, 5*block + 1} {
		file, data := noise(t, size)
		for _, n := range []int{0, 1, block - 1, block, 3 * block, 3*block + 5, 5*block + 1, 6 * block, 40 * block} {
			var got bytes.Buffer
			if err := h.ReadStart(t.Context(), &got, file, int64(n)); err != nil || !bytes.Equal(got.Bytes(), data[:min(n, size)]) {
				t.Errorf("the first %d of %d bytes: got %d, %v", n, size, got.Len(), err)
			}
		}
	}
}

func TestAFileIsReadUnderAnyName(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	quick(h)
	root := t.TempDir()
	for i, name := range append([]string{"new\nline\n", "\n", "*", `back\slash\0101`, `\`, "-n", "a  b ", " ", "ünï", "%s%n", "\xff\xfe", "\x01\x7f"}, nasty...) {
		name = strings.ReplaceAll(name, "/", "")
		file := filepath.Join(root, strconv.Itoa(i)) + "/" + name
		if name == "" || len(name) > 255 {
			continue
		}
		data := []byte(name + strings.Repeat("x", 2*block))
		if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		readAll(t, h, file, data)
	}
}

func TestEveryShellReadsFiles(t *testing.T) {
	t.Parallel()
	file, data := noise(t, 20*block+1)
	odd := filepath.Join(filepath.Dir(file), "it's\\ a\nfile\n")
	if err := os.Link(file, odd); err != nil {
		t.Fatal(err)
	}
	for _, shell := range []string{"dash", "bash", "busybox", "ksh", "zsh"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip("not installed")
			}
			bin := t.TempDir()
			for _, tool := range []string{"sh", "dd", "ls"} { // busybox is all of them, the others only sh
				if tool == "sh" || shell == "busybox" {
					if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
						t.Fatal(err)
					}
				}
			}
			h := dial(t, serve(t, fmt.Sprintf(`ForceCommand PATH=%s:$PATH; export PATH; exec sh -c "$SSH_ORIGINAL_COMMAND"`, bin)))
			quick(h)
			readAll(t, h, file, data)
			readAll(t, h, odd, data)
			err = h.Read(t.Context(), io.Discard, file+"s", 1)
			var exit *ExitError
			if !errors.As(err, &exit) || !strings.Contains(err.Error(), "No such file") {
				t.Errorf("a file that is not there: %v", err)
			}
			sizeIs(t, h.Read(t.Context(), io.Discard, file, 20*block), 20*block+1)
		})
	}
}

func TestTheNoiseOfALoginShellIsNotInAFile(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t, noisy, "Banner /etc/passwd"))
	quick(h)
	file, data := noise(t, 20*block+1)
	readAll(t, h, file, data)
}

func sizeIs(t *testing.T, err error, size int64) {
	t.Helper()
	var wrong *SizeError
	if !errors.As(err, &wrong) || wrong.Size != size || wrong.Host != "db1" || !strings.Contains(err.Error(), wrong.File) {
		t.Errorf("want an error that says %d bytes, got: %v", size, err)
	}
}

func TestAFileOfAnotherSizeIsAnError(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	quick(h)
	for _, size := range []int{0, 1, 5, block, 3*block - 1, 10 * block} {
		file, _ := noise(t, size)
		for _, want := range []int{0, 1, size - 1, size + 1, size + block, size + 100*block, 2 * size} {
			if want >= 0 && want != size {
				sizeIs(t, h.Read(t.Context(), io.Discard, file, int64(want)), int64(size))
			}
		}
	}
	if err := h.Read(t.Context(), io.Discard, "/etc/passwd", -1); err == nil {
		t.Error("a size below 0: no error")
	}
}

func TestAFileThatCannotBeReadIsNamed(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	w := quick(h)
	unreadable, _ := noise(t, 5)
	if err := os.Chmod(unreadable, 0); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{"/nonexistent/it's": "No such file", t.TempDir(): "Is a directory", unreadable: "Permission denied"}
	if os.Geteuid() == 0 {
		delete(cases, unreadable)
	}
	for file, says := range cases {
		for _, size := range []int64{0, 3, 20 * block} {
			err := h.Read(t.Context(), io.Discard, file, size)
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Status != 1 || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "db1") {
				t.Errorf("%s, %d bytes: %v", file, size, err)
			}
		}
	}
	if said := w.all(); len(said) > 0 {
		t.Errorf("warned: %q", said)
	}
}

func TestAFileThatChangesWhileItIsReadIsAnError(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	quick(h)
	h.Memory = 3 * block // so that most is read after the change
	for name, change := range map[string]func(file string) error{
		"replaced": func(file string) error {
			other, _ := noise(t, 100*block)
			return os.Rename(other, file)
		},
		"vanished": os.Remove,
		"cut":      func(file string) error { return os.Truncate(file, 50*block) },
		"longer":   func(file string) error { return os.Truncate(file, 101*block) },
	} {
		file, _ := noise(t, 100*block)
		err := h.Read(t.Context(), &at{w: io.Discard, n: 60 * block, f: func(times int) {
			if err := change(file); err != nil {
				t.Error(err)
			}
		}}, file, 100*block)
		var exit *ExitError
		var size *SizeError
		if run.CodeOf(err) != run.Incomplete && !errors.As(err, &exit) && !errors.As(err, &size) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTenCutsLoseNothingAndAreEachSaidOnce(t *testing.T) {
	noLeak(t)
	for _, most := range []int{10, 1} { // sessions a connection: one connection for all lanes, or one for each
		t.Run(fmt.Sprintf("MaxSessions %d", most), func(t *testing.T) {
			spec := serve(t, fmt.Sprintf("MaxSessions %d", most))
			proxy := proxied(t, spec)
			h := dial(t, spec)
			w := quick(h)
			h.Memory = 16 * block // so that there is always more to come
			file, data := noise(t, 330*block+5)
			var got bytes.Buffer
			err := h.Read(t.Context(), &at{w: &got, n: 30 * block, f: func(times int) {
				if times > 10 {
					return
				}
				eventually(t, "reading goes on", 10*time.Second, func() bool { return calm(h) })
				proxy.Cut()
				eventually(t, "it is said", 10*time.Second, func() bool { return len(w.all()) == times })
			}}, file, int64(len(data)))
			if err != nil || !bytes.Equal(got.Bytes(), data) {
				t.Errorf("got %d of %d bytes, %v", got.Len(), len(data), err)
			}
			said := w.all()
			if len(said) != 10 || !strings.Contains(said[9], "db1") || !strings.Contains(said[9], "goes on") || strings.Contains(said[9], "\n") {
				t.Errorf("said %q", said)
			}
		})
	}
}

func TestALineThatHasWorkedIsDialledAgainAsSoonAsItBreaks(t *testing.T) {
	noLeak(t)
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	w := quick(h)
	h.lanes.backoff, h.Memory = time.Hour, 16*block
	h.warn = func(format string, args ...any) { // lanes.mu is held
		if w.warn(format, args...); h.lanes.pause.After(time.Now().Add(settling)) {
			t.Errorf("it is dialled again after %v", time.Until(h.lanes.pause))
		}
	}
	file, data := noise(t, 100*block)
	var got bytes.Buffer
	err := h.Read(t.Context(), &at{w: &got, n: 50 * block, f: func(times int) {
		if times == 1 {
			proxy.Cut()
		}
	}}, file, int64(len(data)))
	if err != nil || !bytes.Equal(got.Bytes(), data) || len(w.all()) != 1 {
		t.Errorf("got %d of %d bytes, %v; said %q", got.Len(), len(data), err, w.all())
	}
}

// calm tells whether bytes came since the last break, or there is nothing left to come.
func calm(h *Host) bool {
	h.lanes.mu.Lock()
	defer h.lanes.mu.Unlock()
	for _, l := range h.lanes.all {
		if l.open && h.lanes.tries == 0 {
			return true
		}
	}
	return false
}

func TestASilentLineIsDialledAgain(t *testing.T) {
	noLeak(t)
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	w := quick(h)
	h.Memory = 16 * block
	h.lanes.stall = 200 * time.Millisecond
	file, data := noise(t, 100*block)
	var got bytes.Buffer
	err := h.Read(t.Context(), &at{w: &got, n: 50 * block, f: func(times int) {
		if times > 1 {
			return
		}
		proxy.Stall(true)
		// What has arrived may be all that was asked for; the next request is the one that gets no answer.
		time.AfterFunc(time.Second, func() { proxy.Stall(false) })
	}}, file, int64(len(data)))
	if err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("got %d of %d bytes, %v", got.Len(), len(data), err)
	}
	if said := w.all(); len(said) != 1 || !strings.Contains(said[0], "stopped answering") {
		t.Errorf("said %q", said)
	}
}

func TestAFileThatGivesNothingIsGivenUp(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	w := quick(h)
	h.lanes.stall, h.lanes.attempts = time.Second, 1
	fifo := filepath.Join(t.TempDir(), "fifo")
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	before := h.conns[0]
	err := h.Read(t.Context(), io.Discard, fifo, 5)
	if run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "has sent nothing") || run.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
	if said := w.all(); len(said) != 1 {
		t.Errorf("said %q", said)
	}
	eventually(t, "its dd has ended", 10*time.Second, func() bool {
		out, _ := exec.Command("ps", "-A", "-ww", "-o", "args=").Output()
		return !strings.Contains(string(out), fifo)
	})
	// The connection is not to blame: others may use it.
	if answered := output(t, h, Cmd{Args: []string{"echo", "here"}}); answered != "here\n" || h.conns[0] != before {
		t.Errorf("its connection was ended (%q)", answered)
	}
}

func TestALineThatStaysDownIsGivenUp(t *testing.T) {
	noLeak(t)
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	w := quick(h)
	h.Memory = 16 * block
	file, data := noise(t, 100*block)
	err := h.Read(t.Context(), &at{w: io.Discard, n: 50 * block, f: func(int) { proxy.Close() }}, file, int64(len(data)))
	if run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "not a byte in 5 attempts") || run.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
	if said := w.all(); len(said) != 1 {
		t.Errorf("said %q", said)
	}
}

func TestASlowWriterIsNotReadAheadOfByMoreThanTheMemory(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	quick(h)
	h.Memory = 12 * block
	file, data := noise(t, 200*block)
	var got bytes.Buffer
	err := h.Read(t.Context(), &at{w: &got, n: 20 * block, f: func(int) {
		// All that was asked for has come, and nothing more is asked for.
		eventually(t, "the lanes rest", 10*time.Second, func() bool {
			h.lanes.mu.Lock()
			defer h.lanes.mu.Unlock()
			for _, l := range h.lanes.all {
				if !l.open || l.owed > 0 {
					return false
				}
			}
			return h.lanes.held > 0
		})
	}}, file, int64(len(data)))
	if err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("got %d of %d bytes, %v", got.Len(), len(data), err)
	}
	if most := h.lanes.most; most > h.Memory || most < h.Memory/2 {
		t.Errorf("%d bytes were held, of %d", most, h.Memory)
	}
	if h.lanes.held != 0 {
		t.Errorf("%d bytes are held by nobody", h.lanes.held)
	}
}

func TestReadsThatShareLittleMemoryDoNotWaitForEachOthersWriters(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	quick(h)
	h.Memory = 2 * block
	file, data := noise(t, 10*block+1)
	const n = 20
	var ended [n + 1]chan struct{}
	for i := range ended {
		ended[i] = make(chan struct{})
	}
	close(ended[n])
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			defer close(ended[i])
			var got bytes.Buffer
			// Each stops in its middle until the one after it has ended.
			err := h.Read(t.Context(), &at{w: &got, n: 5 * block, f: func(times int) {
				if times == 1 {
					<-ended[i+1]
				}
			}}, file, int64(len(data)))
			if err != nil || !bytes.Equal(got.Bytes(), data) {
				t.Errorf("got %d of %d bytes, %v", got.Len(), len(data), err)
			}
		})
	}
	all.Wait()
	if most := h.lanes.most; most > (n+2)*block {
		t.Errorf("%d spans were held by %d Reads", most/block, n)
	}
}

func TestAHostOfOneSessionIsReadOverConnections(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t, "MaxSessions 1"))
	quick(h)
	file, data := noise(t, 100*block+1)
	readAll(t, h, file, data)
	output(t, h, Cmd{Args: []string{"true"}})
	readAll(t, h, file, data)
}

// ofLanes counts the processes on this machine that belong to lanes.
func ofLanes(markers []string) (n int) {
	out, _ := exec.Command("ps", "-A", "-ww", "-o", "stat=,args=").Output()
	for line := range strings.Lines(string(out)) {
		for _, m := range markers {
			if strings.Contains(line, m) && !strings.HasPrefix(line, "Z") {
				n++
			}
		}
	}
	return n
}

func (r *lanes) markers() (markers []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.all {
		markers = append(markers, l.marker[1:])
	}
	return markers
}

func TestACancelledReadLeavesNothingOnTheHost(t *testing.T) {
	noLeak(t)
	h := dial(t, serve(t))
	quick(h)
	h.Memory = 64 * block
	h.lanes.linger = time.Hour
	file, data := noise(t, 400*block)
	for _, other := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var markers []string
		stay := make(chan struct{})
		err := h.Read(ctx, &at{w: io.Discard, n: 100 * block, f: func(times int) {
			if times != 1 {
				return
			}
			markers = h.lanes.markers()
			eventually(t, "the lanes are seen", 5*time.Second, func() bool { return ofLanes(markers) > 0 })
			if other {
				go func() { defer close(stay); readAll(t, h, file, data) }()
			}
			cancel()
		}}, file, int64(len(data)))
		if !errors.Is(err, context.Canceled) || run.CodeOf(err) != run.Interrupted {
			t.Errorf("got %v", err)
		}
		if other { // which is not disturbed
			<-stay
			h.lanes.endIdle()
		}
		eventually(t, "nothing of the lanes is left", 5*time.Second, func() bool { return ofLanes(markers) == 0 })
		eventually(t, "no memory is held", 5*time.Second, func() bool {
			h.lanes.mu.Lock()
			defer h.lanes.mu.Unlock()
			return h.lanes.held == 0
		})
	}
}

func TestAWriterThatFailsEndsTheRead(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	quick(h)
	file, data := noise(t, 100*block)
	broken := errors.New("the disk is full")
	if err := h.Read(t.Context(), failing{broken}, file, int64(len(data))); !errors.Is(err, broken) || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
	readAll(t, h, file, data)
}

func TestCloseEndsReads(t *testing.T) {
	noLeak(t)
	h := dial(t, serve(t))
	quick(h)
	h.Memory = 16 * block // the rest cannot have arrived
	file, data := noise(t, 100*block)
	err := h.Read(t.Context(), &at{w: io.Discard, n: 50 * block, f: func(int) { h.Close() }}, file, int64(len(data)))
	if err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v", err)
	}
	if err := h.Read(t.Context(), io.Discard, file, int64(len(data))); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("on a closed host: %v", err)
	}
}

// sessions counts the commands that an sshd has started.
func sessions(t *testing.T, s *lab.SSHD) int {
	return strings.Count(read(t, filepath.Join(s.Dir, "sshd.log")), "Starting session")
}

func TestThousandsOfSmallFilesTakeFewSessions(t *testing.T) {
	t.Parallel()
	identity, public := key(t)
	s := startSSHD(t, public)
	spec := entry(t, s, identity)
	proxy := proxied(t, spec)
	proxy.SetDelay(50 * time.Millisecond)
	h := dial(t, spec)
	root := t.TempDir()
	const n = 2000
	for i := range n {
		if err := os.WriteFile(filepath.Join(root, strconv.Itoa(i)), []byte(strconv.Itoa(i)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := sessions(t, s)
	next := make(chan int, n)
	for i := range n {
		next <- i
	}
	close(next)
	var all sync.WaitGroup
	for range 128 {
		all.Go(func() {
			for i := range next {
				readAll(t, h, filepath.Join(root, strconv.Itoa(i)), []byte(strconv.Itoa(i)))
			}
		})
	}
	all.Wait()
	if n := sessions(t, s) - before; n > firstLanes {
		t.Errorf("it took %d sessions", n)
	}
}

func TestASmallFileTakesOneSessionAndALargeOneSeveral(t *testing.T) {
	t.Parallel()
	identity, public := key(t)
	s := startSSHD(t, public)
	h := dial(t, entry(t, s, identity))
	quick(h)
	h.lanes.interval, h.lanes.linger = time.Hour, time.Hour
	before := sessions(t, s)
	file, data := noise(t, depth*block)
	for range 3 {
		readAll(t, h, file, data)
	}
	if n := sessions(t, s) - before; n != 1 {
		t.Errorf("a small file, three times: %d sessions", n)
	}
	file, data = noise(t, 1000*block)
	readAll(t, h, file, data)
	if n := sessions(t, s) - before; n < 2 || n > firstLanes {
		t.Errorf("a large file: %d sessions", n)
	}
	h.lanes.endIdle()
}

func TestLanesThatRestEndAfterAWhile(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	quick(h)
	h.lanes.linger = 50 * time.Millisecond
	file, data := noise(t, 10*block)
	readAll(t, h, file, data)
	eventually(t, "no lane is left", 5*time.Second, func() bool { return len(h.lanes.markers()) == 0 })
	readAll(t, h, file, data)
}

func TestLanesAreAddedAsLongAsTheyCarryMore(t *testing.T) {
	for name, test := range map[string]struct {
		carries func(lanes int) int // bytes an interval
		memory  int64
		want    int
	}{
		"a long line":         {func(lanes int) int { return lanes << 20 }, 64 * depth * spanBytes, 64},
		"little memory":       {func(lanes int) int { return lanes << 20 }, 6 * depth * spanBytes, 8}, // and 6 are opened
		"a line that is full": {func(lanes int) int { return 40 << 20 }, 64 * depth * spanBytes, 12},
		"full at 20 lanes":    {func(lanes int) int { return min(lanes, 20) << 20 }, 64 * depth * spanBytes, 28},
	} {
		r := newLanes(&Host{Memory: test.memory})
		r.busy = true
		now := time.Now()
		for range 100 {
			r.all = nil
			for range r.target {
				r.all = append(r.all, &lane{open: true})
			}
			r.measure(now, 0)
			now = now.Add(r.interval)
			r.measure(now, test.carries(r.target))
		}
		if r.target != test.want {
			t.Errorf("%s: %d lanes, want %d", name, r.target, test.want)
		}
	}
	r := newLanes(&Host{})
	now := time.Now()
	for range 100 {
		r.measure(now, 1<<20) // nobody waits for a lane
		now = now.Add(r.interval)
	}
	if r.target != firstLanes {
		t.Errorf("%d lanes without need", r.target)
	}
}
