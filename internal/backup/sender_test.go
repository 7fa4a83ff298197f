package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// journey is a spool on one real host and a draft on another.
type journey struct {
	*sender
	spool, draft string // folders
	home         string // of the backup host
}

func newJourney(t *testing.T, ctx context.Context) *journey {
	t.Helper()
	j := &journey{spool: t.TempDir(), home: t.TempDir()}
	production := reach(t, "production", inventory.Production, t.TempDir())
	backups := filepath.Join(t.TempDir(), "backups")
	a := &archive.Archive{Host: reach(t, "backup", inventory.Backup, j.home), Database: &inventory.Database{Backups: inventory.Backups{Path: backups}}}
	draft, err := a.Draft(t.Context(), "20260101T020000Z")
	if err != nil {
		t.Fatal(err)
	}
	j.draft = filepath.Join(backups, ".partial-20260101T020000Z")
	j.sender = newSender(ctx, production, j.spool, draft)
	t.Cleanup(j.stop)
	return j
}

func reach(t *testing.T, name string, role inventory.Role, home string) *host.Host {
	t.Helper()
	sshd, machine, err := lab.StartHost(t.Context(), inventory.Host{Name: name, Role: role}, t.TempDir(), "SetEnv HOME="+home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sshd.Stop() })
	h, err := host.Dial(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// add appends random bytes to a file of the spool, as pg_dump does.
func (j *journey) add(t *testing.T, name string, size int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(j.spool, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, size)
	_, _ = rand.Read(data)
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
}

// arrived is what a file's last sending has brought, or nil.
func (j *journey) arrived(name string) *archive.File {
	j.mu.Lock()
	p := j.part("dump/" + name)
	j.mu.Unlock()
	p.turn.Lock()
	defer p.turn.Unlock()
	return p.sent
}

func (j *journey) eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestFinishedFilesAreSentEarlyAndThoseThatGrowAgain(t *testing.T) {
	j := newJourney(t, t.Context())
	sizes := map[string]int{"toc.dat": 5000, "1.dat.gz": 3<<20 + 1, "2.dat.gz": 100, "3.dat.gz": 0}
	for name, size := range sizes {
		j.add(t, name, size)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wrote, passed atomic.Int64
	var watching sync.WaitGroup
	watching.Go(func() { j.watch(ctx, 20*time.Millisecond, func(n int64) { wrote.Add(n) }) })
	early := func(name string) func() bool {
		return func() bool { f := j.arrived(name); return f != nil && f.Bytes == int64(sizes[name]) }
	}
	j.eventually(t, "a large file is sent", early("1.dat.gz"))
	j.eventually(t, "a small file is sent", early("2.dat.gz"))
	first := j.arrived("1.dat.gz")
	j.add(t, "2.dat.gz", 2<<20)
	sizes["2.dat.gz"] += 2 << 20
	j.eventually(t, "the one that has grown is sent again", early("2.dat.gz"))
	for _, name := range []string{"toc.dat", "3.dat.gz"} {
		if j.arrived(name) != nil {
			t.Errorf("%s was sent early", name)
		}
	}
	stop()
	watching.Wait()
	j.add(t, "2.dat.gz", 7) // nobody looks any more
	j.add(t, "3.dat.gz", 9)
	files, err := j.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sent, err := j.rest(files, func(n int64) { passed.Add(n) })
	if err != nil {
		t.Fatal(err)
	}
	if len(sent) != len(sizes) || sent[0].Name != "dump/1.dat.gz" || sent[0] != *first || j.arrived("1.dat.gz") != first {
		t.Errorf("sent %+v, the largest before as %+v", sent, first)
	}
	if now := wrote.Load(); now < 5000+5<<20 {
		t.Errorf("%d bytes are said to have been written", now)
	}
	var total int64
	for _, f := range sent {
		total += f.Bytes
		want, err := os.ReadFile(filepath.Join(j.spool, strings.TrimPrefix(f.Name, "dump/")))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(want)
		if got, err := os.ReadFile(filepath.Join(j.draft, f.Name)); err != nil || !bytes.Equal(got, want) || f.Bytes != int64(len(want)) || f.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%+v: %d of %d bytes arrived, %v", f, len(got), len(want), err)
		}
	}
	if passed.Load() != total {
		t.Errorf("%d bytes are said to have passed of %d", passed.Load(), total)
	}
}

func TestAFileThatGrowsBetweenLooksIsLeftAlone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing is really sent
	s := newSender(ctx, nil, "", nil)
	for n := range int64(100) {
		s.look(archive.File{Name: "dump/1.dat.gz", Bytes: n})
		s.look(archive.File{Name: "dump/2.dat.gz", Bytes: 0})
		s.look(archive.File{Name: "dump/toc.dat", Bytes: 9})
	}
	p := s.part("dump/3.dat.gz")
	p.size, p.tries = 5, 3 // it was taken for finished three times
	for range 7 {
		s.look(archive.File{Name: "dump/3.dat.gz", Bytes: 5})
	}
	s.end()
	for range 100 {
		s.look(archive.File{Name: "dump/3.dat.gz", Bytes: 5})
		s.look(archive.File{Name: "dump/4.dat.gz", Bytes: 5})
	}
	for name, p := range s.parts {
		if want := map[string]int{"dump/3.dat.gz": 3}[name]; p.tries != want {
			t.Errorf("%s was sent %d times, want %d", name, p.tries, want)
		}
	}
}

func TestAFileThatGrowsWhileItIsSentIsAnErrorOnlyInTheEnd(t *testing.T) {
	j := newJourney(t, t.Context())
	j.add(t, "1.dat.gz", 3<<20)
	stale := archive.File{Name: "dump/1.dat.gz", Bytes: 1 << 20}
	if err := j.early(j.part(stale.Name), stale); err != nil || j.arrived("1.dat.gz") != nil {
		t.Errorf("early: %v, arrived %+v", err, j.arrived("1.dat.gz"))
	}
	_, err := j.rest([]archive.File{stale}, func(int64) {})
	var size *host.SizeError
	if !errors.As(err, &size) || size.Host != "production" || size.Size != 3<<20 || !strings.Contains(err.Error(), "reading the dump on production") {
		t.Errorf("in the end: %v", err)
	}
}

func TestAFullDiskOfTheBackupsEndsWhatIsSent(t *testing.T) {
	for _, early := range []bool{true, false} {
		t.Run(fmt.Sprintf("early %t", early), func(t *testing.T) {
			j := newJourney(t, t.Context())
			j.add(t, "1.dat.gz", 5<<20)
			j.add(t, "2.dat.gz", 5<<20)
			if err := os.Symlink("/dev/full", filepath.Join(j.draft, "dump/2.dat.gz")); err != nil {
				t.Fatal(err)
			}
			var err error
			if early {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go j.watch(ctx, 20*time.Millisecond, func(int64) {})
				<-j.ctx.Done() // which ends pg_dump
				err = j.failed(t.Context())
			} else {
				files, listed := j.list(t.Context())
				if listed != nil {
					t.Fatal(listed)
				}
				_, err = j.rest(files, func(int64) {})
			}
			if run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "on backup: No space left on device") || !strings.Contains(run.HintOf(err), "make room") {
				t.Errorf("got %v", err)
			}
			j.stop()
			j.discarded(t)
		})
	}
}

// discarded removes the draft, and sees that nothing is left that could bring some of it back.
func (j *journey) discarded(t *testing.T) {
	t.Helper()
	if err := j.sender.draft.Discard(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(j.draft); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the draft is there: %v", err)
	}
}

func TestACancelledBackupLeavesNothingOfWhatWasSent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	j := newJourney(t, ctx)
	for i := range 20 {
		j.add(t, fmt.Sprintf("%d.dat.gz", i), 3<<20)
	}
	files, err := j.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var passed atomic.Int64
	_, err = j.rest(files, func(n int64) {
		if passed.Add(n) > 20<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || run.CodeOf(err) != run.Interrupted {
		t.Errorf("got %v", err)
	}
	j.stop()
	j.discarded(t)
	j.eventually(t, "nothing runs on the backup host", func() bool {
		running, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, file := range running {
			if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte("HOME="+j.home+"\x00")) {
				return false
			}
		}
		return true
	})
	if _, err := os.Stat(j.draft); err == nil {
		t.Error("the draft is back")
	}
}
