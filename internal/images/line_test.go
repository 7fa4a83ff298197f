package images

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// until waits for a condition, which ought to come soon on any machine.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: that never comes", what)
		}
	}
}

// behind puts a line between us and the host of a tree.
func behind(t *testing.T, tr inventory.Tree, rtt time.Duration) *lab.Proxy {
	t.Helper()
	p, err := lab.NewProxy(tr.Host.Address, rtt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	tr.Host.Address = p.Addr()
	return p
}

// outcome is what stores.verify returns.
type outcome struct {
	found  []string
	fields map[string]any
	code   run.Code
}

// verifying runs images:verify meanwhile.
func (s *stores) verifying(t *testing.T) <-chan outcome {
	ended, result := make(chan struct{}), make(chan outcome, 1)
	go func() {
		defer close(ended)
		var o outcome
		o.found, o.fields, o.code = s.verify(t, Options{})
		result <- o
	}()
	t.Cleanup(func() { <-ended })
	return result
}

// many writes n files of 50 kB into both trees, old enough to be believed from the first reading on.
func (s *stores) many(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		name, data := fmt.Sprintf("many/%02d/%03d.dat", i/20, i), bytes.Repeat([]byte{byte(i)}, 50_000)
		s.write(t, s.production, name, data)
		s.write(t, s.backup, name, data)
	}
	time.Sleep(1100 * time.Millisecond)
}

// hasRead is how many bytes the agents on a host have read, its ssh connection's few included.
func hasRead(t *testing.T, host *inventory.Host) (n int64) {
	for _, pid := range agents(t, host) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
		var one int64
		_, _ = fmt.Sscanf(string(text), "rchar: %d", &one)
		n += one
	}
	return n
}

func wantNoAgents(t *testing.T, s *stores) {
	t.Helper()
	for _, tr := range []inventory.Tree{s.Production[0], s.Backup[0]} {
		for _, pid := range agents(t, tr.Host) {
			t.Errorf("agent %d still runs on %s", pid, tr.Host.Name)
		}
	}
}

func warned(fields map[string]any, of string) bool {
	return strings.Contains(fmt.Sprint(fields["warnings"]), of)
}

func number(t *testing.T, fields map[string]any, key string) (n int64) {
	t.Helper()
	if _, err := fmt.Sscan(fmt.Sprint(fields[key]), &n); err != nil {
		t.Fatalf("%s is %v: %v", key, fields[key], err)
	}
	return n
}

// forget removes the index of a host, so that everything is read again there.
func forget(t *testing.T, host *inventory.Host) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(host.State, "images")); err != nil {
		t.Fatal(err)
	}
}

func TestARunOutlivesItsLine(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	s.many(t, 100)
	line := behind(t, s.Production[0], 0)
	production, backup := s.Production[0].Host, s.Backup[0].Host
	s.ReadLimit = 3e6 // all is read in 1.7 s
	t.Run("that is cut, with little of what was read", func(t *testing.T) {
		result := s.verifying(t)
		until(t, "a part is read on production", func() bool { return hasRead(t, production) > 12e5 })
		line.Cut()
		got := <-result
		wantFound(t, got.found)
		wantCode(t, got.code, run.Done)
		wantField(t, got.fields, "identical", 113)
		if !warned(got.fields, "going on in") {
			t.Errorf("the warnings are %s", got.fields["warnings"])
		}
		all := 2 * number(t, got.fields, "bytes") // what the agent had read that was lost is not among it
		if read := number(t, got.fields, "read_bytes"); read > all-6e5 {
			t.Errorf("after the cut, %d bytes of %d were read", read, all)
		}
		wantNoAgents(t, s)
		if left, _ := filepath.Glob(filepath.Join(production.State, "images", "*", "index.partial")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("that is silent for a while, without a word", func(t *testing.T) {
		forget(t, production)
		s.alter(t, s.backup, "b.jpg")
		result := s.verifying(t)
		until(t, "a part is read on production", func() bool { return hasRead(t, production) > 6e5 })
		line.Stall(true)
		until(t, "all is read on production", func() bool { return hasRead(t, production) > 50e5 })
		line.Stall(false)
		got := <-result
		wantFound(t, got.found, `different backup "b.jpg"`)
		wantCode(t, got.code, run.Differ)
		if warned(got.fields, "going on in") {
			t.Errorf("the warnings are %s", got.fields["warnings"])
		}
		wantNoAgents(t, s)
		s.write(t, s.backup, "b.jpg", drawn(t, 1))
	})
	t.Run("that is cut while the other side still reads", func(t *testing.T) {
		forget(t, backup)
		s.alter(t, s.backup, "a.jpg")
		result := s.verifying(t)
		until(t, "production's agent is there", func() bool { return hasRead(t, production) > 0 })
		until(t, "a part is read on the backup", func() bool { return hasRead(t, backup) > 6e5 })
		line.Cut() // production's agent is through, and waits to list what differs
		got := <-result
		wantFound(t, got.found, `different unknown "a.jpg"`)
		wantCode(t, got.code, run.Differ)
		wantNoAgents(t, s)
	})
}
