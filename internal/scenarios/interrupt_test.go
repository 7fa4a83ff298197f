package scenarios

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// resetSteps are the steps of staging:reset before the swap, in order.
var resetSteps = []string{"connect", "choose the backup", "check staging", "rehearse the schema", "try the queries", "empty tables", "load and mask", "sequences",
	"count and prove", "indexes and constraints", "grants and statistics", "accounts", "neutralize", "checks"}

var createSteps = []string{"connect", "check the source", "count in a snapshot", "dump", "send"}

func TestCtrlCInEachStepOfAResetLeavesEverythingAsItWas(t *testing.T) {
	interruptEach(t, "staging:reset", resetSteps, syscall.SIGINT)
}

func TestCtrlCInEachStepOfABackupLeavesEverythingAsItWas(t *testing.T) {
	interruptEach(t, "backup:create", createSteps, syscall.SIGINT)
}

func TestSIGTERMEndsAResetAsCtrlCDoes(t *testing.T) {
	interruptEach(t, "staging:reset", []string{"check staging", "load and mask"}, syscall.SIGTERM)
}

// interruptEach runs the target once for each step and sends the signal shortly after that step's line has been
// printed, so within the next one.
func interruptEach(t *testing.T, target string, steps []string, signal syscall.Signal, prepare ...func(dir string)) {
	dir := take(t)
	for _, p := range prepare {
		p(dir)
	}
	before, err := picture(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		start := time.Now()
		code, took, out := interruptAfter(t, mage(dir, target), step, signal)
		if code != 130 {
			t.Errorf("after %q: exit code %d, want 130\n%s", step, code, out)
		}
		if took > 5*time.Second {
			t.Errorf("after %q: it took %s to clean up", step, took)
		}
		if strings.Contains(out, "left behind") {
			t.Errorf("after %q:\n%s", step, out)
		}
		now, err := picture(dir)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, now); diff != "" {
			t.Errorf("after %q: %s\n%s", step, diff, out)
		}
		if left := processes(t, shared.Tmp+"/staging/state", shared.Tmp+"/production/state"); left != "" {
			t.Errorf("after %q these processes still run:\n%s", step, left)
		}
		t.Logf("after %q: ended %s later; %s in all", step, took.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	}
}

// interruptAfter starts c, signals it once the line of step is out, and returns its exit code, the time from the
// signal to the end, and all output.
func interruptAfter(t *testing.T, c *exec.Cmd, step string, signal syscall.Signal) (code int, took time.Duration, output string) {
	t.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	var sent time.Time
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&text, lines.Text())
		if sent.IsZero() && strings.HasPrefix(lines.Text(), "✓ "+step) {
			time.Sleep(2 * time.Millisecond)
			sent = time.Now()
			if err := c.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = c.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), time.Since(sent), text.String() + stderr.String()
}

func TestKillMinusNineLeavesStagingAsItWasAndTheNextResetCleansUp(t *testing.T) {
	dir := take(t)
	if err := shared.Far(60 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	defer shared.Far(0)
	before, err := picture(dir)
	if err != nil {
		t.Fatal(err)
	}
	interruptAfter(t, mage(dir, "staging:reset"), "empty tables", syscall.SIGKILL)
	eventually(t, "the commands on staging end", func() bool { return processes(t, shared.Tmp+"/staging/state") == "" })
	now, err := picture(dir)
	if err != nil {
		t.Fatal(err)
	}
	for key := range before {
		if strings.HasPrefix(key, "databases of staging") {
			continue // shop_incoming is left
		}
		if before[key] != now[key] {
			t.Errorf("%s has changed", key)
		}
	}
	eventually(t, "the lock ends with the connection", func() bool {
		out, err := mage(dir, "staging:plan").CombinedOutput()
		if err != nil && !strings.Contains(string(out), "another run holds the lock") {
			t.Fatalf("%v\n%s", err, out)
		}
		return err == nil
	})
	if left := query(t, shared.Staging, "postgres", "SELECT count(*) FROM pg_database WHERE datname = 'shop_incoming'"); left != "0" {
		t.Error("shop_incoming is still there after the next run")
	}
	if entries, _ := os.ReadDir(shared.Path("staging", "state", "restore")); len(entries) > 0 {
		t.Errorf("%v is still there after the next run", entries)
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// processes lists the processes whose command line names one of the folders.
func processes(t *testing.T, folders ...string) string {
	t.Helper()
	out, err := exec.Command("ps", "-eo", "pid=,args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		for _, f := range folders {
			if strings.Contains(line, f) {
				found = append(found, line)
			}
		}
	}
	return strings.Join(found, "")
}
