package mask

import "strings"

// What another process needs to mask as this one does: the text of the rules, which Parse reads there, and the key.

// Text is the file that the rules were read from, and what is in it.
func (r *Rules) Text() (file string, text []byte) {
	return r.file, []byte(strings.Join(r.source, "\n"))
}

// Secret is the key itself, for the process that masks in our place. It belongs into a pipe between the two, and into no
// file, log, argument or environment.
func (k Key) Secret() []byte { return k.secret }

// KeyOf makes the key of a Secret.
func KeyOf(secret []byte) Key { return Key{secret} }
