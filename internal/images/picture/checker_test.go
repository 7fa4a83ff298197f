package picture

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample is one of the small images in testdata, which were made with libjpeg-turbo, libwebp, libavif, libheif and ImageMagick.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func samples(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		if !f.IsDir() {
			all[f.Name()] = sample(t, f.Name())
		}
	}
	return all
}

func check(name string, data []byte) Damage {
	var c Checker
	c.Reset([]byte(name), int64(len(data)))
	c.Write(data)
	return c.Damage()
}

func zeroed(data []byte, n int) []byte {
	return append(bytes.Clone(data[:len(data)-n]), make([]byte, n)...)
}

func expect(t *testing.T, name string, data []byte, want Damage) {
	t.Helper()
	if got := check(name, data); got != want {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
}

func TestWholeImagesAreNotDamaged(t *testing.T) {
	for name, data := range samples(t) {
		expect(t, name, data, None)
	}
}

func TestBytesAfterTheEndAreHarmless(t *testing.T) {
	junk := bytes.Repeat([]byte("After the end. "), 5)
	for name, data := range samples(t) {
		for _, tail := range [][]byte{junk, junk[:1], make([]byte, 7), {0xFF}, {0xFF, 0xD8, 0xFF, 0xE0}, []byte("\x00\x00\x10\x00free")} {
			expect(t, name, append(bytes.Clone(data), tail...), None)
		}
		if name != "still.gif" && name != "animated.gif" {
			expect(t, name, append(bytes.Clone(data), make([]byte, 5000)...), None)
		}
	}
}

func TestAnImageMayHaveAnotherImagesExtension(t *testing.T) {
	for _, data := range samples(t) {
		expect(t, "photo.JPG", data, None)
	}
	expect(t, "photo.png", sample(t, "baseline.jpg")[:3000], Cut)
}

func TestEveryCutIsFound(t *testing.T) {
	for name, data := range samples(t) {
		if filepath.Ext(name) == ".bmp" || filepath.Ext(name) == ".tif" {
			continue // nothing in them tells where they end
		}
		for n := 1; n < len(data); n++ {
			if filepath.Ext(name) == ".gif" && data[n-1] == 0 && bytes.IndexByte([]byte(";!,"), data[n]) >= 0 && n > 1000 {
				continue // after an image browsers need no more
			}
			if filepath.Ext(name) == ".webp" && n == len(data)-1 && data[n] == 0 {
				continue // padding
			}
			if n <= 4 && filepath.Ext(name) != ".jpg" {
				continue // too short to tell
			}
			if got := check(name, data[:n]); got != Cut && got != Zeros {
				t.Fatalf("%s, the first %d of %d bytes: %q", name, n, len(data), got)
			}
		}
		if !strings.HasPrefix(name, "blank") { // they end in zeros anyhow
			expect(t, name, data[:len(data)*2/3], Cut)
			expect(t, name, data[:len(data)-2], Cut)
		}
	}
}

func TestAFileShorterThanItWasSaidToBeIsCut(t *testing.T) {
	var c Checker
	data := sample(t, "plain.bmp")
	c.Reset([]byte("plain.bmp"), int64(len(data)))
	c.Write(data[:len(data)-1])
	if got := c.Damage(); got != Cut {
		t.Error(got)
	}
}

func TestAnEndOfZerosIsFound(t *testing.T) {
	for name, data := range samples(t) {
		switch name {
		case "plain.bmp", "plain.tif", "blank.webp", "blank.lossless.webp", "animated.webp":
			continue // nothing tells zeros there from pixels
		case "lossless.webp":
			expect(t, name, zeroed(data, len(data)*2/3), Zeros)
			continue
		}
		for _, n := range []int{zeroRun, 1024, len(data) / 3} {
			expect(t, name, zeroed(data, max(n, zeroRun)), Zeros)
		}
		expect(t, name, make([]byte, len(data)), Zeros)
	}
}

// The blank images are as libwebp writes them: nothing but zeros for the last 2823 and 5826 bytes.
func TestBlankPixelsThatAreZerosAreHarmless(t *testing.T) {
	for name, run := range map[string]int64{"blank.webp": 2823, "blank.lossless.webp": 5826} {
		data := sample(t, name)
		if got := zerosAtEnd(0, data); got < run-1 {
			t.Fatalf("%s ends in %d zeros, so that this tests nothing", name, got)
		}
		expect(t, name, data, None)
	}
}

func TestPaddingOfExifIsHarmless(t *testing.T) {
	still := sample(t, "still.avif")
	padded := func(index string, zeros int) []byte {
		mdat := bytes.Index(still, []byte("mdat"))
		data := bytes.Clone(still[:mdat-4])
		for _, b := range []struct{ kind, body string }{{"meta", index}, {"mdat", "pixels" + string(make([]byte, zeros))}} {
			data = binary.BigEndian.AppendUint32(data, uint32(8+len(b.body)))
			data = append(data, b.kind+b.body...)
		}
		return data
	}
	expect(t, "a.heic", padded("infeav01", zeroRun), Zeros)
	expect(t, "a.heic", padded("infeav01", zeroRun-1), None)
	expect(t, "a.heic", padded("infeExif", 60000), None)
	expect(t, "a.heic", append(padded("infeav01", zeroRun), "\x00\x00\x00\x0cfreefree"...), None)
}

func TestWhatIsNoImageIsFound(t *testing.T) {
	for data, want := range map[string]Damage{
		"": Empty,
		"<!DOCTYPE html>\n<title>502 Bad Gateway</title>\n":               NotImage,
		"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>": NotImage,
		"version https://git-lfs.github.com/spec/v1\n":                    NotImage,
		"404":                              NotImage,
		"RIFF\x24\x00\x00\x00WAVEfmt data": NotImage,
		"\x89PN":                           Cut,
		"RIFF\x24\x00\x00\x00WE":           Cut,
		string(make([]byte, 100)):          NotImage,
		string(make([]byte, 1000)):         Zeros,
		"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xd9": Broken, // without a scan
		"\xff\xd8\xff\xe0\x00\x01JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xd9": Broken, // a length that cannot be
		"GIF89a\x01\x00\x01\x00\x00\x00\x00;some junk":                                 Broken, // without an image
		"\x00\x00\x00\x10ftypavif\x00\x00\x00\x00\x00\x00\x00\x05meta":                 Broken, // a length that cannot be
	} {
		for _, name := range []string{"a.jpg", "a.PNG", "a.b.gif", "a.webp", "a.avif", "a.Heic", "a.bmp", ".tiff"} {
			expect(t, name, []byte(data), want)
		}
	}
}

func TestOnlyNamesOfImagesAreChecked(t *testing.T) {
	for _, name := range []string{"a.html", "jpg", "a.jpg.tmp", "a.svg", "._a.jpg", "a.jpg/", "a.", "", "a.verylongextension", "photo\xff.mp4"} {
		for _, data := range []string{"", "<html>", "\x89PNG"} {
			expect(t, name, []byte(data), None)
		}
	}
	expect(t, "photo\xff\n.JpEg", []byte("<html>"), NotImage)
}

func TestAnyFlippedBitOfAPNGIsFound(t *testing.T) {
	data := sample(t, "palette.png")
	for i := range data {
		for bit := range 8 {
			data[i] ^= 1 << bit
			if check("a.png", data) == None {
				t.Fatalf("bit %d of byte %d", bit, i)
			}
			data[i] ^= 1 << bit
		}
	}
	data[len(data)/2] ^= 1
	expect(t, "a.png", data, Checksum)
}

func TestAPNGWithoutPixelsIsBroken(t *testing.T) {
	data := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x00IEND")
	data = binary.BigEndian.AppendUint32(data, crc32.ChecksumIEEE([]byte("IEND")))
	expect(t, "a.png", data, Broken)
}

func TestALengthThatCannotBeBreaksAJPEG(t *testing.T) {
	data := sample(t, "baseline.jpg")
	data[4], data[5] = 0, 1
	expect(t, "a.jpg", data, Broken)
}

func TestAGIFsImageMayHaveColoursOfItsOwn(t *testing.T) {
	const colours = "\x02\x00\x00;;;"
	data := []byte("GIF89a\x01\x00\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x80" + colours + "\x02\x02\x44\x01\x00;")
	expect(t, "a.gif", data, None)
	expect(t, "a.gif", data[:len(data)-3], Cut)
}

// Old encoders leave the trailer out, write zeros before it, or end the file with something else.
func TestAGIFMayEndAfterAnImage(t *testing.T) {
	data := sample(t, "still.gif")
	body := data[:len(data)-1]
	for _, end := range []string{"", "\x00\x00;", "\x00", "\x00\x00\x00\x00", "junk"} {
		expect(t, "a.gif", append(bytes.Clone(body), end...), None)
	}
	expect(t, "a.gif", append(bytes.Clone(body), make([]byte, zeroRun)...), Zeros)
}

func TestAWebPMayLackItsLastPaddingByte(t *testing.T) {
	data := append([]byte("RIFF\x00\x00\x00\x00WEBPVP8L\x0b\x00\x00\x00\x2f"), "0123456789\x00"...)
	binary.LittleEndian.PutUint32(data[4:], uint32(len(data)-8))
	expect(t, "a.webp", data, None)
	expect(t, "a.webp", data[:len(data)-1], None)
	expect(t, "a.webp", data[:len(data)-2], Cut)
}

func TestMetadataAfterTheImageThatIsZerosIsFound(t *testing.T) {
	data := append(sample(t, "lossy.webp"), "EXIF\x00\x08\x00\x00"...)
	data = append(data, bytes.Repeat([]byte("exif"), 512)...)
	binary.LittleEndian.PutUint32(data[4:], uint32(len(data)-8))
	expect(t, "a.webp", data, None)
	expect(t, "a.webp", zeroed(data, 2048+8), Zeros)
	expect(t, "a.webp", data[:len(data)-2], Cut)
}

func TestLengthsOfBoxesInTheirThreeForms(t *testing.T) {
	data := sample(t, "still.avif")
	mdat := bytes.Index(data, []byte("mdat"))
	body := data[mdat+4:]
	long := append(bytes.Clone(data[:mdat-4]), "\x00\x00\x00\x01mdat"...)
	long = binary.BigEndian.AppendUint64(long, uint64(16+len(body)))
	long = append(long, body...)
	expect(t, "a.avif", long, None)
	expect(t, "a.avif", long[:len(long)-2], Cut)
	open := bytes.Clone(data)
	copy(open[mdat-4:], "\x00\x00\x00\x00")
	expect(t, "a.avif", open, None)
	expect(t, "a.avif", zeroed(open, 1000), Zeros)
}

func TestASecondScanAndFillBytesBelongToAJPEG(t *testing.T) {
	data := sample(t, "progressive.jpg")
	if bytes.Count(data, []byte{0xFF, 0xDA}) < 2 {
		t.Fatal("one scan only, so that this tests nothing")
	}
	sos := bytes.Index(data, []byte{0xFF, 0xDA})
	filled := append(bytes.Clone(data[:sos]), 0xFF, 0xFF, 0xFF)
	filled = append(filled, data[sos:]...)
	expect(t, "a.jpg", filled, None)
	expect(t, "a.jpg", filled[:len(filled)-1], Cut)
}

func TestAThumbnailsEndIsNotTheImages(t *testing.T) {
	data := sample(t, "thumbnail.jpg")
	end := bytes.Index(data, []byte{0xFF, 0xD9})
	if end+2 == len(data) {
		t.Fatal("no thumbnail, so that this tests nothing")
	}
	expect(t, "a.jpg", data[:end+2], Cut)
	expect(t, "a.jpg", data[:end+10], Cut)
}

// split checks data in pieces, of n bytes or (n == 0) of random lengths.
func split(c *Checker, name string, data []byte, n int) Damage {
	c.Reset([]byte(name), int64(len(data)))
	for len(data) > 0 {
		k := n
		if n == 0 {
			k = 1 + rand.IntN(40)
		}
		k = min(k, len(data))
		c.Write(data[:k])
		data = data[k:]
	}
	return c.Damage()
}

func TestHowTheBytesAreSplitDoesNotMatter(t *testing.T) {
	var c Checker
	for name, data := range samples(t) {
		for _, data := range [][]byte{data, data[:len(data)-2], data[:len(data)*2/3], zeroed(data, len(data)/3), append(bytes.Clone(data), make([]byte, 600)...)} {
			want := check(name, data)
			for _, n := range []int{1, 2, 3, 7, 16, 511, 4096, 0, 0, 0} {
				if got := split(&c, name, data, n); got != want {
					t.Fatalf("%s in pieces of %d: %q, at once: %q", name, n, got, want)
				}
			}
		}
		for at := 0; at < min(len(data), 8000); at++ {
			c.Reset([]byte(name), int64(len(data)))
			c.Write(data[:at])
			c.Write(data[at:])
			if got := c.Damage(); got != None {
				t.Fatalf("%s split at %d: %q", name, at, got)
			}
		}
	}
}

func TestCheckingAllocatesNothing(t *testing.T) {
	all := samples(t)
	name := []byte("photo.jpeg")
	var c Checker
	allocs := testing.AllocsPerRun(10, func() {
		for _, data := range all {
			c.Reset(name, int64(len(data)))
			c.Write(data)
			c.Damage()
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func FuzzChecker(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data, uint16(7))
		f.Add(data[:len(data)/2], uint16(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, n uint16) {
		var c Checker
		want := check("a.jpg", data)
		if got := split(&c, "a.jpg", data, int(n)+1); got != want {
			t.Errorf("in pieces of %d: %q, at once: %q", int(n)+1, got, want)
		}
		if check("a.txt", data) != None {
			t.Error("a text is damaged")
		}
	})
}
