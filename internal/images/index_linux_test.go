package images

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// indexOf is the one index on a host.
func indexOf(t *testing.T, host *inventory.Host) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(host.State, "images", "*", "index"))
	if err != nil || len(all) != 1 {
		t.Fatalf("indexes on %s: %v, %v", host.Name, all, err)
	}
	return all[0]
}

// Whatever has happened to an index: what changed is found, what did not is identical, and it is said that more was read.
func TestADamagedIndexIsSaidAndNeverBelieved(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	s.small(t, 2500) // three blocks of an index
	s.Reread = 0
	if _, _, code := s.verify(t, Options{}); code != run.Done {
		t.Fatal("the trees are not identical at first")
	}
	index := indexOf(t, s.Backup[0].Host)
	for i, c := range []struct {
		what     string
		damage   func(whole []byte) []byte
		warning  string
		atLeast  int64 // bytes that are read
		lessThan int64
	}{
		{"no damage", func(b []byte) []byte { return b }, "", 100, 3_000},
		{"a flipped bit in the middle", func(b []byte) []byte { b[len(b)/2] ^= 4; return b }, "1 blocks of its index were damaged", 50_000, 200_000},
		{"zeros in the middle", func(b []byte) []byte { copy(b[len(b)/2:], make([]byte, 5000)); return b }, "1 blocks of its index were damaged", 50_000, 200_000},
		{"cut short", func(b []byte) []byte { return b[:len(b)*3/4] }, "blocks of its index were damaged", 50_000, 200_000},
		{"without its end", func(b []byte) []byte { return b[:len(b)-1] }, "", 100, 200_000},
		{"garbage at its head", func(b []byte) []byte { copy(b, "\x7fELF"); return b }, "its index was not used", 250_000, 400_000},
		{"another version", func(b []byte) []byte { b[15]++; return b }, "another version", 250_000, 400_000},
		{"empty", func([]byte) []byte { return nil }, "its index was not used", 250_000, 400_000},
		{"zeros alone", func(b []byte) []byte { return make([]byte, len(b)) }, "its index was not used", 250_000, 400_000},
	} {
		t.Run(c.what, func(t *testing.T) {
			whole, err := os.ReadFile(index)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(index, c.damage(whole), 0o600); err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("small/%d/%04d.dat", i/2, i/2*500+i)
			s.alter(t, s.backup, name)
			found, fields, code := s.verify(t, Options{})
			if len(found) != 1 || found[0] != fmt.Sprintf("different unknown %q", name) && found[0] != fmt.Sprintf("different backup %q", name) {
				t.Errorf("found: %v", found)
			}
			wantCode(t, code, run.Differ)
			wantField(t, fields, "identical", 2512)
			if c.warning == "" && warned(fields, "index") || !warned(fields, c.warning) {
				t.Errorf("the warnings are %s", fields["warnings"])
			}
			if read := number(t, fields, "read_bytes"); read < c.atLeast || read > c.lessThan {
				t.Errorf("%d bytes were read", read)
			}
			s.write(t, s.backup, name, bytes.Repeat([]byte{byte(i/2*500 + i)}, 100))
			if found, fields, code := s.verify(t, Options{}); code != run.Done || warned(fields, "index") {
				t.Fatalf("the next run: %v, warnings %v", found, fields["warnings"])
			}
		})
	}
}

func TestAnotherAlgorithmReadsEverythingAndSaysSo(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	for _, algorithm := range []string{"blake3", "xxh128", "blake3"} {
		s.Hash = algorithm
		s.alter(t, s.production, "a.jpg")
		found, fields, code := s.verify(t, Options{})
		wantCode(t, code, run.Differ)
		wantFound(t, found, `different unknown "a.jpg"`)
		if total, read := number(t, fields, "bytes"), number(t, fields, "read_bytes"); read != 2*total {
			t.Errorf("%s: %d bytes were read of 2 times %d", algorithm, read, total)
		}
		s.alter(t, s.production, "a.jpg") // as it was
		if _, _, code = s.verify(t, Options{}); code != run.Done {
			t.Fatalf("%s: the second run ends with %d", algorithm, code)
		}
		if algorithm == "xxh128" && !warned(fields, "it is of") {
			t.Errorf("the warnings are %s", fields["warnings"])
		}
	}
}
