package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"rehearsal/internal/images/wire"
	"rehearsal/internal/run"
)

// A static program reads the clock without asking anybody who could lie to it. So the agent of these tests is one that
// stands before the real one and alters what it says of its clock.
const (
	clockAgent = "REHEARSAL_TEST_CLOCK_AGENT" // the real one
	clockAhead = "REHEARSAL_TEST_CLOCK_AHEAD"
)

func init() {
	if real := os.Getenv(clockAgent); real != "" {
		if err := otherClock(real, os.Getenv(clockAhead)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

func otherClock(real, by string) error {
	ahead, err := time.ParseDuration(by)
	if err != nil {
		return err
	}
	agent := exec.Command(real)
	agent.Stdin, agent.Stderr = os.Stdin, os.Stderr
	said, err := agent.StdoutPipe()
	if err != nil {
		return err
	}
	if err := agent.Start(); err != nil {
		return err
	}
	in, out := wire.NewConn(said, nil), wire.NewConn(nil, os.Stdout)
	for {
		t, payload, err := in.Read()
		if err != nil {
			return agent.Wait()
		}
		var hello wire.Greeting
		if t != wire.Hello {
			err = out.Write(t, payload)
		} else if err = json.Unmarshal(payload, &hello); err == nil {
			hello.Clock = hello.Clock.Add(ahead)
			err = out.WriteJSON(t, hello)
		}
		if err != nil {
			return err
		}
	}
}

// realAgent puts the agent on production, and returns where.
func (s *stores) realAgent(t *testing.T) string {
	t.Helper()
	if _, _, code := s.verify(t, Options{}); code != run.Done {
		t.Fatal("the trees are not identical at first")
	}
	real, err := filepath.Glob(filepath.Join(s.Production[0].Host.State, "agent-*"))
	if err != nil || len(real) != 1 {
		t.Fatalf("agents: %v, %v", real, err)
	}
	return real[0]
}

// clocks has agents put on both hosts from now on whose clocks are ahead of ours by so much.
func (s *stores) clocks(t *testing.T, real string, production, backup time.Duration) {
	t.Helper()
	us, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
[ "$1" = -version ] && exec '%[1]s' -version
case $0 in
'%[2]s'/*) ahead=%[3]v ;;
*) ahead=%[4]v ;;
esac
%[5]s='%[1]s' %[6]s=$ahead exec '%[7]s'
`, real, s.Backup[0].Host.State, backup, production, clockAgent, clockAhead, us)
	beside := filepath.Join(filepath.Dir(us), "rehearsal-agent-linux-"+runtime.GOARCH)
	err = os.WriteFile(beside, []byte(script), 0o700)
	if errors.Is(err, fs.ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(beside) })
}

func TestEachSidesFilesAreYoungByItsOwnClock(t *testing.T) {
	s := twoHosts(t)
	real := s.realAgent(t)
	s.clocks(t, real, -2*time.Second, 20*time.Second)
	_, fields, code := s.verify(t, Options{})
	wantCode(t, code, run.Done)
	if warned(fields, "the clock of production") || !warned(fields, "the clock of backup is ") {
		t.Errorf("the warnings are %s", fields["warnings"])
	}

	s.clocks(t, real, -2*time.Hour, 2*time.Hour)
	now := time.Now()
	add := func(root, name string, hours time.Duration, data []byte) {
		t.Helper()
		s.write(t, root, name, data)
		if err := os.Chtimes(filepath.Join(root, name), now, now.Add(-hours*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	// By our clock, those of 27 hours would be late and those of 25 young.
	add(s.production, "new.jpg", 27, drawn(t, 1))
	add(s.production, "late.jpg", 29, drawn(t, 1))
	add(s.backup, "young.jpg", 23, drawn(t, 1))
	add(s.backup, "extra.jpg", 25, drawn(t, 1))
	// The same size and mtime are the same upload, whatever the clocks say.
	add(s.production, "a.jpg", 1, append(drawn(t, 1), 1))
	add(s.backup, "a.jpg", 1, append(drawn(t, 1), 2))
	found, fields, code := s.verify(t, Options{})
	wantFound(t, found, `pending backup "new.jpg"`, `missing backup "late.jpg"`, `pending backup "young.jpg"`, `extra backup "extra.jpg"`, `different unknown "a.jpg"`)
	wantCode(t, code, run.Differ)
	for _, side := range []string{"production", "backup"} {
		if !warned(fields, "the clock of "+side+" is ") {
			t.Errorf("the warnings are %s", fields["warnings"])
		}
	}
}
