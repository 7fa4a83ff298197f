package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

func TestArgumentsReachTheCommandAsTheyAre(t *testing.T) {
	noLeak(t)
	h := dial(t, serve(t))
	got := output(t, h, Cmd{Args: append([]string{"printf", `%s\0`}, nasty...)})
	if want := strings.Join(nasty, "\x00") + "\x00"; got != want {
		t.Errorf("sent %q\ngot  %q", want, got)
	}
}

func TestAScriptGetsArgumentsAndEnvironmentAsTheyAre(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	c := Cmd{Script: `printf '%s\0' "$@" "$ENV1" "$SECRET1" "$SECRET2"`, Args: nasty,
		Env: map[string]string{"ENV1": "it's\n$HOME"}, Secret: map[string]string{"SECRET1": ` \p'"$(id) `, "SECRET2": ""}}
	want := strings.Join(append(slices.Clone(nasty), "it's\n$HOME", ` \p'"$(id) `, ""), "\x00") + "\x00"
	if got := output(t, h, c); got != want {
		t.Errorf("sent %q\ngot  %q", want, got)
	}
	c.Stdin = strings.NewReader("and stdin")
	c.Script += "; cat"
	if got := output(t, h, c); got != want+"and stdin" {
		t.Errorf("with a stdin: sent %q\ngot  %q", want, got)
	}
}

func TestACommandThatCannotBeSentIsRefusedWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	for name, c := range map[string]Cmd{
		"nothing":             {},
		"NUL in an argument":  {Args: []string{"echo", "a\x00b"}},
		"no variable":         {Args: []string{"env"}, Env: map[string]string{"a b": "x"}},
		"code for a variable": {Args: []string{"env"}, Secret: map[string]string{"$(id)": "hunter2"}},
		"secret of two lines": {Args: []string{"env"}, Secret: map[string]string{"A": "hunter2\nhunter2"}},
		"too long":            {Args: []string{"echo", strings.Repeat("a", maxLine)}},
	} {
		err := h.Run(t.Context(), c)
		if err == nil || strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 300 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := output(t, h, Cmd{Args: []string{"echo", strings.Repeat("a", maxLine-1000)}}); len(got) != maxLine-1000+1 {
		t.Errorf("a long argument that still fits gave %d bytes", len(got))
	}
}

func TestAnExitStatusIsAnExitErrorWithTheEndOfStderr(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	for script, want := range map[string]int{"exit 3": 3, "kill -s TERM $$": 143, "kill -s KILL $$": 137, "no-such-program": 127} {
		err := h.Run(t.Context(), Cmd{Script: script})
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Status != want || exit.Host != "db1" {
			t.Errorf("%s: %v, want status %d", script, err, want)
		}
	}
	err := h.Run(t.Context(), Cmd{Script: `i=0; while [ $i -lt 3000 ]; do echo "line $i of stderr" >&2; i=$((i+1)); done; exit 9`, Env: map[string]string{"A": "hunter2"}})
	var exit *ExitError
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if len(exit.Stderr) != 4<<10 || !strings.HasSuffix(exit.Stderr, "line 2999 of stderr\n") {
		t.Errorf("%d bytes of stderr, ending in %q", len(exit.Stderr), exit.Stderr[len(exit.Stderr)-40:])
	}
	for _, unwanted := range []string{"rehearsal-", "hunter2", "line 2990 ", "\n"} {
		if strings.Contains(err.Error(), unwanted) {
			t.Errorf("the error holds %q: %v", unwanted, err)
		}
	}
	if !strings.Contains(err.Error(), "line 2999 of stderr") || len(err.Error()) > 400 {
		t.Errorf("the error is %v", err)
	}
}

func TestACommandWithoutStdinReadsDevNull(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	if got := output(t, h, Cmd{Args: []string{"sh", "-c", "cat; echo end"}}); got != "end\n" {
		t.Errorf("got %q", got)
	}
}

// noisy is a login shell whose start files talk, before and after the line it is given.
const noisy = `ForceCommand printf 'Welcome to db1'; echo 'rehearsal-?:1' >&2; printf 'no newline' >&2; exec sh -xc "$SSH_ORIGINAL_COMMAND"`

func TestTheNoiseOfALoginShellIsNeitherInStdoutNorInStderr(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t, noisy, "Banner /etc/passwd"))
	if got := output(t, h, Cmd{Script: "echo out"}); got != "out\n" {
		t.Errorf("stdout is %q", got)
	}
	err := h.Run(t.Context(), Cmd{Script: "echo err >&2; exit 1"})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Stderr != "err\n" {
		t.Errorf("stderr is %q (%v)", exit.Stderr, err)
	}
}

func TestALoginThatRunsNoCommandsSaysWhatItSaid(t *testing.T) {
	t.Parallel()
	_, err := Dial(t.Context(), serve(t, "ForceCommand echo This account is currently not available. >&2; exit 1"))
	if run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "currently not available") || run.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
}

func TestEveryShellWillDo(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"dash", "bash", "busybox", "ksh", "zsh"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip("not installed")
			}
			bin := t.TempDir()
			if err := os.Symlink(path, filepath.Join(bin, "sh")); err != nil {
				t.Fatal(err)
			}
			spec := serve(t, fmt.Sprintf(`ForceCommand PATH=%s:$PATH; export PATH; exec sh -c "$SSH_ORIGINAL_COMMAND"`, bin))
			proxy := proxied(t, spec)
			h := dial(t, spec)
			got := output(t, h, Cmd{Script: `printf '%s\0' "$@" "$S"`, Args: nasty, Secret: map[string]string{"S": " s "}})
			if want := strings.Join(nasty, "\x00") + "\x00 s \x00"; got != want {
				t.Errorf("sent %q\ngot  %q", want, got)
			}
			endsWithItsContext(t, h, Cmd{Script: stubborn}, 5*time.Second)
			endsWithItsConnection(t, h, Cmd{Script: stubborn}, proxy.Cut)
		})
	}
}

func TestSecretsAreInNoCommandLine(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	const secret = "hunter2-correct-horse"
	for name, stdin := range map[string]io.Reader{"without stdin": nil, "with stdin": strings.NewReader("x")} {
		got := output(t, h, Cmd{Script: `echo "$PGPASSWORD"; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' '; ps -A -o args`,
			Secret: map[string]string{"PGPASSWORD": secret}, Args: []string{"seen-in-ps"}, Stdin: stdin})
		told, listing, _ := strings.Cut(got, "\n")
		if told != secret {
			t.Errorf("%s: the command got %q", name, told)
		}
		if strings.Contains(listing, secret) {
			t.Errorf("%s: the secret is in a command line", name)
		}
		if !strings.Contains(listing, "seen-in-ps") {
			t.Errorf("%s: the listing does not even show what is in a command line", name)
		}
	}
}

func TestManyMegabytesPassIntactBothWays(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	sent := make([]byte, 64<<20)
	_, _ = rand.Read(sent)
	var got bytes.Buffer
	if err := h.Run(t.Context(), Cmd{Args: []string{"tee", "/dev/stderr"}, Stdin: bytes.NewReader(sent), Stdout: &got}); err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(sent) != sha256.Sum256(got.Bytes()) {
		t.Errorf("sent %d bytes, got %d others", len(sent), got.Len())
	}
}

func TestACommandMayLeaveItsStdinUnread(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	endless := io.LimitReader(zeros{}, 1<<40)
	if got := output(t, h, Cmd{Args: []string{"head", "-c", "3"}, Stdin: endless}); got != "\x00\x00\x00" {
		t.Errorf("got %q", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestANormalEndIsNotDelayedAndLeavesNothing(t *testing.T) {
	h := dial(t, serve(t))
	start := time.Now()
	var groups []int
	for range 5 {
		group, err := strconv.Atoi(strings.TrimSpace(output(t, h, Cmd{Script: "echo $$"})))
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, group)
	}
	if took := time.Since(start); took > 5*2*time.Second { // the watchdog's sleep, if it had one
		t.Errorf("5 commands took %v", took)
	}
	eventually(t, "no watchdog is left", time.Second, func() bool { return !slices.ContainsFunc(groups, alive) })
}

// stubborn starts children of several kinds, tells its process group, and ignores SIGTERM.
const stubborn = `trap '' TERM; sleep 20 & (sleep 20; sleep 20) & sh -c 'sleep 20 >/dev/null 2>&1 </dev/null & wait' & echo $$; sleep 20; sleep 20; sleep 20`

// alive tells whether a process group has a member that is not a zombie.
func alive(group int) bool {
	out, _ := exec.Command("ps", "-A", "-o", "pgid=,stat=").Output()
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == strconv.Itoa(group) && !strings.HasPrefix(fields[1], "Z") {
			return true
		}
	}
	return false
}

// started runs a command that prints its process group in the background.
func started(t *testing.T, ctx context.Context, h *Host, c Cmd) (group int, ended chan error) {
	t.Helper()
	from, to := io.Pipe()
	c.Stdout = to
	ended = make(chan error, 1)
	go func() { err := h.Run(ctx, c); to.CloseWithError(err); ended <- err }()
	if _, err := fmt.Fscanln(from, &group); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, from) }()
	if !alive(group) {
		t.Fatalf("group %d is not there", group)
	}
	return group, ended
}

func wait(t *testing.T, ended chan error, patience time.Duration) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		t.Fatalf("Run did not return within %v", patience)
		return nil
	}
}

func endsWithItsContext(t *testing.T, h *Host, c Cmd, patience time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	group, ended := started(t, ctx, h, c)
	cancel()
	if err := wait(t, ended, patience); !errors.Is(err, context.Canceled) || run.CodeOf(err) != run.Interrupted || strings.Contains(err.Error(), "may still run") {
		t.Errorf("got %v", err)
	}
	if alive(group) {
		t.Errorf("group %d is still alive", group)
	}
}

func endsWithItsConnection(t *testing.T, h *Host, c Cmd, end func()) {
	t.Helper()
	group, ended := started(t, t.Context(), h, c)
	end()
	if err := wait(t, ended, 3*time.Second); run.CodeOf(err) != run.Unreachable || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "the connection to db1 was lost") {
		t.Errorf("got %v", err)
	}
	eventually(t, "the command and its children have ended", 6*time.Second, func() bool { return !alive(group) })
}

func TestACancelledCommandIsGoneWhenRunReturns(t *testing.T) {
	noLeak(t)
	h := dial(t, serve(t))
	endsWithItsContext(t, h, Cmd{Script: "sleep 20 & echo $$; sleep 20"}, time.Second)
	endsWithItsContext(t, h, Cmd{Script: "sleep 20 & echo $$; exec sleep 20", Stdin: blocked(t)}, 2500*time.Millisecond)
	endsWithItsContext(t, h, Cmd{Script: stubborn}, 5*time.Second)
}

// blocked is a reader that gives nothing, for as long as the test lasts.
func blocked(t *testing.T) io.Reader {
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	return r
}

func TestADeadlineEndsACommandToo(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := h.Run(ctx, Cmd{Args: []string{"sleep", "20"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestACommandOnASilentLineIsGivenUpWhenItIsCancelled(t *testing.T) {
	t.Parallel()
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	group, ended := started(t, ctx, h, Cmd{Script: "echo $$; exec sleep 20"})
	proxy.Stall(true)
	cancel()
	if err := wait(t, ended, 7*time.Second); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "may still run") {
		t.Errorf("got %v", err)
	}
	proxy.Stall(false)
	eventually(t, "the watchdog ends the command once the line is back", 4*time.Second, func() bool { return !alive(group) })
}

func TestACommandEndsWithItsConnection(t *testing.T) {
	noLeak(t)
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	endsWithItsConnection(t, h, Cmd{Script: "sleep 20 & echo $$; sleep 20"}, proxy.Cut)
	if got := output(t, h, Cmd{Args: []string{"echo", "back"}}); got != "back\n" {
		t.Errorf("after the cut: %q", got)
	}
}

func TestACommandEndsWhenItsRunnerIsKilled(t *testing.T) {
	t.Parallel()
	spec := serve(t)
	runner := exec.Command(os.Args[0], "-test.run=^TestRunnerToBeKilled$")
	runner.Env = append(os.Environ(), "RUNNER_SPEC="+strings.Join([]string{spec.Address, spec.User, spec.Identity, spec.HostKey}, ","))
	out, err := runner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := runner.Start(); err != nil {
		t.Fatal(err)
	}
	var group int
	if _, err := fmt.Fscanln(out, &group); err != nil || !alive(group) {
		t.Fatalf("group %d: %v", group, err)
	}
	_ = runner.Process.Signal(syscall.SIGKILL)
	_ = runner.Wait()
	eventually(t, "the command and its children have ended", 5*time.Second, func() bool { return !alive(group) })
}

func TestRunnerToBeKilled(t *testing.T) {
	s := strings.Split(os.Getenv("RUNNER_SPEC"), ",")
	if len(s) != 4 {
		t.Skip("run by TestACommandEndsWhenItsRunnerIsKilled")
	}
	h, err := Dial(t.Context(), &inventory.Host{Name: "db1", Address: s[0], User: s[1], Identity: s[2], HostKey: s[3]})
	if err != nil {
		t.Fatal(err)
	}
	_ = h.Run(t.Context(), Cmd{Script: stubborn, Stdout: os.Stdout})
}

func TestASilentPeerIsNoticed(t *testing.T) {
	noLeak(t)
	hurry(t, 200*time.Millisecond)
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	_, ended := started(t, t.Context(), h, Cmd{Script: "echo $$; exec sleep 20"})
	proxy.Stall(true)
	defer proxy.Stall(false)
	start := time.Now()
	err := wait(t, ended, 2*time.Second)
	if run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "db1 stopped answering") || run.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 3*200*time.Millisecond+400*time.Millisecond {
		t.Errorf("it took %v with a heartbeat of 200ms", took)
	}
}

func TestAnIdleConnectionIsKeptAlive(t *testing.T) {
	hurry(t, 300*time.Millisecond)
	h := dial(t, serve(t))
	first := h.conns[0]
	time.Sleep(1200 * time.Millisecond)
	output(t, h, Cmd{Args: []string{"true"}})
	if h.conns[0] != first {
		t.Error("it was ended and dialled again")
	}
}

func TestAnInputThatFailsIsNotTakenForItsEnd(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	seen := filepath.Join(t.TempDir(), "complete")
	broken := errors.New("the source broke")
	err := h.Run(t.Context(), Cmd{Script: `cat >/dev/null; touch "$1"`, Args: []string{seen},
		Stdin: io.MultiReader(strings.NewReader("some data"), failing{broken})})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(seen); err == nil {
		t.Error("the command saw an end of its input")
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestAnOutputThatFailsEndsTheCommand(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	broken := errors.New("the disk is full")
	start := time.Now()
	err := h.Run(t.Context(), Cmd{Script: "echo data; exec sleep 20", Stdout: failing{broken}})
	if !errors.Is(err, broken) || time.Since(start) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

func TestOutputDoesNotTakeAStdout(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	if _, err := h.Output(t.Context(), Cmd{Args: []string{"true"}, Stdout: io.Discard}); err == nil {
		t.Error("it did")
	}
}

func TestCloseEndsWhatRuns(t *testing.T) {
	t.Parallel()
	h, err := dialled(t, serve(t))
	if err != nil {
		t.Fatal(err)
	}
	group, ended := started(t, t.Context(), h, Cmd{Script: stubborn})
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := wait(t, ended, time.Second); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v", err)
	}
	if err := h.Run(t.Context(), Cmd{Args: []string{"true"}}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("running on a closed host: %v", err)
	}
	eventually(t, "the command and its children have ended", 5*time.Second, func() bool { return !alive(group) })
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// together runs n commands, each of which ends only when all n have begun.
func together(t *testing.T, h *Host, n int) {
	t.Helper()
	folder := t.TempDir()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			err := h.Run(t.Context(), Cmd{Script: `: >"$1/$2"; i=0
while set -- "$1" "$2" "$3" "$1"/*; [ $(($# - 3)) -lt "$3" ]; do i=$((i+1)); [ $i -lt 150 ] || exit 9; sleep 0.1; done`,
				Args: []string{folder, strconv.Itoa(i), strconv.Itoa(n)}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestThirtyCommandsRunTogether(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	together(t, h, 30)
	if n := len(h.conns); n != 4 {
		t.Errorf("30 commands took %d connections, 8 sessions each", n)
	}
	together(t, h, 8)
}

func TestAHostMayAllowFewSessions(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 2} {
		t.Run(strconv.Itoa(most), func(t *testing.T) {
			t.Parallel()
			h := dial(t, serve(t, fmt.Sprintf("MaxSessions %d", most)))
			for range 5 {
				output(t, h, Cmd{Args: []string{"true"}})
			}
			together(t, h, 5)
			endsWithItsContext(t, h, Cmd{Script: "sleep 20 & echo $$; sleep 20"}, 5*time.Second)
			endsWithItsContext(t, h, Cmd{Script: stubborn}, 5*time.Second)
		})
	}
}

func TestAHostThatAllowsNoSessionSaysSo(t *testing.T) {
	t.Parallel()
	_, err := Dial(t.Context(), serve(t, "MaxSessions 0"))
	if run.CodeOf(err) != run.Unreachable || !strings.Contains(run.HintOf(err), "MaxSessions") {
		t.Errorf("got %v; %s", err, run.HintOf(err))
	}
}

func TestAWaitForASessionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	h.limit = 1
	_, ended := started(t, t.Context(), h, Cmd{Script: "echo $$; sleep 20"})
	proxy.Stall(true) // no further connection will come about
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := h.Run(ctx, Cmd{Args: []string{"true"}}); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	if len(h.queue) != 0 {
		t.Errorf("%d still wait", len(h.queue))
	}
	h.Close()
	wait(t, ended, time.Second)
}
