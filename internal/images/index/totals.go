package index

import (
	"cmp"
	"encoding/binary"
	"slices"

	"rehearsal/internal/images/tree"
)

// Totals is what an index holds in all.
type Totals struct {
	Files, Bytes int64 // of kind File
	Entries      int64 // of every kind
	Ages         []Age // by Read, ascending
}

// Age is how much was last read at one moment: of kind File and Known. A run stamps all its readings alike, so there
// are as many as runs whose readings still count.
type Age struct {
	Read  uint32
	Bytes int64
	Files int64
}

// maxAges bounds Totals.Ages. Where there are more, neighbours become one, which is as old as the older of them.
const maxAges = 4096

// tally counts what is added to an index.
type tally struct {
	Totals
	ages map[uint32]*Age
	last *Age // files read together mostly lie together
}

func (t *tally) add(e *Entry) {
	t.Entries++
	if e.Kind != tree.File {
		return
	}
	t.Files++
	t.Bytes += e.Size
	if e.Flags&Known == 0 {
		return
	}
	if t.last == nil || t.last.Read != e.Read {
		t.last = t.age(e.Read)
	}
	t.last.Files++
	t.last.Bytes += e.Size
}

func (t *tally) age(read uint32) *Age {
	if a := t.ages[read]; a != nil {
		return a
	}
	if t.ages == nil || len(t.ages) == 2*maxAges {
		few := mergeAges(t.sorted())
		t.ages = make(map[uint32]*Age, len(few))
		for i := range few {
			t.ages[few[i].Read] = &few[i]
		}
	}
	if t.ages[read] == nil {
		t.ages[read] = &Age{Read: read}
	}
	return t.ages[read]
}

func (t *tally) sorted() []Age {
	ages := make([]Age, 0, len(t.ages))
	for _, a := range t.ages {
		ages = append(ages, *a)
	}
	slices.SortFunc(ages, func(a, b Age) int { return cmp.Compare(a.Read, b.Read) })
	return ages
}

func (t *tally) totals() Totals {
	all := t.Totals
	all.Ages = mergeAges(t.sorted())
	return all
}

// mergeAges makes pairs of neighbours one until there are no more than maxAges.
func mergeAges(ages []Age) []Age {
	for len(ages) > maxAges {
		few := ages[:0]
		for pair := range slices.Chunk(ages, 2) {
			one := pair[0]
			if len(pair) == 2 {
				one.Bytes += pair[1].Bytes
				one.Files += pair[1].Files
			}
			few = append(few, one)
		}
		ages = few
	}
	return ages
}

func (t Totals) append(b []byte) []byte {
	b = append(b, trailerMark)
	for _, n := range []int64{t.Files, t.Bytes, t.Entries, int64(len(t.Ages))} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	var last uint32
	for _, a := range t.Ages {
		b = binary.AppendUvarint(b, uint64(a.Read-last))
		b = binary.AppendUvarint(b, uint64(a.Bytes))
		b = binary.AppendUvarint(b, uint64(a.Files))
		last = a.Read
	}
	return b
}

func decodeTotals(b []byte) (t Totals, ok bool) {
	if len(b) == 0 || b[0] != trailerMark {
		return t, false
	}
	b, ok = b[1:], true
	next := func() int64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			ok = false
			return 0
		}
		b = b[n:]
		return int64(v)
	}
	t.Files, t.Bytes, t.Entries = next(), next(), next()
	count := next()
	if !ok || count < 0 || count > maxAges {
		return Totals{}, false
	}
	t.Ages = make([]Age, count)
	var last uint32
	for i := range t.Ages {
		last += uint32(next())
		t.Ages[i] = Age{Read: last, Bytes: next(), Files: next()}
	}
	return t, ok && len(b) == 0
}
