package content

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rehearsal/internal/images/picture"
)

// pixels are so unlike each other that a PNG of 800 x 600 is larger than the buffer.
func pixels(width, height int) image.Image {
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	x := uint32(1)
	for i := range m.Pix {
		x = x*1664525 + 1013904223
		m.Pix[i] = byte(x >> 24)
	}
	return m
}

func encodedJPEG(t *testing.T) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, pixels(64, 64), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encodedPNG(t *testing.T) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, pixels(800, 600)); err != nil {
		t.Fatal(err)
	}
	if b.Len() <= bufferSize {
		t.Fatalf("%d bytes fit the buffer", b.Len())
	}
	return b.Bytes()
}

// spoiled is a JPEG whose parts are all there, with a scan that is none.
func spoiled(t *testing.T) []byte {
	b := encodedJPEG(t)
	scan := bytes.Index(b, []byte{0xff, 0xda}) + 14
	for i := scan; i < len(b)-3; i += 2 {
		b[i], b[i+1] = 0xff, 0
	}
	return b
}

func TestDeepReadingDecodesThePixels(t *testing.T) {
	dir := t.TempDir()
	f := folder(t, dir)
	for _, c := range []struct {
		name    string
		data    []byte
		damage  picture.Damage
		decoded bool
	}{
		{"small.jpg", encodedJPEG(t), picture.None, true},
		{"large.png", encodedPNG(t), picture.None, true},
		{"spoiled.jpg", spoiled(t), picture.Pixels, true},
		{"cut.png", encodedPNG(t)[:1_500_000], picture.Cut, false}, // known without decoding
		{"notes.txt", []byte("no image"), picture.None, false},
	} {
		if err := os.WriteFile(filepath.Join(dir, c.name), c.data, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, deep := range []bool{true, false} {
			res, err := newReader(t, Options{Algorithm: XXH128, Deep: deep}).Read(t.Context(), f, []byte(c.name))
			if err != nil || res.Hash != HashOf(XXH128, c.data) {
				t.Errorf("%s: %+v, %v", c.name, res, err)
			}
			damage := c.damage
			if !deep && damage == picture.Pixels {
				damage = picture.None
			}
			if res.Damage != damage || res.Decoded != (deep && c.decoded) {
				t.Errorf("%s, deep %v: %s, decoded %v", c.name, deep, res.Damage, res.Decoded)
			}
		}
	}
}

func TestWhatEndsOrChangesWhileItIsDecodedIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "large.png")
	data := encodedPNG(t)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	f := folder(t, dir)
	const once = 200 * time.Millisecond // for one pass
	r := newReader(t, Options{Algorithm: XXH128, Deep: true, Limit: &Limit{rate: int64(float64(len(data)) / once.Seconds())}})

	ctx, cancel := context.WithTimeout(t.Context(), once*3/2)
	defer cancel()
	if res, err := r.Read(ctx, f, []byte("large.png")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended: %+v, %v", res, err)
	}

	truncated := make(chan error, 1)
	time.AfterFunc(once*3/2, func() { truncated <- os.Truncate(path, int64(len(data)/2)) })
	res, err := r.Read(t.Context(), f, []byte("large.png"))
	if err := <-truncated; err != nil {
		t.Fatal(err)
	}
	if err != nil || res.Hash != HashOf(XXH128, data[:len(data)/2]) || res.Damage != picture.Cut {
		t.Errorf("truncated: %+v, %v", res, err)
	}
}
