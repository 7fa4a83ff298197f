package host

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
)

// TestMain lets more tests run at once than there are processors: most of them wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// key makes a key pair and returns its file and its public line.
func key(t *testing.T, args ...string) (file, public string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "id")
	args = append([]string{"-q", "-t", "ed25519", "-C", "", "-f", file}, args...)
	if len(args) == 7 {
		args = append(args, "-N", "")
	}
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	text, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(text))
}

// serve starts an sshd and returns the inventory's entry for it. For a part of testHere that is this machine as it is.
func serve(t *testing.T, extra ...string) *inventory.Host {
	t.Helper()
	if strings.HasPrefix(t.Name(), testHere+"/") {
		for _, line := range extra {
			if home, ok := strings.CutPrefix(line, "SetEnv HOME="); ok {
				t.Setenv("HOME", home)
			}
		}
		return &inventory.Host{Name: "db1"}
	}
	identity, public := key(t)
	s := startSSHD(t, public, extra...)
	return entry(t, s, identity)
}

func startSSHD(t *testing.T, authorized string, extra ...string) *lab.SSHD {
	t.Helper()
	s, err := lab.StartSSHD(t.Context(), "db1", filepath.Join(t.TempDir(), "sshd"), authorized, extra...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(s.Dir, "sshd.log"))
			t.Logf("sshd.log:\n%s", log)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func entry(t *testing.T, s *lab.SSHD, identity string) *inventory.Host {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return &inventory.Host{Name: "db1", Address: fmt.Sprintf("127.0.0.1:%d", s.Port), User: me.Username,
		Role: inventory.Production, Identity: identity, HostKey: s.HostKey}
}

// dial logs in for the length of the test.
func dial(t *testing.T, spec *inventory.Host) *Host {
	t.Helper()
	h, err := dialled(t, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func dialled(t *testing.T, spec *inventory.Host) (*Host, error) {
	if spec.Address == "" {
		return Local(spec)
	}
	return Dial(t.Context(), spec)
}

// noLeak fails the test where it leaves goroutines or open files behind. Call it before what might, and not in
// a parallel test.
func noLeak(t *testing.T) {
	t.Helper()
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // the first one opens files for all that follow
		l.Close()
	}
	goroutines, files := runtime.NumGoroutine(), openFiles()
	t.Cleanup(func() {
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if runtime.NumGoroutine() <= goroutines && openFiles() <= files {
				return
			}
		}
		stacks := make([]byte, 1<<16)
		stacks = stacks[:runtime.Stack(stacks, true)]
		t.Errorf("%d goroutines and %d files before, %d and %d after:\n%s", goroutines, files, runtime.NumGoroutine(), openFiles(), stacks)
	})
}

func openFiles() int {
	entries, _ := os.ReadDir("/dev/fd")
	return len(entries)
}

func output(t *testing.T, h *Host, c Cmd) string {
	t.Helper()
	out, err := h.Output(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// proxied puts a proxy before a host.
func proxied(t *testing.T, spec *inventory.Host) *lab.Proxy {
	t.Helper()
	p, err := lab.NewProxy(spec.Address, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	spec.Address = p.Addr()
	return p
}

func eventually(t *testing.T, what string, patience time.Duration, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// hurry makes heartbeats short for one test.
func hurry(t *testing.T, beat time.Duration) {
	t.Helper()
	before := heartbeat
	heartbeat = beat
	t.Cleanup(func() { heartbeat = before })
}

func TestPathsAreBelowTheRemoteHome(t *testing.T) {
	h := &Host{home: "/home/deploy", spec: &inventory.Host{}}
	for p, want := range map[string]string{"/srv/x": "/srv/x", "~": "/home/deploy", "~/x y": "/home/deploy/x y", "x": "/home/deploy/x", "~other": "/home/deploy/~other"} {
		if got := h.Path(p); got != want {
			t.Errorf("Path(%q) = %q, want %q", p, got, want)
		}
	}
	if got := h.State("locks", "shop"); got != "/home/deploy/.rehearsal/locks/shop" {
		t.Errorf("State is %q", got)
	}
	h.spec = &inventory.Host{State: "~/state of ours"}
	if got := h.State(); got != "/home/deploy/state of ours" {
		t.Errorf("State is %q", got)
	}
}

func TestDialLearnsTheHomeDirectory(t *testing.T) {
	h := dial(t, serve(t))
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if h.Path("~") != me.HomeDir || h.Name() != "db1" {
		t.Errorf("the home of %s is %q, want %q", h.Name(), h.Path("~"), me.HomeDir)
	}
}
