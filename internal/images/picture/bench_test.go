package picture

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/zeebo/blake3"
)

// BenchmarkChecker is to be read next to BenchmarkHash, which is what the bytes pass on to: images of 1 MB in pieces of 256 KiB.
func BenchmarkChecker(b *testing.B) {
	for name, data := range big(b) {
		b.Run(name, func(b *testing.B) {
			var c Checker
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				c.Reset([]byte(name), int64(len(data)))
				inPieces(data, func(p []byte) { c.Write(p) })
				if d := c.Damage(); d != None {
					b.Fatal(d)
				}
			}
		})
	}
}

func BenchmarkHash(b *testing.B) {
	data := big(b)["a.jpg"]
	h := blake3.New()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		h.Reset()
		inPieces(data, func(p []byte) { h.Write(p) })
		h.Sum(nil)
	}
}

func inPieces(data []byte, f func([]byte)) {
	for len(data) > 0 {
		n := min(len(data), 256<<10)
		f(data[:n])
		data = data[n:]
	}
}

// big makes images of random pixels' data, which is as dense in 0xFF as a real one's.
func big(b *testing.B) map[string][]byte {
	noise := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	still := sample(b, "baseline.jpg")
	jpeg := append(still[:len(still)-2:len(still)-2], bytes.ReplaceAll(noise, []byte{0xFF}, []byte{0xFF, 0})...)
	webp := append([]byte("RIFF\x00\x00\x10\x00WEBPVP8 \xf4\xff\x0f\x00"), noise[:len(noise)-12]...)
	png := []byte("\x89PNG\r\n\x1a\n")
	for p := noise; len(p) > 0; p = p[1<<13:] { // libpng writes pieces of 8 KiB
		png = chunk(png, "IDAT", p[:1<<13])
	}
	gif := []byte("GIF89a\x01\x00\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x08")
	for p := noise; len(p) >= 255; p = p[255:] {
		gif = append(append(gif, 255), p[:255]...)
	}
	avif := append([]byte("\x00\x00\x00\x0cftypavif\x00\x00\x00\x0cmetaidat\x00\x10\x00\x08mdat"), noise...)
	return map[string][]byte{"a.jpg": append(jpeg, 0xFF, 0xD9), "a.png": chunk(png, "IEND", nil), "a.gif": append(gif, 0, ';'),
		"a.webp": webp, "a.avif": avif}
}

func chunk(png []byte, kind string, data []byte) []byte {
	png = binary.BigEndian.AppendUint32(png, uint32(len(data)))
	png = append(append(png, kind...), data...)
	return binary.BigEndian.AppendUint32(png, crc32.Update(crc32.ChecksumIEEE([]byte(kind)), crc32.IEEETable, data))
}
