package picture

import "encoding/binary"

// webpState is where the walk through a WebP's chunks is.
type webpState struct {
	end    int64 // offset in the file at which the image ends
	left   int64 // bytes of the chunk's data that are to come
	odd    int64 // 1 where a byte of padding follows them
	pixels bool  // they are pixels, whose end is looked at
	any    bool  // there were pixels
}

func (c *Checker) startWebP() {
	c.webp.end = 8 + int64(binary.LittleEndian.Uint32(c.first[4:]))
	c.await(8, (*Checker).webpChunk)
}

func (c *Checker) webpChunk() {
	w := &c.webp
	w.left = int64(binary.LittleEndian.Uint32(c.head[4:]))
	w.odd = w.left & 1
	switch kind := string(c.head[:4]); {
	case kind == "VP8 ", kind == "VP8L", kind == "ANMF":
		w.any, w.pixels, c.run = true, kind != "ANMF", 0
		w.end = max(w.end, c.off+w.left)
		if w.pixels && w.left >= webpHeader {
			c.await(webpHeader, (*Checker).webpArea)
			return
		}
	case printable(kind) && c.off+w.left <= w.end:
		w.pixels = false
	case w.any: // metadata went wrong, which harms nobody, unless it is zeros
		w.left, w.odd, w.pixels, c.run, c.spare = max(w.end-c.off, 0), 0, true, 0, zeroRun-1
	default:
		c.fail(Broken)
		return
	}
	if c.scan = (*Checker).webpData; w.left == 0 {
		c.webpNext(c.off)
	}
}

// webpHeader is as much of a picture as is needed for its dimensions.
const webpHeader = 10

// webpArea finds out how many zeros are harmless: a blank area takes few bits, and in both codecs these may be zeros. As
// libwebp writes it they were at most 0.72 bytes for a block of 16x16 pixels in VP8, and three bits for an opaque pixel
// in VP8L, at its fastest: there no code is longer than a bit, and there are four for a pixel.
func (c *Checker) webpArea() {
	c.webp.left -= webpHeader
	if c.head[0] == 0x2F { // VP8L (RFC 9649, 3.4); a key frame of VP8 begins with an even byte (RFC 6386, 9.1)
		v := binary.LittleEndian.Uint32(c.head[1:])
		w, h := int64(v&0x3FFF)+1, int64(v>>14&0x3FFF)+1
		c.spare = max(zeroRun-1, w*h/2)
	} else {
		w, h := int64(c.head[6])|int64(c.head[7]&0x3F)<<8, int64(c.head[8])|int64(c.head[9]&0x3F)<<8
		c.spare = max(zeroRun-1, 2*((w+15)/16)*((h+15)/16))
	}
	if c.scan = (*Checker).webpData; c.webp.left == 0 {
		c.webpNext(c.off)
	}
}

func (c *Checker) webpData(p []byte) int {
	p = p[:min(c.webp.left, int64(len(p)))]
	if c.webp.pixels {
		c.run = zerosAtEnd(c.run, p)
	}
	if c.webp.left -= int64(len(p)); c.webp.left == 0 {
		c.webpNext(c.off + int64(len(p)))
	}
	return len(p)
}

// webpNext goes on after a chunk that ended at off. The last byte of padding may be missing: some writers leave it out.
func (c *Checker) webpNext(off int64) {
	if c.webp.any && off+8 > c.webp.end {
		c.done()
		return
	}
	c.skip = c.webp.odd
	c.await(8, (*Checker).webpChunk)
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
