package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rehearsal/internal/run"
)

// target runs f as a target of its own, cleanups included.
func target(t *testing.T, f func(ctx context.Context, t *run.Target) error) error {
	t.Helper()
	return run.Main(t.Context(), "bench", f)
}

func TestABenchmarkMeasuresEveryContenderWritesItDownAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "rehearsal")
	c := exec.Command("go", "tool", "mage", "-compile", binary)
	c.Dir = filepath.Join("..", "..")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("mage -compile: %v\n%s", err, out)
	}
	o := Options{Dir: filepath.Join(dir, "labs", "bench"), Binary: binary, Rows: 6000, Rounds: 1, Write: filepath.Join(dir, "docs", "benchmarks.md")}
	var hosts string
	err := target(t, func(ctx context.Context, tg *run.Target) error {
		err := Run(ctx, tg, o)
		text, _ := os.ReadFile(filepath.Join(o.Dir, "lab.json"))
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
		if !strings.Contains(string(text), "\n| "+f.name+" | ") {
			t.Errorf("the report says nothing of %s", f.name)
		}
	}
	for _, gone := range []string{hosts, filepath.Dir(o.Dir)} {
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
		return Run(ctx, tg, Options{Rows: minRows - 1, Rounds: 1})
	})
	if run.CodeOf(err) != run.Usage {
		t.Errorf("code %d: %v", run.CodeOf(err), err)
	}
	if err := room(1 << 50); run.CodeOf(err) != run.Usage {
		t.Errorf("code %d: %v", run.CodeOf(err), err)
	}
	if err := room(minRows); err != nil {
		t.Error(err)
	}
}
