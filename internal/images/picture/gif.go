package picture

// gifState is where the walk through a GIF's blocks is.
type gifState struct {
	image bool // the data sub-blocks that come are an image's
	any   bool // there was an image
	stray bool // zeros follow it, and nothing else so far
}

func (c *Checker) startGIF() { c.await(7, (*Checker).gifScreen) }

func (c *Checker) gifScreen() {
	c.skip = gifColours(c.head[4])
	c.scan = (*Checker).gifBlock
}

// gifColours is the length of the colour table that the flags of a screen or an image announce.
func gifColours(flags byte) int64 {
	if flags&0x80 == 0 {
		return 0
	}
	return 3 << (1 + flags&7)
}

// gifBlock begins a block. Between two of them, once there is an image, a file may end without a trailer, and a block that no
// standard knows ends it: browsers show both. Some encoders write zeros between blocks (golang.org/issue/38853).
func (c *Checker) gifBlock(p []byte) int {
	c.gif.stray = p[0] == 0
	switch p[0] {
	case 0:
	case '!':
		c.whole = false
		c.await(1, (*Checker).gifExtension)
	case ',':
		c.whole = false
		c.await(9, (*Checker).gifImage)
	default:
		c.gifEnd()
	}
	return 1
}

func (c *Checker) gifEnd() {
	if c.gif.any {
		c.done()
		return
	}
	c.fail(Broken)
}

func (c *Checker) gifExtension() {
	c.gif.image = false
	c.scan = (*Checker).gifData
}

func (c *Checker) gifImage() {
	c.gif.image = true
	c.skip = gifColours(c.head[8])
	c.await(1, func(c *Checker) { c.scan = (*Checker).gifData }) // the code size says nothing
}

// gifData goes over sub-blocks, each of which begins with its length, up to the empty one.
func (c *Checker) gifData(p []byte) int {
	for i := 0; i < len(p); {
		n := int(p[i])
		i++
		if n == 0 {
			c.gif.any = c.gif.any || c.gif.image
			c.whole = c.gif.any
			c.scan = (*Checker).gifBlock
			return i
		}
		if i += n; i > len(p) {
			c.skip = int64(i - len(p))
		}
	}
	return len(p)
}
