package picture

import (
	"encoding/binary"
	"hash/crc32"
)

// pngState is where the walk through a PNG's chunks is.
type pngState struct {
	left  int64  // bytes of the chunk's data that are to come
	sum   uint32 // CRC of its type and data so far
	end   bool   // it is the last
	image bool   // there was image data
}

func (c *Checker) startPNG() { c.await(8, (*Checker).pngChunk) }

func (c *Checker) pngChunk() {
	length, kind := binary.BigEndian.Uint32(c.head[:]), c.head[4:8]
	if length > 1<<31-1 {
		c.fail(Broken)
		return
	}
	c.png.left, c.png.sum = int64(length), crc32.ChecksumIEEE(kind)
	c.png.end = string(kind) == "IEND"
	c.png.image = c.png.image || string(kind) == "IDAT"
	if length == 0 {
		c.await(4, (*Checker).pngSum)
		return
	}
	c.scan = (*Checker).pngData
}

func (c *Checker) pngData(p []byte) int {
	p = p[:min(c.png.left, int64(len(p)))]
	c.png.sum = crc32.Update(c.png.sum, crc32.IEEETable, p)
	c.png.left -= int64(len(p))
	if c.png.left == 0 {
		c.await(4, (*Checker).pngSum)
	}
	return len(p)
}

func (c *Checker) pngSum() {
	switch {
	case binary.BigEndian.Uint32(c.head[:]) != c.png.sum:
		c.fail(Checksum)
	case !c.png.end:
		c.await(8, (*Checker).pngChunk)
	case c.png.image:
		c.done()
	default:
		c.fail(Broken)
	}
}
