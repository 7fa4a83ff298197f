package picture

import (
	"bytes"
	"encoding/binary"
)

// jpegState is where the walk through a JPEG's markers is (ITU-T T.81, annex B).
type jpegState struct {
	marker byte // whose length comes
	ff     bool // the last byte was 0xFF, so that a marker may come
	frame  bool // there was a frame header
	scan   bool // there was a scan
}

func (c *Checker) startJPEG() { c.scan = (*Checker).jpegMarker }

// jpegMarker looks for the next marker that has a segment, or for the end. Between segments and in a scan's data the rule
// is the same, as decoders pass over bytes that have no business between segments: a 0xFF may be repeated, a stuffed 0xFF 0x00
// and a restart are none. What is no marker by the standard is passed over too: in JPEG-LS it is data.
func (c *Checker) jpegMarker(p []byte) int {
	i := 0
	if !c.jpeg.ff {
		i = bytes.IndexByte(p, 0xFF) + 1
		if i == 0 {
			return len(p)
		}
	}
	for i < len(p) { // p[i] comes after a 0xFF
		b := p[i]
		switch {
		case b == 0xFF:
			i++
			continue
		case 0xC0 <= b && (b < 0xD0 || b > 0xD8):
			c.jpeg.ff = false
			c.jpegFound(b)
			return i + 1
		}
		n := bytes.IndexByte(p[i+1:], 0xFF)
		if n < 0 {
			c.jpeg.ff = false
			return len(p)
		}
		i += n + 2
	}
	c.jpeg.ff = true
	return len(p)
}

func (c *Checker) jpegFound(marker byte) {
	switch {
	case marker != 0xD9:
		c.jpeg.marker = marker
		c.await(2, (*Checker).jpegSegment)
	case c.jpeg.frame && c.jpeg.scan:
		c.done()
	default:
		c.fail(Broken)
	}
}

// jpegSegment skips a segment, and so what is embedded: a thumbnail is a JPEG with an end of its own.
func (c *Checker) jpegSegment() {
	switch m := c.jpeg.marker; {
	case m == 0xDA:
		c.jpeg.scan = true
	case m == 0xF7, m <= 0xCF && m != 0xC4 && m != 0xC8 && m != 0xCC:
		c.jpeg.frame = true
	}
	length := binary.BigEndian.Uint16(c.head[:])
	if length < 2 {
		c.fail(Broken)
		return
	}
	c.skip = int64(length) - 2
	c.scan = (*Checker).jpegMarker
}
