package picture

import "bytes"

// sniffed is how many bytes the format is told from. No image is shorter.
const sniffed = 16

// formats are how images begin, and how each is checked from byte skip on; without check there is nothing that it could
// be told from that its end is missing.
var formats = []struct {
	magic string // '?' is any byte
	skip  int
	check func(*Checker)
}{
	{"\xff\xd8", 2, (*Checker).startJPEG},
	{"\x89PNG\r\n\x1a\n", 8, (*Checker).startPNG},
	{"GIF87a", 6, (*Checker).startGIF},
	{"GIF89a", 6, (*Checker).startGIF},
	{"RIFF????WEBP", 12, (*Checker).startWebP},
	{"????ftyp", 0, (*Checker).startBoxes}, // AVIF, HEIC
	{"BM", 0, nil},
	{"II*\x00", 0, nil}, // TIFF, and most raw formats of cameras
	{"MM\x00*", 0, nil},
	{"II+\x00", 0, nil}, // BigTIFF
	{"MM\x00+", 0, nil},
	{"II\xbc\x01", 0, nil}, // JPEG XR
	{"8BPS", 0, nil},       // Photoshop
	{"\x00\x00\x01\x00", 0, nil},
	{"\x00\x00\x02\x00", 0, nil}, // Windows' icons and cursors
	{"\xff\x0a", 0, nil},         // JPEG XL
	{"\x00\x00\x00\x0cJXL \r\n\x87\n", 0, nil},
	{"\x00\x00\x00\x0cjP  \r\n\x87\n", 0, nil}, // JPEG 2000
	{"\xff\x4f\xff\x51", 0, nil},
	{"\x8aMNG\r\n\x1a\n", 0, nil},
	{"\x8bJNG\r\n\x1a\n", 0, nil},
}

// sniff finds the format by the file's first bytes, whatever the name says, and has it checked.
func (c *Checker) sniff() {
	c.first = c.head
	for _, f := range formats {
		if !begins(c.first[:], f.magic) {
			continue
		}
		c.known = true
		if f.check == nil {
			c.done()
			return
		}
		c.off = int64(f.skip)
		f.check(c)
		c.feed(c.first[f.skip:])
		return
	}
	c.fail(NotImage)
}

// unknown is the verdict on a file whose format is not known: too short to be told, or none of ours.
func (c *Checker) unknown() Damage {
	if c.seen >= sniffed {
		return NotImage
	}
	for _, f := range formats {
		n := min(c.have, len(f.magic))
		if f.magic[:n] != "????"[:min(n, 4)] && begins(c.head[:n], f.magic[:n]) {
			return Cut
		}
	}
	return NotImage
}

func begins(p []byte, magic string) bool {
	if len(p) < len(magic) {
		return false
	}
	for i := range len(magic) {
		if magic[i] != '?' && magic[i] != p[i] {
			return false
		}
	}
	return true
}

// extensions are those of files that are to be images which we know. SVG is text, and raw formats are of many kinds.
var extensions = map[string]bool{
	"jpg": true, "jpeg": true, "jpe": true, "jfif": true, "pjpeg": true, "pjp": true,
	"png": true, "apng": true, "gif": true, "webp": true, "bmp": true, "dib": true, "tif": true, "tiff": true,
	"avif": true, "avifs": true, "heic": true, "heics": true, "heif": true, "heifs": true, "hif": true,
}

// claimsImage says whether a file's name is that of an image. One that begins with "._" is not: macOS writes such files
// beside the image where the file system has no extended attributes.
func claimsImage(name []byte) bool {
	var lower [8]byte
	ext := name[bytes.LastIndexByte(name, '.')+1:]
	if len(ext) == len(name) || len(ext) > len(lower) || bytes.HasPrefix(name, []byte("._")) {
		return false
	}
	for i, b := range ext {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		lower[i] = b
	}
	return extensions[string(lower[:len(ext)])]
}
