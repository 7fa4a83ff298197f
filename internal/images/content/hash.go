package content

import (
	"fmt"

	"github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"

	"rehearsal/internal/images/index"
)

// The hashes to choose from; both are cut to the 128 bits of index.Hash.
const (
	// BLAKE3 cannot be fooled on purpose. A reader that waits for the disk waits no longer because of it.
	BLAKE3 = "blake3"
	// XXH128 costs a twentieth, which counts where the files are in memory and the cores few, and finds accidents as well.
	XXH128 = "xxh128"
)

// HashOf is the hash of bytes at hand. The algorithm is one that NewReader accepts.
func HashOf(algorithm string, data []byte) index.Hash {
	switch algorithm {
	case BLAKE3:
		sum := blake3.Sum256(data)
		return index.Hash(sum[:16])
	case XXH128:
		return xxh3.Hash128(data).Bytes()
	}
	panic("content: no such hash: " + algorithm)
}

// digest hashes one file after the other, without allocating. One of its hashers is nil.
type digest struct {
	blake3 *blake3.Hasher
	xxh128 *xxh3.Hasher
	sum    [32]byte
}

func newDigest(algorithm string) (digest, error) {
	switch algorithm {
	case BLAKE3:
		return digest{blake3: blake3.New()}, nil
	case XXH128:
		return digest{xxh128: xxh3.New()}, nil
	}
	return digest{}, fmt.Errorf("no such hash: %q", algorithm)
}

func (d *digest) reset() {
	if d.blake3 != nil {
		d.blake3.Reset()
	} else {
		d.xxh128.Reset()
	}
}

func (d *digest) write(p []byte) {
	if d.blake3 != nil {
		d.blake3.Write(p)
	} else {
		d.xxh128.Write(p)
	}
}

func (d *digest) hash() index.Hash {
	if d.blake3 != nil {
		return index.Hash(d.blake3.Sum(d.sum[:0])[:16])
	}
	return d.xxh128.Sum128().Bytes()
}
