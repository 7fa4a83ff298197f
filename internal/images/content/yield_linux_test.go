package content

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// It runs in a process of its own, since an ordinary user cannot take it back.
func TestYieldLowersEveryThreadAlsoThoseToCome(t *testing.T) {
	if os.Getenv("CONTENT_TEST_YIELD") != "" {
		yieldAndLook(t)
		return
	}
	if out, err := again(t, true); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestYieldLeavesTheSessionOfOthersAlone(t *testing.T) {
	session := func() string {
		state, err := os.ReadFile("/proc/self/autogroup")
		if err != nil {
			t.Skip("this kernel does not share the cores between sessions")
		}
		return string(state)
	}
	before := session()
	if out, err := again(t, false); err == nil || !strings.Contains(string(out), "not ours") {
		t.Errorf("%v\n%s", err, out)
	}
	if after := session(); after != before {
		t.Errorf("our session was %q and is %q", before, after)
	}
}

// again runs the first of these tests in another process, and its own session or ours.
func again(t *testing.T, session bool) ([]byte, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "-test.run=^TestYieldLowersEveryThreadAlsoThoseToCome$")
	c.Env = append(os.Environ(), "CONTENT_TEST_YIELD=1")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
	return c.CombinedOutput()
}

func yieldAndLook(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	manyThreads(t, pipe[0], 10)
	if err := Yield(); err != nil {
		t.Error(err)
	}
	for _, thread := range manyThreads(t, pipe[0], 40) {
		if nice, class := priorities(thread.Name()); nice != 19 || class != 3 {
			t.Errorf("thread %s has nice %d and I/O class %d", thread.Name(), nice, class)
		}
	}
	if state, err := os.ReadFile("/proc/self/autogroup"); err == nil && !strings.HasSuffix(string(state), " nice 19\n") {
		t.Errorf("the session: %s", state)
	}
}

// manyThreads waits in the kernel, until there are so many threads of the process.
func manyThreads(t *testing.T, pipe, n int) []os.DirEntry {
	for range n {
		go unix.Read(pipe, make([]byte, 1))
	}
	for {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		if len(threads) >= n {
			return threads
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func priorities(thread string) (nice, class int) {
	tid, _ := strconv.Atoi(thread)
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid) // 20 - nice, see getpriority(2)
	if err != nil {
		return 0, 0
	}
	ioprio, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, uintptr(tid), 0)
	if errno != 0 {
		return 0, 0
	}
	return 20 - raw, int(ioprio >> 13)
}
