package bench

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// target runs f as a target of its own, cleanups included.
func target(t *testing.T, f func(ctx context.Context, t *run.Target) error) error {
	t.Helper()
	return run.Main(t.Context(), "bench", f)
}

// tiny are options of a run that measures next to nothing, in folders of the test's.
func tiny(t *testing.T, only string) Options {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "rehearsal")
	c := exec.Command("go", "tool", "mage", "-compile", binary)
	c.Dir = filepath.Join("..", "..")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("mage -compile: %v\n%s", err, out)
	}
	return Options{Dir: filepath.Join(dir, "labs"), Binary: binary, Only: only, Rounds: 1, Write: filepath.Join(dir, "docs", "benchmarks.md"),
		Rows: 6000, Files: minFiles, Many: 300, Distance: 10 * time.Millisecond}
}

func TestARestoreIsMeasuredForEveryContenderWrittenDownAndLeavesNothing(t *testing.T) {
	o := tiny(t, "restore")
	var hosts string
	err := target(t, func(ctx context.Context, tg *run.Target) error {
		err := Run(ctx, tg, o)
		text, _ := os.ReadFile(filepath.Join(o.Dir, "bench", "lab.json"))
		_, hosts, _ = strings.Cut(string(text), `"Tmp": "`)
		hosts, _, _ = strings.Cut(hosts, `"`)
		lineIs(t, hosts, "delay 10ms") // the last contender had it far away
		l, openErr := lab.Open(filepath.Join(o.Dir, "bench"))
		if openErr == nil {
			openErr = (&arena{lab: l, distance: time.Hour}).place(near)
		}
		lineIs(t, hosts, "delay 0s")
		return errors.Join(err, openErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.Write)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		_, row, _ := strings.Cut(string(text), "\n| "+f+" | ")
		if small := f == at(torn, maskedWhole); strings.HasPrefix(row, "not measured") != small || !small && !strings.HasPrefix(strings.TrimLeft(row, "0123456789"), ".") {
			t.Errorf("of %s the report says %.30q", f, row)
		}
	}
	for _, c := range contenders {
		if line := passedIn(string(text), c.String()); (c.trial == near) != (line == "") {
			t.Errorf("%s: %q has gone over the line", c, line)
		}
	}
	for _, gone := range []string{hosts, o.Dir} {
		if _, err := os.Stat(gone); !os.IsNotExist(err) {
			t.Errorf("%q is still there: %v", gone, err)
		}
	}
}

// lineIs checks what the line to the lab's backup host is like.
func lineIs(t *testing.T, hosts, like string) {
	t.Helper()
	if status, err := lab.ProxyControl(filepath.Join(hosts, "far.sock"), "status"); err != nil || !strings.Contains(status, like) {
		t.Errorf("the line is %q, not %q: %v", status, like, err)
	}
}

// passedIn is what a report says has gone over the line for a contender.
func passedIn(report, contender string) string {
	_, costs, _ := strings.Cut(report, "### What it costs")
	_, row, _ := strings.Cut(costs, "\n| "+contender+" | ")
	if cells := strings.Split(row, " | "); len(cells) > 3 {
		return cells[2]
	}
	return "nothing is said of what"
}

func TestTheLineIsCutTenTimesAtMostAndOnlyWhileBytesCome(t *testing.T) {
	const M = cutLeast
	for _, c := range []struct{ bytes, come, stop, want int64 }{{0, M, 10 * M, 5}, {0, M, 100 * M, 10}, {110 * M, M, 20 * M, 1}, {22 * M, M, 22 * M, 8}, {0, 0, 0, 0}} {
		ctx, end := context.WithCancel(t.Context())
		var seen, looks int64
		passed := func() (int64, error) {
			if looks++; looks > 40 || seen >= c.stop && c.stop > 0 {
				end()
			} else {
				seen += c.come
			}
			return seen, nil
		}
		cuts, err := cutEach(ctx, c.bytes, 0, passed, func() error { return nil })
		if end(); int64(cuts) != c.want || err != nil {
			t.Errorf("%+v: cut %d times, %v", c, cuts, err)
		}
	}
	broken := errors.New("no such proxy")
	more := int64(0)
	cuts, err := cutEach(t.Context(), 0, 0, func() (int64, error) { more += M; return more, nil }, func() error { return broken })
	if cuts != 0 || !errors.Is(err, broken) {
		t.Errorf("%d cuts, %v", cuts, err)
	}
}

func TestASecondBenchmarkIsRefusedWhileTheFirstRuns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "labs")
	err := target(t, func(_ context.Context, first *run.Target) error {
		if err := lock(first, dir); err != nil {
			return err
		}
		err := target(t, func(_ context.Context, second *run.Target) error { return lock(second, dir) })
		if run.CodeOf(err) != run.Locked {
			t.Errorf("code %d: %v", run.CodeOf(err), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := target(t, func(_ context.Context, third *run.Target) error { return lock(third, dir) }); err != nil {
		t.Errorf("after the first: %v", err)
	}
}

func TestTooFewRowsAndTooLittleDiskAreRefused(t *testing.T) {
	err := target(t, func(ctx context.Context, tg *run.Target) error {
		return Run(ctx, tg, Options{Rows: minRows - 1, Files: minFiles, Rounds: 1})
	})
	if run.CodeOf(err) != run.Usage {
		t.Errorf("code %d: %v", run.CodeOf(err), err)
	}
	if err := room("/tmp", "-rows", 1<<50, bytesPerRow); run.CodeOf(err) != run.Usage {
		t.Errorf("code %d: %v", run.CodeOf(err), err)
	}
	if err := room("/tmp", "-rows", minRows, bytesPerRow); err != nil {
		t.Error(err)
	}
}
