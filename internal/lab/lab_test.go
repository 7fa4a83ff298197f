package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// shared is one small lab for the tests that only look at it, made when the first asks.
var shared struct {
	sync.Once
	*Lab
	err error
}

func theLab(t *testing.T) *Lab {
	t.Helper()
	shared.Do(func() {
		var dir string
		if dir, shared.err = os.MkdirTemp("", "lab"); shared.err == nil {
			shared.Lab, shared.err = Up(context.Background(), Options{Dir: filepath.Join(dir, ".lab"), Orders: 2000}, nil)
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.Lab
}

func TestMain(m *testing.M) {
	code := m.Run()
	if l := shared.Lab; l != nil {
		if err := errors.Join(l.Down(context.Background()), os.Remove(filepath.Dir(l.Dir))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// newLab is a lab that a test may break.
func newLab(t *testing.T) *Lab {
	t.Helper()
	l, err := Up(t.Context(), Options{Dir: filepath.Join(t.TempDir(), ".lab"), Orders: 200}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { down(t, l) })
	return l
}

// onlyHosts is a lab that got no further than its OpenSSH servers: no PostgreSQL to wait for.
func onlyHosts(t *testing.T) *Lab {
	t.Helper()
	l, err := claim(filepath.Join(t.TempDir(), ".lab"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { down(t, l) })
	if err := makeHostKey(t.Context(), l.file("key"), "ed25519"); err != nil {
		t.Fatal(err)
	}
	if err := l.startHosts(t.Context(), 0, serial(nil)); err != nil {
		t.Fatal(err)
	}
	return l
}

func down(t *testing.T, l *Lab) {
	t.Helper()
	if err := l.Down(context.Background()); err != nil {
		t.Error(err)
	}
}

// nothingIsLeft looks for the lab's folders and for processes that name them.
func nothingIsLeft(t *testing.T, l *Lab) {
	t.Helper()
	for _, dir := range []string{l.Tmp, l.Dir} {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", dir)
		}
	}
	out, err := exec.Command("ps", "-A", "-ww", "-o", "pid=,args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, l.Tmp) {
			t.Errorf("still running: %s", line)
		}
	}
}

func code(err error) run.Code { return run.CodeOf(err) }

func TestALabGoesWithoutATrace(t *testing.T) {
	l := newLab(t)
	if err := l.whole(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(l.Dir)
	if err != nil {
		t.Fatal(err)
	}
	down(t, again)
	nothingIsLeft(t, l)
	down(t, again)
	if _, err := Open(l.Dir); !errors.Is(err, fs.ErrNotExist) || code(err) != run.Usage || run.HintOf(err) == "" {
		t.Errorf("Open after Down: %v", err)
	}
}

func TestDownKeepsWhatOthersPutBesideTheLab(t *testing.T) {
	l := onlyHosts(t)
	mine := filepath.Join(l.Dir, "notes.txt")
	if err := os.WriteFile(mine, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	down(t, l)
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(l.Dir); len(left) != 1 {
		t.Errorf("left in %s: %v", l.Dir, left)
	}
}

func TestTwoLabsAreUpAtOnceAndOneGoesAlone(t *testing.T) {
	one, two := theLab(t), newLab(t)
	ports := map[int]string{}
	for _, l := range []*Lab{one, two} {
		for _, port := range []int{l.SSH[0].Port, l.SSH[1].Port, l.SSH[2].Port, l.FarPort, l.Production.Port, l.Staging.Port} {
			if ports[port] != "" {
				t.Errorf("port %d is in %s and in %s", port, ports[port], l.Dir)
			}
			ports[port] = l.Dir
		}
	}
	down(t, two)
	nothingIsLeft(t, two)
	if err := one.whole(); err != nil {
		t.Errorf("the other lab: %v", err)
	}
}

func TestUpOnARunningLabReturnsIt(t *testing.T) {
	l := theLab(t)
	var said []string
	again, err := Up(t.Context(), Options{Dir: l.Dir}, func(text string) { said = append(said, text) })
	if err != nil {
		t.Fatal(err)
	}
	if again.Tmp != l.Tmp || len(said) != 1 || !strings.Contains(said[0], "up already") {
		t.Errorf("got %s, said %q", again.Tmp, said)
	}
}

func TestUpRefusesALabThatIsNotWhole(t *testing.T) {
	l, err := Open(theLab(t).Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.whole(); err != nil {
		t.Fatal(err)
	}
	l.SSHDOf("staging").PID = 1
	if err := l.whole(); code(err) != run.Usage || !strings.Contains(err.Error(), "sshd of staging") {
		t.Errorf("with a dead sshd: %v", err)
	}

	half := onlyHosts(t)
	_, err = Up(t.Context(), Options{Dir: half.Dir}, nil)
	if code(err) != run.Usage || !strings.Contains(err.Error(), "half made") || !strings.Contains(run.HintOf(err), "lab:down") {
		t.Errorf("half made: %v (%s)", err, run.HintOf(err))
	}
	down(t, half)
	nothingIsLeft(t, half)
}

func TestUpTouchesNoFolderThatHoldsWhatDownWouldRemove(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "sql")
	if err := os.Mkdir(mine, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), Options{Dir: dir, Orders: 200}, nil); code(err) != run.Usage {
		t.Errorf("code %d: %v", code(err), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// failingUp starts Up, calls spoil when production is seeded, which is late, and returns the lab as it was then
// and Up's error.
func failingUp(t *testing.T, spoil func(l *Lab, cancel func())) (*Lab, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), ".lab")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen *Lab
	l, err := Up(ctx, Options{Dir: dir, Orders: 200}, func(text string) {
		if strings.Contains(text, "seeded") {
			seen, _ = Open(dir)
			spoil(seen, cancel)
		}
	})
	if l != nil {
		down(t, l)
		t.Fatal("Up made a lab all the same")
	}
	if seen == nil {
		t.Fatalf("Up never got that far: %v", err)
	}
	return seen, err
}

func TestAnInterruptedUpLeavesNothing(t *testing.T) {
	l, err := failingUp(t, func(_ *Lab, cancel func()) { cancel() })
	if code(err) != run.Interrupted {
		t.Errorf("code %d: %v", code(err), err)
	}
	nothingIsLeft(t, l)
}

func TestAFailedUpLeavesNothing(t *testing.T) {
	l, err := failingUp(t, func(l *Lab, _ func()) {
		if err := os.Mkdir(l.Inventory(), 0o755); err != nil {
			t.Error(err)
		}
	})
	if err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("the error is %v", err)
	}
	nothingIsLeft(t, l)
}

func TestDownFindsWhatAKilledUpDidNotWriteDown(t *testing.T) {
	l := onlyHosts(t)
	c, err := StartCluster(t.Context(), "staging", l.Path("staging", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.note(func() { l.SSH = l.SSH[:1] }); err != nil {
		t.Fatal(err)
	}
	down(t, l)
	nothingIsLeft(t, l)
	if c.Running() {
		t.Error("PostgreSQL is still running")
	}
}

func TestDownEndsTheCommandsThatRunOnAHost(t *testing.T) {
	l := onlyHosts(t)
	cmd := ssh(t, l.SSHDOf("production"), l.file("key"), "echo $$; exec sleep 600")
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	var pid int
	if _, err := fmt.Fscan(stdout, &pid); err != nil {
		t.Fatal(err)
	}
	if !runsIn(pid, "sleep 600") {
		t.Fatalf("process %d is no sleep", pid)
	}
	down(t, l)
	if runsIn(pid, "sleep 600") {
		t.Error("the command is still there")
	}
}

func TestDownSignalsNoProcessButTheLabs(t *testing.T) {
	l := onlyHosts(t)
	other := exec.Command("sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Process.Kill()
	ended := make(chan error, 1)
	go func() { ended <- other.Wait() }()

	// Both have ended, and their numbers are somebody else's by now.
	if err := errors.Join(l.SSHDOf("backup").Stop(), l.stopFar()); err != nil {
		t.Fatal(err)
	}
	err := l.note(func() { l.SSHDOf("backup").PID, l.FarPID = other.Process.Pid, other.Process.Pid })
	if err != nil {
		t.Fatal(err)
	}
	down(t, l)
	select {
	case err := <-ended:
		t.Errorf("the other process ended: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	nothingIsLeft(t, l)
}

func TestDownRemovesNoFolderThatNoLabMade(t *testing.T) {
	mine := t.TempDir()
	l := &Lab{Dir: filepath.Join(t.TempDir(), ".lab"), Tmp: mine}
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := l.save(os.Link); err != nil {
		t.Fatal(err)
	}
	if err := l.Down(t.Context()); err == nil {
		t.Error("Down was content")
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}

func TestTheLabsInventoryIsValid(t *testing.T) {
	l := theLab(t)
	inv, err := inventory.Load(l.Inventory())
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Hosts) != 3 || len(inv.Accounts) != 3 {
		t.Errorf("%d hosts, %d accounts", len(inv.Hosts), len(inv.Accounts))
	}
	db, err := inv.Database("shop")
	if err != nil {
		t.Fatal(err)
	}
	system, data, err := l.Production.identity(t.Context())
	if err != nil || db.Production.SystemIdentifier != system || db.Production.DataDirectory != data {
		t.Errorf("production is %s in %s (%v), the inventory says %s in %s", system, data, err,
			db.Production.SystemIdentifier, db.Production.DataDirectory)
	}
	if db.Backups.Host.Address != "127.0.0.1:"+strconv.Itoa(l.FarPort) {
		t.Errorf("the backup host is reached at %s, not through the proxy", db.Backups.Host.Address)
	}
	if _, err := os.Stat(filepath.Join(db.SQL, "columns.yaml")); err != nil {
		t.Error(err)
	}
}

func TestRolesConnectOverSSHWithoutAPassword(t *testing.T) {
	l := theLab(t)
	for _, c := range []struct {
		host, role string
		cluster    *Cluster
	}{{"production", "backup_reader", l.Production}, {"staging", "rehearsal", l.Staging}, {"staging", "shop", l.Staging}} {
		query := fmt.Sprintf(`%s/psql -X -At -h %s -p %d -U %s -d shop -c "select current_user, rolsuper from pg_roles where rolname = current_user"`,
			c.cluster.Bin, c.cluster.Socket, c.cluster.Port, c.role)
		out, err := output(ssh(t, l.SSHDOf(c.host), l.file("key"), query))
		if want := c.role + "|f\n"; err != nil || out != want {
			t.Errorf("%s on %s: %q, %v; want %q", c.role, c.host, out, err, want)
		}
	}
}

// banner connects to the backup host through the proxy and returns sshd's first line and when it came.
func banner(t *testing.T, l *Lab, patience time.Duration) (net.Conn, time.Duration, error) {
	t.Helper()
	begin := time.Now()
	conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(l.FarPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(begin.Add(patience))
	line := make([]byte, 4)
	_, err = io.ReadFull(conn, line)
	if err == nil && string(line) != "SSH-" {
		err = fmt.Errorf("%q is no sshd", line)
	}
	return conn, time.Since(begin), err
}

func TestTheBackupHostIsAsFarAsOneLikes(t *testing.T) {
	l := theLab(t)
	t.Cleanup(func() {
		if err := errors.Join(l.Far(0), l.Stall(false)); err != nil {
			t.Error(err)
		}
	})
	if _, took, err := banner(t, l, 5*time.Second); err != nil || took > 250*time.Millisecond {
		t.Errorf("near: %v, %v", took, err)
	}
	if err := l.Far(300 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	conn, took, err := banner(t, l, 5*time.Second)
	if err != nil || took < 300*time.Millisecond {
		t.Errorf("far: %v, %v", took, err)
	}
	if err := l.Cut(); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	var timeout net.Error
	if _, err := io.Copy(io.Discard, conn); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the connection survived the cut")
	}
	if err := l.Stall(true); err != nil {
		t.Fatal(err)
	}
	if _, _, err := banner(t, l, 800*time.Millisecond); err == nil {
		t.Error("stalled, and yet it answers")
	}
	if err := l.Stall(false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := banner(t, l, 5*time.Second); err != nil {
		t.Error(err)
	}
}
