package images

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// isThrough tells whether a host's agent has walked and read to the end: its index is in its place.
func isThrough(t *testing.T, host *inventory.Host) bool {
	t.Helper()
	sealed, err := filepath.Glob(filepath.Join(host.State, "images", "*", "index"))
	if err != nil {
		t.Fatal(err)
	}
	return len(sealed) > 0
}

// sooner waits until ok, or for the end of a run that comes first: a login is given up after a while.
func sooner(result <-chan outcome, ok func() bool) (o outcome, ended bool) {
	for !ok() {
		select {
		case o := <-result:
			return o, true
		case <-time.After(5 * time.Millisecond):
		}
	}
	return o, false
}

func TestAHostWalksWhileAnotherIsLoggedInTo(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	line := behind(t, s.Backup[0], 0)
	for attempt := 1; ; attempt++ {
		line.Stall(true)
		result := s.verifying(t)
		got, ended := sooner(result, func() bool { return isThrough(t, s.Production[0].Host) })
		if isThrough(t, s.Backup[0].Host) {
			t.Error("the backup, which cannot have been reached, is through")
		}
		line.Stall(false)
		if !ended {
			got = <-result
		}
		if got.code == run.Unreachable && attempt < 4 { // the machine was slower than the login is patient
			forget(t, s.Production[0].Host)
			continue
		}
		wantFound(t, got.found)
		wantCode(t, got.code, run.Done)
		wantField(t, got.fields, "identical", 13)
		var walked float64
		if _, err := fmt.Sscan(fmt.Sprint(got.fields["walk_seconds"]), &walked); err != nil || walked <= 0 {
			t.Errorf("it walked %v seconds, %v", got.fields["walk_seconds"], err)
		}
		wantNoAgents(t, s)
		return
	}
}

func TestAHostThatIsNotReachedEndsTheWalkOfTheOther(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	s.many(t, 100)
	s.ReadLimit = 100e3 // a minute
	line := behind(t, s.Backup[0], 0)
	line.Stall(true)
	result := s.verifying(t)
	got, ended := sooner(result, func() bool { return s.scanning(t) })
	line.Close()
	if !ended {
		got = <-result
	}
	wantCode(t, got.code, run.Unreachable)
	if isThrough(t, s.Production[0].Host) {
		t.Error("production was read to the end")
	}
	wantNoAgents(t, s)
}

func TestAnAgentThatIsGoneOrSpoiledIsPutThereAgain(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	for what, spoil := range map[string]func(at string) error{
		"as it was": func(string) error { return nil },
		"gone":      os.Remove,
		"cut short": func(at string) error { return os.Truncate(at, 1000) },
	} {
		got := <-s.verifying(t)
		wantCode(t, got.code, run.Done)
		found, err := filepath.Glob(filepath.Join(s.Backup[0].Host.State, "agent-*"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: the agents are %q, %v", what, found, err)
		}
		if err := spoil(found[0]); err != nil {
			t.Fatal(err)
		}
		got = <-s.verifying(t)
		wantFound(t, got.found)
		wantCode(t, got.code, run.Done)
		wantField(t, got.fields, "identical", 13)
		if warned(got.fields, "deploy") || warned(got.fields, "going on in") {
			t.Errorf("%s: the warnings are %s", what, got.fields["warnings"])
		}
	}
}
