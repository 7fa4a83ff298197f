package main

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"rehearsal/internal/images/index"
	"rehearsal/internal/images/wire"
)

// perBucket is how many names of a folder have one digest between them, about: what is listed for one difference.
const perBucket = 512

// folders digests entries folder by folder. A digest is the sum of its entries' hashes under the run's seed, so that
// two folders, a folder in several places, and buckets of different size can be compared by adding. 64 bits suffice
// against chance, and nobody can choose names or bytes for a seed that is drawn after they were written.
type folders struct {
	*wire.FolderWriter
	seed, side uint64
	bits       uint8
	sums       []uint64
	names      int
	buf        []byte

	sent  int64
	total uint64
}

func (f *folders) begin(names int) {
	f.bits = 0
	for names>>f.bits > perBucket && f.bits < wire.MaxBits {
		f.bits++
	}
	f.sums = append(f.sums[:0], make([]uint64, 1<<f.bits)...)
	f.names = 0
}

// add adds an entry: its name, kind, size and bytes. What is not known is equal to nothing, not even to itself on the
// other side.
func (f *folders) add(e *index.Entry) {
	f.names++
	f.buf = append(f.buf[:0], e.Name...)
	bucket := bucketOf(e.Name, f.seed, f.bits)
	f.buf = append(f.buf, 0, byte(e.Kind))
	f.buf = binary.LittleEndian.AppendUint64(f.buf, uint64(e.Size))
	if e.Flags&index.Known != 0 {
		f.buf = append(f.buf, e.Hash[:]...)
	} else {
		f.buf = binary.LittleEndian.AppendUint64(f.buf, f.side)
	}
	f.sums[bucket] += xxh3.HashSeed(f.buf, f.seed)
}

// bucketOf is the bucket of a name, of 2 to the power of bits. Two neighbours become one where there is a bit less.
func bucketOf(name []byte, seed uint64, bits uint8) uint32 {
	if bits == 0 {
		return 0
	}
	return uint32(xxh3.HashSeed(name, seed) >> (64 - bits))
}

// unequal makes the folder differ from the other side's in every bucket.
func (f *folders) unequal() {
	for i := range f.sums {
		f.sums[i] += f.side | 1
	}
	f.names++
}

func (f *folders) end(path []byte) error {
	if f.names == 0 {
		return nil
	}
	f.sent++
	for _, s := range f.sums {
		f.total += s
	}
	return f.Add(path, f.bits, f.sums)
}
