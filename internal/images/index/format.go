package index

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// The file, numbers little-endian:
//
//	header   magic, version, marker, length, checksum; then root and algorithm, each after its length
//	blocks   marker, length, checksum; then records, the first of them a folder with its whole path
//	trailer  a block that holds Totals
//	end      4 bytes: the trailer's length, its own head included, to find it from the end of the file
//
// The marker is 8 random bytes of this file alone, as in an Avro object container: after a damaged block the next one is
// found by it, and neither a file's name nor a block of an older index on the same disk can be taken for one.
const (
	magic   = "rehearsal index" // 15 bytes, the version is the 16th
	version = 1

	markerSize = 8
	blockHead  = markerSize + 4 + 4                 // marker, length, checksum
	fileHead   = len(magic) + 1 + blockHead         // before root and algorithm
	maxHeader  = 64 << 10                           // of root and algorithm
	endSize    = 4                                  // the trailer's length
	blockSize  = 64 << 10                           // a block ends with the record that reaches it
	maxBlock   = 16 << 20                           // a folder's path may be that long, nearly
	maxPath    = maxBlock - 2*blockSize - maxName   // so that every block stays below maxBlock
	maxName    = 64 << 10                           // Linux ends at 255, some file systems of others at 1020
	maxFixed   = 3 + 2 + 8 + 4*8 + 2*16 + 2*3       // an entry without its name
	slack      = 3 + 2 + 8 + 4*15 + 2*16 + 2*10 + 8 // what decoding may look at behind a block's end, whatever is in it
)

// A block's first byte says what it holds: its first record is a folder, or it is the trailer.
const (
	folderMark  = '/' // no tree.Kind
	trailerMark = 'T'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum of a block that lies at offset. It starts from the place, so that a block which a disk has put elsewhere is
// damaged too.
func checksum(offset int64, payload []byte) uint32 {
	return crc32.Update(uint32(offset), castagnoli, payload)
}

// A record of an entry:
//
//	kind, flags, damage    1 byte each
//	lengths                2 bytes: how many bytes each of the next four numbers has but mtime, 4 bits each
//	mtime                  8 bytes
//	size
//	ctime - mtime          zigzag
//	inode - the last one   zigzag
//	read - the last one    zigzag
//	hash                   16 bytes, where Known
//	was                    16 bytes, where Rotted
//	name                   how much it shares with the last one, how long the rest is, both varints; the rest
//
// Lengths apart from their numbers are decoded without a branch for each byte, which a varint needs.
//
// A record of a folder: folderMark, then its path as a name. "The last one" is in the same block, or 0 and "".

// low[n] has the low n bytes set.
var low = [16]uint64{
	0, 1<<8 - 1, 1<<16 - 1, 1<<24 - 1, 1<<32 - 1, 1<<40 - 1, 1<<48 - 1, 1<<56 - 1, 1<<64 - 1,
	1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1,
}

// field returns the number of n bytes at the start of p, which has 8 at least.
func field(p []byte, n uint16) uint64 {
	return binary.LittleEndian.Uint64(p) & low[n&15]
}

// putField writes v and returns how many bytes of it count; it overwrites 8.
func putField(p []byte, v uint64) int {
	binary.LittleEndian.PutUint64(p, v)
	return (bits.Len64(v) + 7) / 8
}

func zigzag(d int64) uint64   { return uint64(d)<<1 ^ uint64(d>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// shared returns how many bytes a and b have in common at their start.
func shared(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
