package archive

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

func TestADraftHasWhatWasPutIntoItAndNothingIsSeenOfItBefore(t *testing.T) {
	s, machine, err := lab.StartHost(t.Context(), inventory.Host{Name: "backup", Role: inventory.Backup}, t.TempDir(), "SetEnv HOME="+t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	h, err := host.Dial(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	a := shopArchive()
	a.Host, a.Database.Backups.Path = h, filepath.Join(t.TempDir(), "shop's backups")
	d, err := a.Draft(t.Context(), "20260101T020000Z")
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 5<<20+1)
	_, _ = rand.Read(data)
	for _, size := range []int{0, 1 << 20, 2 << 20, len(data)} { // each over the one before
		var passed int64
		got, err := d.Put(t.Context(), "dump/1.dat", bytes.NewReader(data[:size]), int64(size), func(n int64) { passed += n })
		sum := sha256.Sum256(data[:size])
		if want := (File{Name: "dump/1.dat", Bytes: int64(size), SHA256: hex.EncodeToString(sum[:])}); err != nil || got != want || passed != int64(size) {
			t.Errorf("got %+v, %d passed, %v; want %+v", got, passed, err, want)
		}
		if there, err := os.ReadFile(a.Path(".partial-20260101T020000Z", "dump/1.dat")); err != nil || !bytes.Equal(there, data[:size]) {
			t.Errorf("%d of %d bytes are there, %v", len(there), size, err)
		}
	}
	var wrong *host.SizeError
	if _, err := d.Put(t.Context(), "dump/1.dat", strings.NewReader("less"), 4, nil); !errors.As(err, &wrong) {
		t.Errorf("over a longer file: %v", err)
	}
	if _, err := d.Put(t.Context(), "dump/2.dat", strings.NewReader("more"), 3, nil); err == nil || !strings.Contains(err.Error(), "4 bytes instead of 3") {
		t.Errorf("more than its size: %v", err)
	}
	if err := os.Symlink("/dev/full", a.Path(".partial-20260101T020000Z", "dump/3.dat")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Put(t.Context(), "dump/3.dat", strings.NewReader("x"), 1, nil); run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "No space left on device") || run.HintOf(err) == "" {
		t.Errorf("a full disk: %v", err)
	}
	if err := d.Discard(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(a.Path()); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
}
