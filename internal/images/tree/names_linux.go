package tree

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// names are those of one folder. A name of 24 bytes takes 29, so that five million of them fit in 150 MB, and no
// pointer, so that the garbage collector has nothing to do with them.
type names struct {
	blocks [][]byte // length and bytes of each name; each is allocated once and filled
	refs   []uint32 // where each name is: the block, and blockBits for the place in it
}

const (
	blockBits = 18
	maxBlocks = 1 << (32 - blockBits)
)

// add is false when 4 GiB are full.
func (n *names) add(name []byte) bool {
	last := len(n.blocks) - 1
	if last < 0 || len(n.blocks[last])+binary.MaxVarintLen16+len(name) > 1<<blockBits {
		if last++; last == maxBlocks {
			return false
		}
		n.blocks = append(n.blocks, make([]byte, 0, 1<<blockBits))
	}
	block := n.blocks[last]
	n.refs = append(n.refs, uint32(last<<blockBits|len(block)))
	n.blocks[last] = append(binary.AppendUvarint(block, uint64(len(name))), name...)
	return true
}

func (n *names) len() int { return len(n.refs) }

// at is the name with the number i. It is valid until reset.
func (n *names) at(i int) []byte { return n.name(n.refs[i]) }

func (n *names) name(ref uint32) []byte {
	block := n.blocks[ref>>blockBits][ref&(1<<blockBits-1):]
	if size := int(block[0]); size < 0x80 {
		return block[1 : 1+size : 1+size]
	}
	size, prefix := binary.Uvarint(block)
	return block[prefix : prefix+int(size)]
}

// sort sorts bytewise. A name that is there twice, as some file systems say of one that is renamed while they are asked,
// is there once.
func (n *names) sort() {
	slices.SortFunc(n.refs, func(a, b uint32) int { return bytes.Compare(n.name(a), n.name(b)) })
	n.refs = slices.CompactFunc(n.refs, func(a, b uint32) bool { return bytes.Equal(n.name(a), n.name(b)) })
}

// take moves the names to where they stay, and leaves n empty.
func (n *names) take() names {
	taken := names{blocks: n.blocks, refs: n.refs}
	if len(n.blocks) == 1 {
		taken = names{blocks: [][]byte{bytes.Clone(n.blocks[0])}, refs: slices.Clone(n.refs)}
		n.reset()
	} else {
		*n = names{}
	}
	return taken
}

// reset empties n, and keeps what a usual folder needs.
func (n *names) reset() {
	if len(n.blocks) > 1 {
		*n = names{}
	}
	if len(n.blocks) == 1 {
		n.blocks[0] = n.blocks[0][:0]
	}
	n.refs = n.refs[:0]
}
