package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// blocks makes an index of n blocks of 20 entries each, and returns its bytes.
func blocks(t testing.TB, n int) (all []filed, file []byte) {
	t.Helper()
	dir := t.TempDir()
	w, err := Create(dir, header)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range n {
		part := ordinaries(i*20, i*20+20, uint32(7+i%3))
		add(t, w, part)
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		all = append(all, part...)
	}
	if _, err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	file, err = os.ReadFile(filepath.Join(dir, sealedName))
	if err != nil {
		t.Fatal(err)
	}
	return all, file
}

// over reads an index that lies in memory.
func over(file []byte) (*Reader, error) {
	r := &Reader{at: bytes.NewReader(file), size: int64(len(file))}
	var err error
	r.marker, r.offset, err = readHeader(r.at, header)
	return r, err
}

// honest reads a damaged index: what it gives must be among the entries that were added, unchanged and in order, and a
// thing that is missing must not go unsaid. It returns how many entries it gave; -1 where it was not opened.
func honest(t testing.TB, file []byte, all []filed) int {
	t.Helper()
	r, err := over(file)
	if err != nil {
		if !unusable(err) {
			t.Fatalf("cannot be opened, but would stay: %v", err)
		}
		return -1
	}
	got := rest(r)
	i := 0
	for _, e := range got {
		for i < len(all) && !equal(all[i], e) {
			i++
		}
		if i == len(all) {
			t.Fatalf("%q in %q was never added, or is not as it was, or comes late", e.Name, e.Folder)
		}
		i++
	}
	totals, whole := r.Totals()
	if whole && int(totals.Entries) != len(all) {
		t.Fatalf("totals of %d entries, %d were added", totals.Entries, len(all))
	}
	if whole && r.Damaged() == 0 && len(got) != len(all) {
		t.Fatalf("%d of %d entries, and nothing is said", len(got), len(all))
	}
	return len(got)
}

func TestAFlippedByteCostsItsBlockAtMost(t *testing.T) {
	all, file := blocks(t, 5)
	r, err := over(file)
	if err != nil {
		t.Fatal(err)
	}
	first := int(r.offset)
	for at := range file {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			bad := bytes.Clone(file)
			bad[at] ^= flip
			n := honest(t, bad, all)
			if at >= first && n < len(all)-20 {
				t.Fatalf("byte %d of %d, ^%#x: only %d of %d entries are left", at, len(file), flip, n, len(all))
			}
			if at < first && n != -1 {
				t.Fatalf("byte %d, ^%#x: the header is not what it was, and was used", at, flip)
			}
			if r, err := over(bad); err == nil {
				rest(r)
				if _, whole := r.Totals(); whole && r.Damaged() == 0 {
					t.Fatalf("byte %d, ^%#x: unnoticed", at, flip)
				}
			}
		}
	}
}

func TestACutLeavesWhatIsBeforeIt(t *testing.T) {
	all, file := blocks(t, 5)
	last := -1
	for at := range file {
		n := honest(t, file[:at], all)
		if n < last {
			t.Fatalf("%d entries in %d bytes, more in fewer", n, at)
		}
		last = n
		if r, err := over(file[:at]); err == nil {
			if _, whole := r.Totals(); whole {
				t.Fatalf("cut at %d of %d and called whole", at, len(file))
			}
		}
	}
	if last != len(all) {
		t.Errorf("a missing last byte costs entries: %d", last)
	}
}

func TestBlocksInTheWrongPlaceAreNotTaken(t *testing.T) {
	all, file := blocks(t, 6)
	_, other := blocks(t, 6) // the same entries, of another file
	r, err := over(file)
	if err != nil {
		t.Fatal(err)
	}
	first := int(r.offset)
	r.load()
	length := int(r.offset) - first // all are equally long, nearly
	for to := first; to+length < len(file); to += 7 {
		bad := bytes.Clone(file)
		copy(bad[to:], file[first:first+length])
		honest(t, bad, all)
	}
	bad := bytes.Clone(file)
	copy(bad[first:], other[first:first+length])
	if n := honest(t, bad, all); n != len(all)-20 {
		t.Errorf("%d entries", n)
	}
}

func TestTheNextBlockIsFoundWhereverItBegins(t *testing.T) {
	for at := blockSize - 20; at < blockSize+20; at++ {
		r := &Reader{size: 2 * blockSize, marker: [markerSize]byte{1, 2, 3, 4, 5, 6, 7, 8}}
		file := make([]byte, r.size)
		copy(file[at:], r.marker[:])
		r.at = bytes.NewReader(file)
		if found := r.search(1); found != int64(at) {
			t.Errorf("found at %d, it is at %d", found, at)
		}
	}
}

func TestRecordsThatMakeNoSenseAreDamageToo(t *testing.T) {
	huge := binary.AppendUvarint([]byte{folderMark}, 1<<63)
	for _, records := range [][]byte{
		{folderMark},
		{folderMark, 0},
		{folderMark, 0, 9, 'a'},
		{folderMark, 3, 0},
		append(huge, 0),
		append([]byte{folderMark}, bytes.Repeat([]byte{0xff}, 40)...),
		{folderMark, 0, 0, 'f', 1, 0, 0xff, 0xff},
		append([]byte{folderMark, 0, 0, 'f', 9, 0}, bytes.Repeat([]byte{0xff}, 70)...),
		{'f', 0, 0},
	} {
		r := wrapped(t, records)
		if got := rest(r); len(got) != 0 || r.Damaged() == 0 && records[0] == folderMark {
			t.Errorf("%x: %v, %d damaged", records, got, r.Damaged())
		}
	}
}

// wrapped is an index with one block, right in itself, of these records.
func wrapped(t testing.TB, records []byte) *Reader {
	t.Helper()
	file, err := header.encode([markerSize]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	sum := checksum(int64(len(file)), records)
	file = append(file, 1, 2, 3, 0, 0, 0, 0, 0)
	file = binary.LittleEndian.AppendUint32(file, uint32(len(records)))
	file = binary.LittleEndian.AppendUint32(file, sum)
	r, err := over(append(file, records...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// failing cannot read some of its bytes, as a disk.
type failing struct {
	io.ReaderAt
	from, to int64
}

func (f failing) ReadAt(p []byte, offset int64) (int, error) {
	if offset < f.to && offset+int64(len(p)) > f.from {
		return 0, errors.New("input/output error")
	}
	return f.ReaderAt.ReadAt(p, offset)
}

func TestWhatTheDiskCannotReadIsSteppedOver(t *testing.T) {
	dir := t.TempDir()
	all := ordinaries(0, 10000, 7)
	sealed(t, dir, all)
	r := opened(t, dir)
	r.at = failing{r.f, 200000, 204096}
	got := rest(r)
	if lost := len(all) - len(got); lost < 500 || lost > 4000 || r.Damaged() == 0 {
		t.Errorf("%d of %d entries, %d damaged", len(got), len(all), r.Damaged())
	}
	if last := got[len(got)-1]; !equal(last, all[len(all)-1]) {
		t.Errorf("the last one is %q", last.Name)
	}
	r = opened(t, dir)
	r.at = failing{r.f, 0, 1 << 60}
	if got := rest(r); got != nil || r.Damaged() == 0 {
		t.Errorf("%d entries of a disk that reads nothing", len(got))
	}
}

func FuzzDamage(f *testing.F) {
	all, file := blocks(f, 6)
	f.Add(100, byte(1), 3000, byte(0x80), len(file))
	f.Add(20, byte(1), 70, byte(1), 900)
	f.Add(len(file)-1, byte(7), 900, byte(0xff), 5000)
	f.Fuzz(func(t *testing.T, at int, flip byte, at2 int, flip2 byte, cut int) {
		bad := bytes.Clone(file[:uint(cut)%uint(len(file)+1)])
		if len(bad) > 0 {
			bad[uint(at)%uint(len(bad))] ^= flip
			bad[uint(at2)%uint(len(bad))] ^= flip2
		}
		honest(t, bad, all)
	})
}

func FuzzRecords(f *testing.F) {
	_, file := blocks(f, 1)
	r, err := over(file)
	if err != nil || !r.load() {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(r.buf[:r.end]))
	f.Add([]byte{folderMark, 0, 1, 'a', 'f', 1, 0, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, records []byte) {
		if len(records) == 0 {
			return
		}
		if n := len(rest(wrapped(t, records))); n > len(records) {
			t.Fatalf("%d entries of %d bytes", n, len(records))
		}
		decodeTotals(records)
		decodeHeader(records)
	})
}
