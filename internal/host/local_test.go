package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

const testHere = "TestThisMachineDoesWhatAHostOverSSHDoes"

func TestThisMachineDoesWhatAHostOverSSHDoes(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"arguments":               TestArgumentsReachTheCommandAsTheyAre,
		"scripts":                 TestAScriptGetsArgumentsAndEnvironmentAsTheyAre,
		"refused commands":        TestACommandThatCannotBeSentIsRefusedWithoutItsSecrets,
		"exit statuses":           TestAnExitStatusIsAnExitErrorWithTheEndOfStderr,
		"no stdin":                TestACommandWithoutStdinReadsDevNull,
		"secrets":                 TestSecretsAreInNoCommandLine,
		"megabytes":               TestManyMegabytesPassIntactBothWays,
		"an unread stdin":         TestACommandMayLeaveItsStdinUnread,
		"a normal end":            TestANormalEndIsNotDelayedAndLeavesNothing,
		"cancel":                  TestACancelledCommandIsGoneWhenRunReturns,
		"deadline":                TestADeadlineEndsACommandToo,
		"a failing input":         TestAnInputThatFailsIsNotTakenForItsEnd,
		"a failing output":        TestAnOutputThatFailsEndsTheCommand,
		"output":                  TestOutputDoesNotTakeAStdout,
		"close":                   TestCloseEndsWhatRuns,
		"thirty":                  func(t *testing.T) { together(t, local(t), 30) },
		"files":                   TestAFileIsWrittenUnderAnyName,
		"files that cannot be":    TestAFileThatCannotBeWrittenLeavesNothing,
		"sockets":                 TestASocketOfTheHostIsReachedWithDeadlines,
		"the end of a tunnel":     TestATunnelEndsWhenTheOtherSideCloses,
		"reading":                 TestAFileIsReadByteByByteAtTheEdgesOfItsSpans,
		"reading what is not":     TestAFileThatCannotBeReadIsNamed,
		"cancelling a Read":       TestACancelledReadLeavesNothingOnTheHost,
		"closing while it reads":  TestCloseEndsReads,
		"writing":                 TestAFileIsWrittenByteByByteAtTheEdgesOfItsChunks,
		"cancelling a Write":      TestACancelledWriteLeavesNothingOnTheHost,
		"closing while it writes": TestCloseEndsWrites,
	} {
		t.Run(name, test)
	}
}

// local is this machine for the length of the test.
func local(t *testing.T) *Host {
	t.Helper()
	return dial(t, &inventory.Host{Name: "db1"})
}

func TestACommandHereBeginsAsOneOfSSHDDoes(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "/nowhere")
	t.Setenv("REHEARSAL_SEEN", "yes")
	got := output(t, local(t), Cmd{Script: `set -- $(ps -o pid=,pgid=,sid= -p $$)
[ $1 = $2 ] && [ $1 = $3 ] && echo leads
pwd; echo "$SSH_AUTH_SOCK"; echo $REHEARSAL_SEEN`})
	home, err := filepath.EvalSymlinks(os.Getenv("HOME"))
	if want := "leads\n" + home + "\n\nyes\n"; got != want || err != nil {
		t.Errorf("got %q, want %q (%v)", got, want, err)
	}
}

func TestPathsHereAreBelowHOME(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	if got, want := local(t).State("x"), os.Getenv("HOME")+"/.rehearsal/x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	t.Setenv("HOME", "")
	if _, err := Local(&inventory.Host{Name: "db1"}); run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "home") {
		t.Errorf("without a HOME: %v", err)
	}
}

func TestCloseReturnsWhenNothingRunsHereAnyMore(t *testing.T) {
	noLeak(t)
	complete := filepath.Join(t.TempDir(), "complete")
	for name, c := range map[string]Cmd{
		"deaf":    {Script: stubborn},
		"reading": {Script: `echo $$; while read -r line; do :; done; : >"$1"`, Args: []string{complete}, Stdin: blocked(t)},
	} {
		h, err := Local(&inventory.Host{Name: "db1"})
		if err != nil {
			t.Fatal(err)
		}
		group, ended := started(t, t.Context(), h, c)
		h.Close()
		if alive(group) {
			t.Errorf("%s: group %d is alive after Close", name, group)
		}
		if err := wait(t, ended, 5*time.Second); err == nil || !strings.HasSuffix(err.Error(), " on db1: the connection to db1 is closed") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := os.Stat(complete); err == nil {
		t.Error("a command took the end of its stdin for that of the data")
	}
}

func TestACommandHereThatCannotBeEndedTakesNoOtherWithIt(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip(err)
	}
	h := local(t)
	other, ended := started(t, t.Context(), h, Cmd{Script: "echo $$; exec sleep 20"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, left := started(t, ctx, h, Cmd{Script: `trap '' HUP; setsid sleep 10 & echo $$; wait`})
	cancel()
	if err := wait(t, left, 10*time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	select {
	case err := <-ended:
		t.Errorf("the other command ended: %v", err)
	default:
	}
	if !alive(other) || output(t, h, Cmd{Args: []string{"echo", "still"}}) != "still\n" {
		t.Error("the other command, or the next, does not run")
	}
}

func TestACommandHereEndsWhenItsProgramIsKilled(t *testing.T) {
	t.Parallel()
	program := exec.Command(os.Args[0], "-test.run=^TestProgramToBeKilled$")
	program.Env = append(os.Environ(), "PROGRAM_TO_BE_KILLED=yes")
	out, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	var group int
	if _, err := fmt.Fscanln(out, &group); err != nil || !alive(group) {
		t.Fatalf("group %d: %v", group, err)
	}
	_ = program.Process.Signal(syscall.SIGKILL)
	_ = program.Wait()
	eventually(t, "the command and its children have ended", 5*time.Second, func() bool { return !alive(group) })
}

func TestProgramToBeKilled(t *testing.T) {
	if os.Getenv("PROGRAM_TO_BE_KILLED") == "" {
		t.Skip("run by TestACommandHereEndsWhenItsProgramIsKilled")
	}
	_ = local(t).Run(t.Context(), Cmd{Script: stubborn, Stdout: os.Stdout})
}

func TestASocketHereThatNobodyListensOnIsRefused(t *testing.T) {
	t.Parallel()
	h := local(t)
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{filepath.Join(dir, "none"), file} {
		if err := opens(t, h, "unix", addr); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), addr+" on db1") {
			t.Errorf("got %v", err)
		}
	}
	if err := opens(t, h, "tcp", "127.0.0.1:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
	if os.Geteuid() == 0 {
		return // whom no permissions keep out
	}
	closed := socket(t, "unix")
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	if err := opens(t, h, "unix", closed); run.CodeOf(err) != run.Unreachable || !strings.Contains(run.HintOf(err), "unix_socket_permissions") {
		t.Errorf("got %v; next: %s", err, run.HintOf(err))
	}
}

func TestCloseEndsSocketsHere(t *testing.T) {
	addr := socket(t, "unix")
	noLeak(t)
	h, err := Local(&inventory.Host{Name: "db1"})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := h.DialContext(t.Context(), "unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading after Close: %v", err)
	}
	conn.Close()
	if err := opens(t, h, "unix", addr); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("dialling after Close: %v", err)
	}
}
