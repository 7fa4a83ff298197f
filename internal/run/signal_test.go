package run

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestASignalEndsTheTargetWithItsNameAfterTheCleanups(t *testing.T) {
	t.Parallel()
	for s, name := range map[os.Signal]string{syscall.SIGINT: "SIGINT", syscall.SIGTERM: "SIGTERM", syscall.SIGHUP: "SIGHUP"} {
		c := start(t, "wait", asJSON).interrupt(s)
		c.wantExit(Interrupted)
		c.wantDiary("ready\ncleaned second <nil>\ncleaned first <nil>\n")
		c.wantStderr("Error: interrupted by " + name + ": loading orders on staging\n")
		r := c.object()
		if r.ExitCode != Interrupted || r.Status != "failed" || len(r.Steps) != 1 || len(r.Warnings) != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestAnyErrorAfterAnInterruptionIsTheInterruptionWithoutItsHint(t *testing.T) {
	t.Parallel()
	c := start(t, "wait-hinted").interrupt(syscall.SIGTERM)
	c.wantExit(Interrupted)
	if got, want := c.stderr.String(), "Error: interrupted by SIGTERM: connection lost\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
	if strings.Contains(c.stdout.String(), "never begun") {
		t.Errorf("a step began on an ended context: %s", c.stdout.String())
	}
}

func TestATargetThatFinishesInSpiteOfAnInterruptionIsDone(t *testing.T) {
	t.Parallel()
	start(t, "finish-anyway").interrupt(syscall.SIGTERM).wantExit(Done)
}

func TestAContextEndedByTheCallerIsAnInterruption(t *testing.T) {
	why := errors.New("the house is on fire")
	for _, test := range []struct {
		name  string
		cause error
		want  string
	}{
		{"as mage ends it", context.Canceled, "interrupted"},
		{"with a cause", why, "interrupted: the house is on fire"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			cleaned := false
			err := Main(ctx, "test", func(ctx context.Context, target *Target) error {
				target.Cleanup("it", func(ctx context.Context) error { cleaned = true; return ctx.Err() })
				cancel(test.cause)
				return ctx.Err()
			})
			if CodeOf(err) != Interrupted || err.Error() != test.want || !errors.Is(err, context.Canceled) || !cleaned {
				t.Errorf("%v, cleaned: %v", err, cleaned)
			}
		})
	}
}

func TestWhereMageEndsTheContextFirstTheSignalStillNamesTheInterruption(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l := (&Target{}).listen(ctx)
	defer l.close()
	l.signals <- syscall.SIGINT
	if got := l.reason().Error(); got != "interrupted by SIGINT" {
		t.Error(got)
	}
}

func TestAnErrorThatComesTogetherWithASignalIsAnInterruption(t *testing.T) {
	l := (&Target{}).listen(context.Background())
	defer l.close()
	l.signals <- syscall.SIGINT
	err := conclude(l.judge(Fail(Unreachable, "", "connection lost: %w", errCause)))
	if CodeOf(err) != Interrupted || err.ExitStatus() != 130 || !errors.Is(err, errCause) {
		t.Error(err)
	}
}

func TestAStepThatDoesNotHeedTheInterruptionIsLeftBehindInTime(t *testing.T) {
	t.Parallel()
	c := start(t, "deaf", asJSON).interrupt(syscall.SIGTERM)
	c.wantExit(Interrupted)
	wantInTime(t, c, grace, 6*time.Second)
	c.wantStderr("Error: interrupted by SIGTERM: gave up after 4.5 s in the step \"load\"\n")
	r := c.object()
	if d := cmp.Diff([]string{"left behind: database"}, r.Warnings); d != "" || len(r.Steps) != 1 || r.ExitCode != Interrupted {
		t.Errorf("%+v %s", r, d)
	}
}

func TestACleanupThatHangsIsLeftBehindInTimeWithoutHidingTheFirstError(t *testing.T) {
	t.Parallel()
	c := start(t, "deaf-cleanup", asJSON).interrupt(syscall.SIGHUP)
	c.wantExit(Interrupted)
	wantInTime(t, c, grace, 6*time.Second)
	c.wantStderr("Error: interrupted by SIGHUP: gave up after 4.5 s while cleaning up database, after this: images differ\n")
	if d := cmp.Diff([]string{"left behind: database", "left behind: folder"}, c.object().Warnings); d != "" {
		t.Error(d)
	}
}

func TestAPanicWhoseCleanupHangsIsAnInterruptionToo(t *testing.T) {
	t.Parallel()
	c := start(t, "deaf-cleanup", asJSON, "RUN_TEST_PANIC=1").interrupt(syscall.SIGTERM)
	c.wantExit(Interrupted)
	c.wantStderr("while cleaning up database, after this: panic: boom\n")
	if r := c.object(); r.ExitCode != Interrupted {
		t.Errorf("%+v", r)
	}
}

func TestACleanupThatHeedsItsContextLeavesTimeForTheOthers(t *testing.T) {
	t.Parallel()
	c := start(t, "slow-cleanup", asJSON).interrupt(syscall.SIGTERM)
	c.wantExit(Interrupted)
	wantInTime(t, c, grace-windUp, 6*time.Second)
	c.wantDiary("ready\ncleaned folder context canceled\n")
	if d := cmp.Diff([]string{"left behind: database: context canceled"}, c.object().Warnings); d != "" {
		t.Error(d)
	}
}

func TestASecondSIGINTEndsTheProcessAtOnce(t *testing.T) {
	t.Parallel()
	c := start(t, "deaf", asJSON).interrupt(syscall.SIGINT)
	time.Sleep(100 * time.Millisecond)
	c.cmd.Process.Signal(syscall.SIGINT)
	c.wantExit(Interrupted)
	wantInTime(t, c, 0, 2*time.Second)
	c.wantStderr("gave up at the second SIGINT")
	c.object()
}

func TestASecondSIGTERMLeavesTheCleanupsTheirTime(t *testing.T) {
	t.Parallel()
	c := start(t, "slow-cleanup").interrupt(syscall.SIGTERM)
	time.Sleep(100 * time.Millisecond)
	c.cmd.Process.Signal(syscall.SIGTERM)
	c.wantExit(Interrupted)
	wantInTime(t, c, grace-windUp, 6*time.Second)
	if strings.Contains(c.stderr.String(), "gave up") {
		t.Error(c.stderr.String())
	}
}

func TestAStdoutThatNobodyReadsDoesNotKeepAnInterruptedTarget(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := command(t, "blocked")
	c.cmd.Stdout = w
	c.start()
	w.Close()
	c.interrupt(syscall.SIGTERM).wantExit(Interrupted)
	wantInTime(t, c, grace, 6*time.Second)
	c.wantStderr("Error: interrupted by SIGTERM: gave up after 4.5 s\n")
}

func wantInTime(t *testing.T, c *child, from, to time.Duration) {
	t.Helper()
	if took := time.Since(c.started); took < from-50*time.Millisecond || took > to {
		t.Errorf("took %v, want between %v and %v", took, from, to)
	}
}

func TestSignalsAreGivenBackWhenATargetHasEnded(t *testing.T) {
	t.Parallel()
	c := start(t, "ok", "RUN_TEST_LINGER=1")
	c.awaitDiary("ended")
	c.cmd.Process.Signal(syscall.SIGTERM)
	if c.wait(); c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("%v", c.cmd.ProcessState)
	}
}

func TestUnderNohupATargetGoesOnAfterSIGHUP(t *testing.T) {
	t.Parallel()
	nohup, err := exec.LookPath("nohup")
	if err != nil {
		t.Skip(err)
	}
	c := command(t, "wait")
	c.cmd.Path, c.cmd.Args = nohup, []string{"nohup", os.Args[0]}
	c.start().interrupt(syscall.SIGHUP)
	time.Sleep(300 * time.Millisecond)
	c.wantDiary("ready\n")
	c.cmd.Process.Signal(syscall.SIGTERM)
	c.wantExit(Interrupted)
	c.wantStderr("interrupted by SIGTERM")
}

func TestATargetEndsWithTheMageThatStartedIt(t *testing.T) {
	t.Parallel()
	c := orphan(t, "mage")
	c.awaitDiary("cleaned first <nil>")
	if took := time.Since(c.started); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestATargetOutlivesAnyOtherParent(t *testing.T) {
	t.Parallel()
	c := orphan(t, "sh")
	time.Sleep(1200 * time.Millisecond)
	c.wantDiary("ready\n")
}

func killOrphan(t *testing.T, pidFile string) {
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Error(err)
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Error(err)
		return
	}
	syscall.Kill(pid, syscall.SIGKILL) // it may have ended, as it should
}

// orphan starts the target "wait" from a shell of that name, and kills the shell.
func orphan(t *testing.T, name string) *child {
	t.Helper()
	shell := filepath.Join(t.TempDir(), name)
	if err := os.Symlink("/bin/sh", shell); err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	c := command(t, "wait")
	c.cmd.Path = shell
	c.cmd.Args = []string{shell, "-c", `"$1" >/dev/null 2>&1 & echo $! >"$2"; wait`, "sh", os.Args[0], pidFile}
	c.start()
	t.Cleanup(func() { killOrphan(t, pidFile) })
	c.interrupt(syscall.SIGKILL).wait()
	return c
}
