package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehearsal/internal/images/wire"
)

// line is an agent at the other end of two pipes of the system.
type line struct {
	*wire.Conn
	in, out *os.File // ours
	ended   chan struct{}
}

func serving(t *testing.T, silence time.Duration) *line {
	t.Helper()
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(theirOut.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	l := &line{Conn: wire.NewConn(out, in), in: in, out: out, ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		defer theirOut.Close()
		defer theirIn.Close()
		_ = serve(theirIn, theirOut, silence)
	}()
	t.Cleanup(func() {
		in.Close()
		out.Close()
		<-l.ended
	})
	return l
}

func (l *line) wantEnd(t *testing.T) {
	t.Helper()
	select {
	case <-l.ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the agent goes on")
	}
}

// files makes a tree, old enough to be believed from the first reading on.
func files(t *testing.T, folders, size int) (root string, all int64) {
	t.Helper()
	root = t.TempDir()
	for i := range folders {
		dir := filepath.Join(root, fmt.Sprintf("%03d%s", i, strings.Repeat("x", 247)))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "a"), bytes.Repeat([]byte{byte(i)}, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(1100 * time.Millisecond)
	return root, int64(folders) * int64(size)
}

func (l *line) scan(t *testing.T, root, state string, limit int64) {
	t.Helper()
	req := wire.ScanRequest{Version: wire.Version, Root: root, State: state, Algorithm: "blake3", Limit: limit}
	if err := l.WriteJSON(wire.Scan, req); err != nil {
		t.Fatal(err)
	}
}

// heard reads an answer up to the frame that enough says ends it.
func (l *line) heard(t *testing.T, enough func(wire.Type, []byte) bool) {
	t.Helper()
	for {
		frame, payload, err := l.Read()
		if err != nil {
			t.Fatal(err)
		}
		if frame == wire.Failed {
			t.Fatalf("failed: %s", payload)
		}
		if enough(frame, payload) {
			return
		}
	}
}

func TestAnAgentThatIsLeftAloneKeepsWhatItHasRead(t *testing.T) {
	root, all := files(t, 120, 50_000)
	state := t.TempDir()
	first := serving(t, time.Second)
	first.scan(t, root, state, 15e5) // 4 s
	var count wire.Count
	first.heard(t, func(frame wire.Type, payload []byte) bool {
		if err := first.Write(wire.Ping, nil); err != nil {
			t.Fatal(err)
		}
		if frame == wire.Progress {
			if err := json.Unmarshal(payload, &count); err != nil {
				t.Fatal(err)
			}
		}
		return count.ReadBytes > 6e5
	})
	go io.Copy(io.Discard, first.out) // the line takes everything, and nobody answers
	first.wantEnd(t)

	second := serving(t, time.Minute)
	second.scan(t, root, state, 0)
	var hello wire.Greeting
	var sum wire.Summary
	second.heard(t, func(frame wire.Type, payload []byte) bool {
		var err error
		switch frame {
		case wire.Hello:
			err = json.Unmarshal(payload, &hello)
		case wire.Totals:
			err = json.Unmarshal(payload, &sum)
		}
		if err != nil {
			t.Fatal(err)
		}
		return frame == wire.Done
	})
	if !hello.Resumed || sum.ReadBytes > all-count.ReadBytes+3e5 {
		t.Errorf("resumed %v, %d bytes of %d were read again, %d before", hello.Resumed, sum.ReadBytes, all, count.ReadBytes)
	}
}

// A line that takes nothing any more holds the agent in the middle of a write.
func TestAnAgentWhoseWordsNobodyTakesEnds(t *testing.T) {
	root, _ := files(t, 200, 1) // 50 kB of digests
	state := t.TempDir()
	l := serving(t, 300*time.Millisecond)
	l.scan(t, root, state, 0)
	l.wantEnd(t)
	if _, err := os.Stat(filepath.Join(state, "index")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an index of a scan that nobody has heard of: %v", err)
	}
}
