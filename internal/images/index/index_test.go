package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehearsal/internal/images/tree"
)

var header = Header{Root: "/srv/images", Algorithm: "blake3"}

// filed is an entry and its folder.
type filed struct {
	Folder string
	Entry
}

// odd are entries of every kind, with every extreme of a number, and names and folders of any bytes and length.
func odd() []filed {
	r := rand.New(rand.NewPCG(1, 2))
	folders := []string{"", "a", "a/b", "a/b/c", "a/\x01", "a b", "a\xff\xfe", strings.Repeat("deep/", 2000) + "deep", "z\nz"}
	slices.SortFunc(folders, func(a, b string) int { return tree.Compare([]byte(a), []byte(b)) })
	numbers := []int64{0, 1, -1, 255, 256, 1 << 31, math.MaxInt64, math.MinInt64, 1764000000123456789}
	kinds := []tree.Kind{tree.File, tree.Link, tree.Pipe, tree.Socket, tree.Device, tree.Unknown}
	var all []filed
	for _, folder := range folders {
		names := []string{"\x01", "\xff\xfe", "a", "a.jpg", "b.jpg", "b.jpg~", "new\nline", strings.Repeat("n", 127), strings.Repeat("n", 128),
			strings.Repeat("n", 255), strings.Repeat("o", 255), strings.Repeat("o", 1020)}
		slices.Sort(names)
		for i, name := range names {
			e := Entry{Name: []byte(name), Flags: Flags(r.IntN(16)), Damage: byte(r.IntN(9)), Read: r.Uint32()}
			e.Kind, e.Inode = kinds[i%len(kinds)], r.Uint64()>>r.IntN(64)
			e.Size, e.Mtime, e.Ctime = numbers[r.IntN(len(numbers))], numbers[r.IntN(len(numbers))], numbers[r.IntN(len(numbers))]
			if e.Flags&Known != 0 {
				binary.BigEndian.PutUint64(e.Hash[3:], r.Uint64())
			}
			if e.Flags&Rotted != 0 {
				binary.BigEndian.PutUint64(e.Was[3:], r.Uint64())
			}
			all = append(all, filed{folder, e})
		}
	}
	return all
}

// ordinary is entry i of a tree with 100 files in each folder, as a run at read has seen it.
func ordinary(i int, read uint32) filed {
	e := Entry{Name: fmt.Appendf(nil, "IMG_%08d_original.jpg", i), Read: read, Flags: Known | Settled}
	e.Kind, e.Size, e.Inode = tree.File, int64(8000+i*7919%32000), uint64(1000000+i)
	e.Mtime = 1700000000000000000 + int64(i)*7777777777
	e.Ctime = e.Mtime + 3000000
	binary.LittleEndian.PutUint64(e.Hash[:], uint64(i)*0x9e3779b97f4a7c15)
	binary.LittleEndian.PutUint32(e.Hash[12:], read)
	return filed{fmt.Sprintf("%03d/%03d", i/100/100, i/100%100), e}
}

func ordinaries(from, to int, read uint32) []filed {
	var all []filed
	for i := from; i < to; i++ {
		all = append(all, ordinary(i, read))
	}
	return all
}

func add(t testing.TB, w *Writer, all []filed) {
	t.Helper()
	for i := range all {
		if err := errors.Join(w.Folder([]byte(all[i].Folder)), w.Add(&all[i].Entry)); err != nil {
			t.Fatal(err)
		}
	}
}

// interrupted leaves what a run that was interrupted leaves.
func interrupted(t testing.TB, dir string, all []filed) {
	t.Helper()
	w, err := Create(dir, header)
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, all)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func sealed(t testing.TB, dir string, all []filed) Totals {
	t.Helper()
	w, err := Create(dir, header)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	add(t, w, all)
	totals, err := w.Seal()
	if err != nil {
		t.Fatal(err)
	}
	return totals
}

func opened(t testing.TB, dir string) *Reader {
	t.Helper()
	r, err := Open(dir, header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// rest reads what is left.
func rest(r *Reader) []filed {
	var all []filed
	for {
		folder, e, err := r.Next()
		if err == io.EOF {
			return all
		}
		kept := filed{string(folder), *e}
		kept.Name = bytes.Clone(e.Name)
		all = append(all, kept)
	}
}

func same(t testing.TB, got, want []filed) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !equal(got[i], want[i]) {
			t.Fatalf("entry %d: -want +got\n%s", i, cmp.Diff(want[i], got[i]))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
}

func equal(a, b filed) bool {
	return bytes.Equal(a.Name, b.Name) && a.Folder == b.Folder && a.Meta == b.Meta && a.Hash == b.Hash && a.Was == b.Was &&
		a.Read == b.Read && a.Flags == b.Flags && a.Damage == b.Damage
}

func TestWhatWasAddedIsReadAsItWas(t *testing.T) {
	for _, all := range [][]filed{nil, odd(), ordinaries(0, 20000, 7)} {
		dir := t.TempDir()
		sealed(t, dir, all)
		r := opened(t, dir)
		same(t, rest(r), all)
		if r.Damaged() != 0 {
			t.Errorf("%d blocks are damaged", r.Damaged())
		}
		if _, _, err := r.Next(); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestHashesAreKeptOnlyWhereTheyMeanSomething(t *testing.T) {
	dir := t.TempDir()
	sealed(t, dir, []filed{{"", Entry{Name: []byte("a"), Hash: Hash{1}, Was: Hash{2}, Meta: tree.Meta{Kind: tree.File}}}})
	same(t, rest(opened(t, dir)), []filed{{"", Entry{Name: []byte("a"), Meta: tree.Meta{Kind: tree.File}}}})
}

func TestFindFindsWhatIsThereAndNothingElse(t *testing.T) {
	all := slices.Concat(odd()[:12], ordinaries(0, 20000, 7))
	dir := t.TempDir()
	sealed(t, dir, all)
	for _, step := range []int{1, 2, 37, 5000} {
		r := opened(t, dir)
		for i := 0; i < len(all); i += step {
			folder, name := []byte(all[i].Folder), all[i].Name
			if before := r.Find(folder, name[:len(name)-1]); before != nil && !bytes.Equal(before.Name, name[:len(name)-1]) {
				t.Fatalf("asked for %q, found %q", name[:len(name)-1], before.Name)
			}
			if e := r.Find(folder, name); e == nil || !equal(filed{Entry: *e}, filed{Entry: all[i].Entry}) {
				t.Fatalf("step %d: %q in %q: found %v", step, name, folder, e)
			}
			if e := r.Find(folder, append(bytes.Clone(name), 0)); e != nil {
				t.Fatalf("found %q, which is not there", e.Name)
			}
		}
		if e := r.Find([]byte("zzz"), []byte("zzz")); e != nil {
			t.Fatalf("found %q after the end", e.Name)
		}
	}
}

func TestFindDoesNotGoBackOrIntoOtherFolders(t *testing.T) {
	dir := t.TempDir()
	sealed(t, dir, ordinaries(0, 1000, 7))
	r := opened(t, dir)
	at := ordinary(500, 7)
	if r.Find([]byte(at.Folder), at.Name) == nil {
		t.Fatal("not found")
	}
	for _, wrong := range []filed{ordinary(499, 7), at, {"000/004", at.Entry}, {"000/005/a", at.Entry}, {"000/005a", at.Entry}} {
		if e := r.Find([]byte(wrong.Folder), wrong.Name); e != nil {
			t.Errorf("%q found in %q", wrong.Name, wrong.Folder)
		}
	}
}

func TestFindAndAddDoNotAllocate(t *testing.T) {
	dir := t.TempDir()
	all := ordinaries(0, 3000, 7)
	sealed(t, dir, all)
	r := opened(t, dir)
	w, err := Create(dir, header)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	folders := make([][]byte, len(all))
	for i := range all {
		folders[i] = []byte(all[i].Folder)
	}
	i := 0
	if n := testing.AllocsPerRun(2500, func() {
		w.Folder(folders[i])
		if e := r.Find(folders[i], all[i].Name); e == nil || w.Add(e) != nil {
			t.Fatal("lost")
		}
		i++
	}); n != 0 {
		t.Errorf("%v allocations for each entry", n)
	}
}

func TestEntriesOutOfOrderAreRefused(t *testing.T) {
	w, err := Create(t.TempDir(), header)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	add(t, w, []filed{ordinary(100, 7), ordinary(101, 7)})
	for _, wrong := range []filed{ordinary(100, 7), ordinary(101, 7), ordinary(99, 7), {"000", ordinary(200, 7).Entry}, {"000/001", Entry{}}} {
		if w.Folder([]byte(wrong.Folder)) == nil && w.Add(&wrong.Entry) == nil {
			t.Errorf("%q in %q was taken after %q in %q", wrong.Name, wrong.Folder, w.name, w.folder)
		}
	}
	add(t, w, []filed{ordinary(102, 7), ordinary(200, 7)}) // the writer is as it was
}

func TestTotalsAreThoseOfTheTreeByAge(t *testing.T) {
	dir := t.TempDir()
	all := slices.Concat(ordinaries(0, 300, 20), ordinaries(300, 500, 10), ordinaries(500, 501, 20))
	link, unread := ordinary(600, 20), ordinary(601, 20)
	link.Kind, unread.Flags, unread.Hash = tree.Link, 0, Hash{}
	all = append(all, link, unread)
	want := Totals{Entries: 503, Files: 502, Ages: []Age{{Read: 10}, {Read: 20}}}
	for i, e := range all[:501] {
		age := &want.Ages[0]
		if i < 300 || i == 500 {
			age = &want.Ages[1]
		}
		age.Files++
		age.Bytes += e.Size
	}
	want.Bytes = want.Ages[0].Bytes + want.Ages[1].Bytes + unread.Size
	if d := cmp.Diff(want, sealed(t, dir, all)); d != "" {
		t.Errorf("sealed: -want +got\n%s", d)
	}
	got, ok := opened(t, dir).Totals()
	if d := cmp.Diff(want, got); d != "" || !ok {
		t.Errorf("read: %v -want +got\n%s", ok, d)
	}
}

func TestMoreAgesThanMemoryAllowsBecomeOlderOnes(t *testing.T) {
	var count tally
	const n = 50000
	for i := range n {
		e := ordinary(i, uint32(i*7919%n)).Entry
		e.Size = 1
		count.add(&e)
	}
	ages := count.totals().Ages
	if len(ages) > maxAges || len(ages) < maxAges/4 {
		t.Fatalf("%d ages", len(ages))
	}
	below := 0
	for _, a := range ages {
		if int(a.Read) > below { // one file was read in each second: no fewer may be said to be older than they are
			t.Fatalf("%d files are older than %d", below, a.Read)
		}
		below += int(a.Files)
	}
	if below != n {
		t.Errorf("%d files of %d", below, n)
	}
}

func TestAnIndexOfSomethingElseIsNotUsed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, sealedName)
	if _, err := Open(dir, header); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	sealed(t, dir, ordinaries(0, 10, 7))
	for _, other := range []Header{{"/srv/image", "blake3"}, {"/srv/images", "xxh128"}, {}} {
		if _, err := Open(dir, other); !errors.Is(err, ErrOther) {
			t.Errorf("%v: %v", other, err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		make func(b []byte) []byte
		want error
	}{
		{"a later version", func(b []byte) []byte { b[len(magic)]++; return b }, ErrVersion},
		{"not ours", func([]byte) []byte { return []byte(strings.Repeat("something else\n", 20)) }, ErrDamaged},
		{"cut in the header", func(b []byte) []byte { return b[:fileHead+3] }, ErrDamaged},
		{"empty", func([]byte) []byte { return nil }, ErrDamaged},
		{"zeros, after a power cut", func(b []byte) []byte { return make([]byte, len(b)) }, ErrDamaged},
		{"a flipped bit in the root", func(b []byte) []byte { b[fileHead+4] ^= 1; return b }, ErrDamaged},
	} {
		if err := os.WriteFile(path, c.make(bytes.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, header); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestTheIndexIsForItsOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	sealed(t, dir, nil)
	info, err := os.Stat(filepath.Join(dir, sealedName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestNothingIsTakenAfterTheEnd(t *testing.T) {
	w, err := Create(t.TempDir(), header)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	e := ordinary(1, 7).Entry
	_, again := w.Seal()
	for _, err := range []error{again, w.Add(&e), w.Folder([]byte("a")), w.Sync()} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Seal: %v", err)
		}
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close after Seal: %v", err)
	}
}
