package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.Write)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		if !strings.Contains(string(text), "\n| "+f+" | ") {
			t.Errorf("the report says nothing of %s", f)
		}
	}
	for _, gone := range []string{hosts, o.Dir} {
		if _, err := os.Stat(gone); !os.IsNotExist(err) {
			t.Errorf("%q is still there: %v", gone, err)
		}
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
