package picture

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"path/filepath"
	"testing"
	"testing/iotest"
)

func TestPixelsOfWholeImagesDecode(t *testing.T) {
	beyond := map[string]bool{"arithmetic.jpg": true, "animated.webp": true, ".avif": true, ".heic": true, ".bmp": true, ".tif": true}
	for name, data := range samples(t) {
		d, ok := Decode([]byte(name), iotest.OneByteReader(bytes.NewReader(data)))
		if want := !beyond[name] && !beyond[filepath.Ext(name)]; d != None || ok != want {
			t.Errorf("%s: %q, %v, want %v", name, d, ok, want)
		}
	}
}

func TestPixelsThatAreMissingDoNotDecode(t *testing.T) {
	for _, name := range []string{"baseline.jpg", "progressive.jpg", "cmyk.jpg", "palette.png", "still.gif", "lossy.webp", "lossless.webp"} {
		data := sample(t, name)
		d, ok := Decode([]byte(name), bytes.NewReader(data[:len(data)*2/3]))
		if d != Pixels || !ok {
			t.Errorf("%s: %q, %v", name, d, ok)
		}
	}
}

// A Checker cannot see this: the markers are where they have to be.
func TestZerosAmidAJPEGsPixelsDoNotDecode(t *testing.T) {
	data := sample(t, "baseline.jpg")
	clear(data[2000:5000])
	expect(t, "a.jpg", data, None)
	if d, ok := Decode([]byte("a.jpg"), bytes.NewReader(data)); d != Pixels || !ok {
		t.Errorf("%q, %v", d, ok)
	}
}

func TestDecodeTellsNothingWhereItCannot(t *testing.T) {
	whole := sample(t, "baseline.jpg")
	var huge bytes.Buffer
	if err := png.Encode(&huge, image.NewPaletted(image.Rect(0, 0, 1<<13, 1<<13+1), color.Palette{color.White})); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.Reader{
		"a.txt":      bytes.NewReader(whole[:2000]),
		"a.jpg":      bytes.NewReader([]byte("<html>")),
		"empty.jpg":  bytes.NewReader(nil),
		"failed.jpg": io.MultiReader(bytes.NewReader(whole[:2000]), iotest.ErrReader(errors.New("input/output error"))),
		"huge.png":   &huge,
	} {
		if d, ok := Decode([]byte(name), r); d != None || ok {
			t.Errorf("%s: %q, %v", name, d, ok)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, ok := Decode([]byte("a.jpg"), bytes.NewReader(data)); d != None && (d != Pixels || !ok) {
			t.Errorf("%q, %v", d, ok)
		}
	})
}
