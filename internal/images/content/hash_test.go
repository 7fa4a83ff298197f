package content

import (
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

// The first 128 bits of what b3sum and xxh128sum print.
func TestHashesAreThoseOfTheReferenceImplementations(t *testing.T) {
	for _, c := range []struct{ algorithm, data, want string }{
		{BLAKE3, "", "af1349b9f5f9a1a6a0404dea36dcc949"},
		{BLAKE3, "abc", "6437b3ac38465133ffb63b75273a8db5"},
		{XXH128, "", "99aa06d3014798d86001c324468d497f"},
		{XXH128, "abc", "06b05ab6733a618578af5f94892f3950"},
	} {
		h := HashOf(c.algorithm, []byte(c.data))
		if got := hex.EncodeToString(h[:]); got != c.want {
			t.Errorf("%s of %q: %s, want %s", c.algorithm, c.data, got, c.want)
		}
	}
}

func TestAHashDoesNotDependOnHowTheBytesArrive(t *testing.T) {
	data := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{1}).Read(data)
	for _, algorithm := range []string{BLAKE3, XXH128} {
		d, err := newDigest(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 64, 240, 1023, 1024, 1025, 8192, 8193, 100_000, 300_000} {
			for _, piece := range []int{7, 1024, 65_536, 1 << 20} {
				d.reset()
				for rest := data[:size]; len(rest) > 0; {
					n := min(piece, len(rest))
					d.write(rest[:n])
					rest = rest[n:]
				}
				if d.hash() != HashOf(algorithm, data[:size]) {
					t.Errorf("%s of %d bytes in pieces of %d is another", algorithm, size, piece)
				}
			}
		}
	}
}
