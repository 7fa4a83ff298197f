package picture

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"strings"

	"golang.org/x/image/webp"
	"golang.org/x/sync/semaphore"
)

// maxPixels bounds the memory of all decoding that goes on at once: a progressive JPEG takes up to 15 bytes a pixel, all
// others up to 8.
const maxPixels = 64 << 20

// decoding is the pixels that may be decoded beside those that are.
var decoding = semaphore.NewWeighted(maxPixels)

// maxHeader bounds what may come before an image's dimensions, which is kept until they are known.
const maxHeader = 16 << 20

// decoders are the standard ones for each format, which they know by its first bytes.
var decoders = []struct {
	magic  string
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}{
	{"\xff\xd8", jpeg.DecodeConfig, jpeg.Decode},
	{"\x89PNG\r\n\x1a\n", png.DecodeConfig, png.Decode},
	{"GIF8", gif.DecodeConfig, gif.Decode}, // the first frame
	{"RIFF????WEBP", webp.DecodeConfig, webp.Decode},
}

// pixelErrors are what decoders say when the pixels' own data are wrong. They refuse much else that browsers show, and tell
// it by their words only.
var pixelErrors = []string{
	"short Huffman data", "bad Huffman code", "unexpected Huffman code", "missing 0xff00 sequence",
	"too many coefficients", "bad RST marker", // image/jpeg
	"not enough pixel data", "bad filter type", // image/png
	"not enough image data", "lzw: invalid code", // image/gif
	"vp8l: invalid", // x/image/vp8l
}

// Decode decodes the pixels of an image that a Checker found whole. It returns ok only where it could tell: not for a format
// that it does not know (AVIF, HEIC) or an uncommon variant, not for an animated WebP, not for more than 64 megapixels, not
// where r fails. Of an animated GIF it decodes the first frame.
func Decode(name []byte, r io.Reader) (d Damage, ok bool) {
	if !claimsImage(name) {
		return None, false
	}
	defer func() {
		if recover() != nil { // a fault of the decoder's says nothing of the image
			d, ok = None, false
		}
	}()
	begin := bufio.NewReader(r)
	first, _ := begin.Peek(sniffed)
	for _, f := range decoders {
		if !begins(first, f.magic) {
			continue
		}
		var header bytes.Buffer
		size, err := f.config(io.TeeReader(io.LimitReader(begin, maxHeader), &header))
		weight := int64(size.Width) * int64(size.Height)
		if err != nil || weight > maxPixels {
			return None, false
		}
		_ = decoding.Acquire(context.Background(), weight) // it waits for decoders, which end
		defer decoding.Release(weight)
		_, err = f.decode(io.MultiReader(&header, begin))
		return pixels(err)
	}
	return None, false
}

// pixels is what a decoder's error says of an image.
func pixels(err error) (Damage, bool) {
	var corrupt flate.CorruptInputError
	switch {
	case err == nil:
		return None, true
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &corrupt):
		return Pixels, true
	}
	for _, words := range pixelErrors {
		if strings.Contains(err.Error(), words) {
			return Pixels, true
		}
	}
	return None, false
}
