package index

import "rehearsal/internal/images/tree"

// Hash is the hash of a file's bytes, or of a link's target, truncated to 128 bits.
type Hash [16]byte

// Flags are what a reading found out about an entry. They are on disk and on the wire.
type Flags byte

const (
	Known   Flags = 1 << iota // Hash is that of the bytes; without it the entry was never read, or could not be
	Settled                   // the file was older than its reading, so that an equal Meta means equal bytes
	Decoded                   // the pixels were decoded, with success where Damage is 0
	Rotted                    // the bytes changed while size and mtime did not; Was is what they were before
)

// Entry is what is remembered of one file.
type Entry struct {
	Name []byte // valid until the next call of the Reader that returned it
	tree.Meta
	Hash   Hash
	Was    Hash   // where Rotted
	Read   uint32 // when it was last read in full, in seconds since 1970
	Flags  Flags
	Damage byte // a picture.Damage, 0 for none
}
