package mask

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"rehearsal/internal/run"
)

// KeyVariable is the environment variable that keeps pseudonyms stable between resets.
const KeyVariable = "REHEARSAL_MASK_KEY"

// Key is the secret of the pseudonyms: under one key the same value gets the same pseudonym in every column
// of a verb, and without the key nobody can tell which value it was.
type Key struct {
	secret []byte
}

// LoadKey takes the key from KeyVariable or, where that is not set, makes a random one that ends with the
// process. A key that is set but empty is refused: it would be everybody's.
func LoadKey() (Key, error) {
	secret, set := os.LookupEnv(KeyVariable)
	if !set {
		random := make([]byte, sha256.BlockSize)
		rand.Read(random) // never fails: crypto/rand ends the program instead
		return Key{random}, nil
	}
	if strings.TrimSpace(secret) == "" {
		return Key{}, run.Fail(run.Usage, "set it to a long random text (openssl rand -hex 32), or unset it for a new key at each reset",
			"%s is empty", KeyVariable)
	}
	return Key{[]byte(secret)}, nil
}

// Format keeps the key out of logs and messages, whatever the verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, "masking key") }

// Settings returns the settings that a session must have for the triggers to mask: the two blocks of RFC 2104
// in hex. They go to pg_restore through PGOPTIONS, so that no file, log or catalogue holds them.
func (k Key) Settings() map[string]string {
	if len(k.secret) == 0 {
		panic("mask: Settings of a Key that LoadKey did not make")
	}
	return map[string]string{ipadSetting: k.pad(0x36), opadSetting: k.pad(0x5c)}
}

// pad is the key, filled up to one block of SHA-256, combined with one byte (RFC 2104, section 2).
func (k Key) pad(with byte) string {
	var block [sha256.BlockSize]byte
	if len(k.secret) > len(block) {
		hash := sha256.Sum256(k.secret)
		copy(block[:], hash[:])
	} else {
		copy(block[:], k.secret)
	}
	for i := range block {
		block[i] ^= with
	}
	return hex.EncodeToString(block[:])
}

// Email returns what the verb email makes of address, as the triggers do it: accounts are found by it.
func (k Key) Email(address string) string {
	return string(newHasher(k).pseudonym(nil, emailVerb, []byte(address), 0))
}
