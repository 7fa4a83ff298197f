package picture

import (
	"encoding/binary"
	"math"
)

// exifRun is the run of zeros that is harmless in a file with Exif: cameras pad it to the 64 KiB that it can have, and it may
// be the last that is stored.
const exifRun = 1 << 16

// boxState is where the walk through an AVIF's or HEIC's boxes is (ISO/IEC 14496-12, 4.2).
type boxState struct {
	kind  [4]byte
	left  int64  // bytes of the box that are to come
	last  uint32 // the last four of those that came
	index bool   // there was the box that says where the pixels are
	data  bool   // there were pixels
}

func (c *Checker) startBoxes() { c.await(8, (*Checker).boxHeader) }

func (c *Checker) boxHeader() {
	c.box.kind = [4]byte(c.head[4:8])
	switch size := binary.BigEndian.Uint32(c.head[:]); size {
	case 0: // up to the end
		c.boxBegin(math.MaxInt64)
	case 1:
		c.await(8, (*Checker).boxLong)
	default:
		c.boxBegin(int64(size) - 8)
	}
}

func (c *Checker) boxLong() { c.boxBegin(int64(binary.BigEndian.Uint64(c.head[:])) - 16) }

// boxBegin begins a box with size bytes after its header. Where all is there that has to be, what looks like no box of the
// image's is bytes after its end.
func (c *Checker) boxBegin(size int64) {
	b := &c.box
	needed := b.isIndex() || b.isData()
	if size < 0 || !printable(string(b.kind[:])) {
		if !c.whole {
			c.fail(Broken)
		}
		return
	}
	b.left, b.last = size, 0
	if needed {
		c.whole = size == math.MaxInt64 && (b.index || b.isIndex())
	}
	c.run = 0
	if c.scan = (*Checker).boxBody; size == 0 {
		c.boxEnd()
	}
}

func (b *boxState) isIndex() bool { return string(b.kind[:]) == "meta" || string(b.kind[:]) == "moov" }
func (b *boxState) isData() bool  { return string(b.kind[:]) == "mdat" }

func (c *Checker) boxBody(p []byte) int {
	b := &c.box
	p = p[:min(b.left, int64(len(p)))]
	switch {
	case b.isData():
		c.run = zerosAtEnd(c.run, p)
	case b.isIndex():
		c.boxIndex(p)
	}
	if b.left -= int64(len(p)); b.left == 0 {
		c.boxEnd()
	}
	return len(p)
}

// boxIndex looks for the two names in the index that matter: pixels may be in it too, and Exif changes what zeros mean.
func (c *Checker) boxIndex(p []byte) {
	const exif, idat = 'E'<<24 | 'x'<<16 | 'i'<<8 | 'f', 'i'<<24 | 'd'<<16 | 'a'<<8 | 't'
	for _, x := range p {
		c.box.last = c.box.last<<8 | uint32(x)
		switch c.box.last {
		case exif:
			c.spare = exifRun
		case idat:
			c.box.data = true
		}
	}
}

func (c *Checker) boxEnd() {
	b := &c.box
	b.index = b.index || b.isIndex()
	b.data = b.data || b.isData()
	c.whole = b.index && b.data
	c.await(8, (*Checker).boxHeader)
}
