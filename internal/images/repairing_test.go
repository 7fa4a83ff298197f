package images

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// repairStore has a program that is this test run images:repair on the store, so that it can be sent a signal.
const repairStore = "REHEARSAL_TEST_REPAIR"

func init() {
	text := os.Getenv(repairStore)
	if text == "" {
		return
	}
	var store inventory.ImageStore
	err := json.Unmarshal([]byte(text), &store)
	if err == nil {
		err = run.Main(context.Background(), "images:repair", func(ctx context.Context, t *run.Target) error {
			return Repair(ctx, t, []*inventory.ImageStore{&store}, false)
		})
	}
	if failed, ok := err.(interface{ ExitStatus() int }); ok {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(failed.ExitStatus())
	}
	if err != nil {
		panic(err)
	}
	os.Exit(0)
}

// far is a round trip that makes copies slow enough to be met on their way.
const far = 50 * time.Millisecond

// drafts are the files that are being written in a folder.
func drafts(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, ".rehearsal-*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func wantNoDrafts(t *testing.T, s *stores) {
	t.Helper()
	until(t, "the agents' end", func() bool { return len(agents(t, s.Production[0].Host))+len(agents(t, s.Backup[0].Host)) == 0 })
	for _, root := range []string{s.production, s.backup} {
		if left := drafts(t, root); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// halfway waits until a part of a file has arrived on the backup, and holds the rest back until goOn is called.
func halfway(t *testing.T, s *stores, line *lab.Proxy) (goOn func()) {
	t.Helper()
	until(t, "a part of the copy is there", func() bool {
		for _, draft := range drafts(t, s.backup) {
			if st, err := os.Stat(draft); err == nil && st.Size() > 1e6 {
				return true
			}
		}
		return false
	})
	line.Stall(true)
	return func() {
		line.SetDelay(0)
		line.Stall(false)
	}
}

// large is a whole image of 30 MB, which takes 0.8 s over a line of 50 ms: a channel carries 2 MiB a round trip.
func large(t *testing.T) []byte {
	return append(drawn(t, 40), make([]byte, 30e6)...)
}

// repaired is how images:repair ended: its error and its exit code.
type repaired struct {
	err  error
	code run.Code
}

// repairing runs images:repair meanwhile.
func (s *stores) repairing(ctx context.Context, t *testing.T) <-chan repaired {
	ended, result := make(chan struct{}), make(chan repaired, 1)
	go func() {
		defer close(ended)
		var r repaired
		err := run.Main(ctx, "images:repair", func(ctx context.Context, target *run.Target) error {
			r.err = Repair(ctx, target, []*inventory.ImageStore{s.ImageStore}, false)
			return r.err
		})
		if failed, ok := err.(interface{ ExitStatus() int }); ok {
			r.code = run.Code(failed.ExitStatus())
		}
		result <- r
	}()
	t.Cleanup(func() { <-ended })
	return result
}

func TestARepairThatIsInterruptedLeavesEverythingAsItWas(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	line := behind(t, s.Backup[0], far)
	bad := []byte("it was cut short")
	s.write(t, s.production, "large.jpg", large(t))
	s.write(t, s.backup, "large.jpg", bad)
	s.write(t, s.production, "missing.jpg", large(t))
	wantUntouched := func(t *testing.T) {
		t.Helper()
		wantNoDrafts(t, s)
		if got := s.read(t, s.backup, "large.jpg"); !bytes.Equal(got, bad) {
			t.Error("what was to be replaced is another")
		}
		if _, err := os.Lstat(filepath.Join(s.backup, "missing.jpg")); err == nil {
			t.Error("a part has the name of the whole")
		}
	}
	t.Run("by Ctrl-C", func(t *testing.T) {
		store, err := json.Marshal(s.ImageStore)
		if err != nil {
			t.Fatal(err)
		}
		line.SetDelay(far)
		mage := exec.Command(os.Args[0])
		mage.Env = append(os.Environ(), repairStore+"="+string(store))
		var said bytes.Buffer
		mage.Stderr = &said
		if err := mage.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = mage.Wait()
		}()
		defer func() {
			_ = mage.Process.Kill()
			<-ended
		}()
		goOn := halfway(t, s, line)
		if err := mage.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		goOn()
		<-ended
		wantCode(t, run.Code(mage.ProcessState.ExitCode()), run.Interrupted)
		if strings.Contains(said.String(), "gave up") {
			t.Errorf("it says: %s", &said)
		}
		wantUntouched(t)
	})
	t.Run("by the end of the line", func(t *testing.T) {
		line.SetDelay(far)
		result := s.repairing(t.Context(), t)
		goOn := halfway(t, s, line)
		line.Cut()
		goOn()
		wantCode(t, (<-result).code, run.Unreachable)
		wantUntouched(t)
	})
	t.Run("and the next one mends it", func(t *testing.T) {
		wantCode(t, (<-s.repairing(t.Context(), t)).code, run.Done)
		for _, name := range []string{"large.jpg", "missing.jpg"} {
			if !bytes.Equal(s.read(t, s.backup, name), s.read(t, s.production, name)) {
				t.Errorf("%s is not mended", name)
			}
		}
		kept, err := filepath.Glob(filepath.Join(s.Backup[0].Host.State, "replaced", "*", s.Name, "large.jpg"))
		if err != nil || len(kept) != 1 || !bytes.Equal(s.read(t, "", kept[0]), bad) {
			t.Errorf("kept: %v, %v", kept, err)
		}
	})
}

// Whatever changes between the comparison and the copy is neither published nor overwritten.
func TestWhatChangesDuringARepairIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	line := behind(t, s.Backup[0], far)
	bad := []byte("it was cut short")
	whole := large(t)
	wantRefused := func(t *testing.T, got repaired) {
		t.Helper()
		wantCode(t, got.code, run.Differ)
		err := got.err
		if err == nil || !strings.Contains(err.Error(), "not what it was when it was compared") || !strings.Contains(err.Error(), "large.jpg") || run.HintOf(err) == "" {
			t.Errorf("%v\nnext: %s", err, run.HintOf(err))
		}
		wantNoDrafts(t, s)
	}
	for what, c := range map[string]struct {
		before []byte // on the backup; nil for nothing
		change func(t *testing.T)
		after  []byte
	}{
		"the file that is copied": {nil, func(t *testing.T) {
			other := bytes.Clone(whole)
			other[len(other)-1] = 1
			s.write(t, s.production, "large.jpg", other)
		}, nil},
		"the file that is replaced":   {bad, func(t *testing.T) { s.write(t, s.backup, "large.jpg", []byte("written by rsync")) }, []byte("written by rsync")},
		"nothing, to something":       {nil, func(t *testing.T) { s.write(t, s.backup, "large.jpg", []byte("written by rsync")) }, []byte("written by rsync")},
		"the file, to nothing at all": {bad, func(t *testing.T) { _ = os.Remove(filepath.Join(s.backup, "large.jpg")) }, nil},
	} {
		t.Run(what, func(t *testing.T) {
			s.write(t, s.production, "large.jpg", whole)
			_ = os.Remove(filepath.Join(s.backup, "large.jpg"))
			if c.before != nil {
				s.write(t, s.backup, "large.jpg", c.before)
			}
			line.SetDelay(far)
			result := s.repairing(t.Context(), t)
			goOn := halfway(t, s, line)
			c.change(t)
			goOn()
			wantRefused(t, <-result)
			got, err := os.ReadFile(filepath.Join(s.backup, "large.jpg"))
			if !bytes.Equal(got, c.after) || (err == nil) != (c.after != nil) {
				t.Errorf("the backup has %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestALinkInTheFoldersPlaceIsNotFollowed(t *testing.T) {
	s := twoHosts(t)
	elsewhere := t.TempDir()
	if err := os.RemoveAll(filepath.Join(s.backup, "folder")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(s.backup, "folder")); err != nil {
		t.Fatal(err)
	}
	s.write(t, s.production, "z.jpg", drawn(t, 50)) // it is missing, too
	wantCode(t, (<-s.repairing(t.Context(), t)).code, run.Differ)
	if files, err := os.ReadDir(elsewhere); err != nil || len(files) > 0 {
		t.Errorf("written where the link leads: %v, %v", files, err)
	}
	if link, err := os.Readlink(filepath.Join(s.backup, "folder")); err != nil || link != elsewhere {
		t.Errorf("the link: %q, %v", link, err)
	}
	if !bytes.Equal(s.read(t, s.backup, "z.jpg"), drawn(t, 50)) {
		t.Error("what could be copied was not")
	}
	wantNoDrafts(t, s)
}
