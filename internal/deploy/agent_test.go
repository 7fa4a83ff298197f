package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rehearsal/internal/host"
)

// answering is an agent that says what it is told.
const answering = "#!/bin/sh\n[ \"$*\" = -version ] && exit\nexec cat\n"

// words begin with what a shell's read would take away, and hold what no text does.
const words = "a line\n\xff\x00 and more"

// converse tells the agent the words, and returns its answer.
func converse(t *testing.T, a *Agent) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := a.Cmd()
	c.Stdin, c.Stdout = strings.NewReader(words), &out
	err := a.host.Run(t.Context(), c)
	return out.String(), err
}

func expect(t *testing.T, f *far) *Agent {
	t.Helper()
	ready := Find(t.Context())
	if len(ready) == 0 {
		t.Fatal("this machine has no agent")
	}
	return Expect(f.Host, ready)
}

func TestAnAgentThatIsThereIsStartedByOneCommand(t *testing.T) {
	beside(t, answering)
	f := dial(t, filepath.Join(t.TempDir(), "our state"))
	put(t, f)
	before := f.commands(t)
	got, err := converse(t, expect(t, f))
	if err != nil || got != words {
		t.Errorf("it says %q, %v", got, err)
	}
	if n := f.commands(t) - before; n != 1 {
		t.Errorf("that took %d commands", n)
	}
}

func TestNothingElseIsStartedInTheAgentsPlace(t *testing.T) {
	beside(t, answering)
	trap := filepath.Join(t.TempDir(), "trap")
	other := fmt.Sprintf("#!/bin/sh\ntouch %s\n", trap)
	for what, spoil := range map[string]func(at string) error{
		"nothing":         os.Remove,
		"another program": func(at string) error { return os.WriteFile(at, []byte(other), 0o700) },
		"one of that size": func(at string) error {
			return os.WriteFile(at, []byte(fmt.Sprintf("%-*s", len(answering), "#!/bin/sh\necho"))[:len(answering)], 0o700)
		},
		"half of it": func(at string) error { return os.Truncate(at, int64(len(answering)/2)) },
		"no program": func(at string) error { return os.Chmod(at, 0o600) },
		"a folder":   func(at string) error { return errors.Join(os.Remove(at), os.Mkdir(at, 0o700)) },
		"no state":   func(at string) error { return os.RemoveAll(filepath.Dir(at)) },
	} {
		f := dial(t, t.TempDir())
		at := put(t, f)
		if err := spoil(at); err != nil {
			t.Fatal(err)
		}
		a := expect(t, f)
		if got, err := converse(t, a); got != "" || !a.Missing(err) {
			t.Errorf("%s: it says %q, %v", what, got, err)
		}
		if what == "a folder" { // of which Put says that it is one
			continue
		}
		for range 2 {
			if err := a.Put(t.Context()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if got, err := converse(t, a); err != nil || got != words {
			t.Errorf("%s, and then put there: it says %q, %v", what, got, err)
		}
	}
	if _, err := os.Stat(trap); err == nil {
		t.Error("the other program was started")
	}
}

func TestAnAgentThatIsNotForTheHostIsMissing(t *testing.T) {
	beside(t, answering)
	bin := t.TempDir()
	write(t, filepath.Join(bin, "uname"), "#!/bin/sh\necho Linux riscv64\n")
	f := dial(t, t.TempDir(), fmt.Sprintf("PATH=%s:%s", bin, os.Getenv("PATH")))
	for _, p := range Find(t.Context()) { // somebody has brought it
		write(t, f.State(p.file()), answering)
	}
	for _, ready := range []Ready{Find(t.Context()), nil} {
		a := Expect(f.Host, ready)
		if got, err := converse(t, a); got != "" || !a.Missing(err) {
			t.Errorf("it says %q, %v", got, err)
		}
		wantRefusal(t, a.Put(t.Context()), "riscv64")
	}
}

func TestHowTheAgentItselfEndsIsNotItsAbsence(t *testing.T) {
	for ending, status := range map[string]int{"exit 1": 1, "exit 2": 2, "kill -9 $$": 128 + 9} {
		beside(t, "#!/bin/sh\n[ \"$*\" = -version ] && exit\n"+ending+"\n")
		f := dial(t, t.TempDir())
		put(t, f)
		a := expect(t, f)
		_, err := converse(t, a)
		if exit := (*host.ExitError)(nil); a.Missing(err) || !errors.As(err, &exit) || exit.Status != status {
			t.Errorf("%s: missing %v, %v", ending, a.Missing(err), err)
		}
	}
	a := &Agent{}
	for _, err := range []error{nil, io.ErrUnexpectedEOF} {
		if a.Missing(err) {
			t.Errorf("missing because of %v", err)
		}
	}
}

func TestAHostWithoutSha256sumStartsWhatHasTheSizeAndRuns(t *testing.T) {
	beside(t, answering)
	f := dial(t, t.TempDir(), "PATH="+tools(t, "sh", "uname", "wc", "mkdir", "cat", "chmod", "mv", "rm", "sleep"))
	at := put(t, f)
	a := expect(t, f)
	if got, err := converse(t, a); err != nil || got != words {
		t.Errorf("it says %q, %v", got, err)
	}
	for _, text := range []string{answering + "\n", "#!/bin/sh\nexit 1" + strings.Repeat("\n", len(answering)-len("#!/bin/sh\nexit 1"))} {
		write(t, at, text)
		if got, err := converse(t, a); got != "" || !a.Missing(err) {
			t.Errorf("another one says %q, %v", got, err)
		}
	}
}

func TestWhatThisMachineHasIsFoundWithoutBuildingIt(t *testing.T) {
	module(t)
	if ready := Find(t.Context()); len(ready) > 0 || len(cached(t)) > 0 {
		t.Errorf("found %v, built %v", ready, cached(t))
	}
	file := mustBuild(t)
	want, err := agent.read(file)
	if err != nil {
		t.Fatal(err)
	}
	ready := Find(t.Context())
	if len(ready) != 1 {
		t.Fatalf("found %v", ready)
	}
	for platform, p := range ready {
		if p.sum != want.sum || !strings.HasSuffix(file, platforms[platform]) {
			t.Errorf("found %s for %s", p.file(), platform)
		}
	}
	beside(t, answering)
	for platform, p := range Find(t.Context()) {
		if p.sum != sumOf(answering) {
			t.Errorf("for %s, the one beside is not taken", platform)
		}
	}
	t.Chdir(t.TempDir())
	if ready := Find(t.Context()); len(ready) != len(platforms) {
		t.Errorf("without the source: %v", ready)
	}
}
