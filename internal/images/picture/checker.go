package picture

import (
	"bytes"
	"math"
)

// zeroRun is how many zero bytes at its end an image must have to be called damaged where its structure says nothing of
// its end: a disk's smallest block, which is what a lost write leaves. Encoders do not write that many.
const zeroRun = 512

// Checker looks at the bytes of one file after another as they pass. It allocates nothing.
//
// It is a machine whose state is what to do with the bytes to come: first skip some, then gather a few in head for then,
// then give the others to scan. Without any of these it is done with the file, whatever follows.
type Checker struct {
	claims bool  // the file is named like an image
	size   int64 // that it was said to have
	seen   int64 // bytes that came
	zeros  int64 // zero bytes at the end of them

	known  bool   // the format is
	whole  bool   // all that has to be there came, as far as one can see now
	run    int64  // zero bytes at the end of the pixels, where only they tell that the end is there
	spare  int64  // the run that is harmless
	damage Damage // found on the way

	off   int64 // bytes that the machine is done with
	skip  int64
	need  int // bytes of head that are to come before then is called
	have  int
	head  [16]byte
	then  func(*Checker)
	scan  func(c *Checker, p []byte) int // takes at least one byte of p and says how many
	first [sniffed]byte                  // the file's first bytes

	jpeg jpegState
	png  pngState
	gif  gifState
	webp webpState
	box  boxState
}

// Reset begins a file of size bytes. Only a file whose name ends like an image's can be damaged.
func (c *Checker) Reset(name []byte, size int64) {
	*c = Checker{claims: claimsImage(name), size: size, spare: zeroRun - 1}
	c.await(sniffed, (*Checker).sniff)
}

// Write takes the next bytes. It never fails.
func (c *Checker) Write(p []byte) (int, error) {
	c.seen += int64(len(p))
	if c.claims {
		c.zeros = zerosAtEnd(c.zeros, p)
		c.feed(p)
	}
	return len(p), nil
}

// Damage is the verdict, after the last byte.
func (c *Checker) Damage() Damage {
	switch {
	case !c.claims:
		return None
	case c.seen == 0 && c.size == 0:
		return Empty
	case c.seen < c.size:
		return Cut
	case c.whole && !c.fades():
		return None
	case c.whole || c.zeros >= zeroRun:
		return Zeros
	case !c.known:
		return c.unknown()
	case c.damage != None:
		return c.damage
	}
	return Cut
}

// fades says whether an image that is whole by its lengths has no pixels at its end.
func (c *Checker) fades() bool { return c.run > c.spare || c.gif.stray && c.zeros >= zeroRun }

func (c *Checker) feed(p []byte) {
	for len(p) > 0 {
		var n int
		switch {
		case c.skip > 0:
			n = int(min(c.skip, int64(len(p))))
			c.skip -= int64(n)
			c.off += int64(n)
		case c.need > 0:
			n = copy(c.head[c.have:c.need], p)
			c.have += n
			c.off += int64(n)
			if c.have == c.need {
				c.need = 0
				c.then(c)
			}
		case c.scan != nil:
			n = c.scan(c, p)
			c.off += int64(n)
		default:
			return
		}
		p = p[n:]
	}
}

// await has the next n bytes gathered in head, then calls then.
func (c *Checker) await(n int, then func(*Checker)) {
	c.need, c.have, c.then, c.scan = n, 0, then, nil
}

// done ends the checking: all that has to be there came.
func (c *Checker) done() { c.whole, c.skip, c.need, c.scan = true, 0, 0, nil }

// fail ends the checking.
func (c *Checker) fail(d Damage) {
	c.done()
	c.whole, c.damage = false, d
}

// zerosAtEnd is the number of zero bytes that a stream ends in, which ended in before of them until p came.
func zerosAtEnd(before int64, p []byte) int64 {
	n := int64(len(p) - len(bytes.TrimRight(p, "\x00")))
	if n < int64(len(p)) {
		return n
	}
	return min(before, math.MaxInt64-n) + n
}
