package canary

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"

	"rehearsal/internal/copytext"
)

// A Column is one column of a table, with what decides how its fields are treated.
type Column struct {
	Name     string
	Base     string // pg_type.typname, below domains: "text", "jsonb", "tsvector", "_text"
	Category byte   // pg_type.typcategory of Base
	Masked   bool   // its values are not to be found on staging
	Compare  bool   // it is part of the fingerprint

	// Path says for json and jsonb what the rules make of a place in the document: listed where a path of theirs ends
	// there or goes on from there, so that the names on the way to it stay; kept where its scalar stays as it is. Steps
	// are names of members, and * for an element of an array; a member that is named so has double quotes, as in
	// columns.yaml. Nil lists nothing.
	Path func(steps []string) (listed, kept bool)
}

func (c *Column) isDocument() bool { return c.Base == "json" || c.Base == "jsonb" }

// maxPiece is how much of a field is in memory at once.
const maxPiece = copytext.MaxPiece

// unescape appends to dst a text without the backslashes of JSON strings, which those of arrays, composites and E”
// strings are a part of. What is no such escape loses its backslash all the same: the text is for searching only.
func unescape(dst, text []byte) []byte {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 || i+1 == len(text) {
			return append(dst, text...)
		}
		dst = append(dst, text[:i]...)
		c := text[i+1]
		text = text[i+2:]
		switch {
		case c == 'u':
			var r rune
			if r, text = hexRune(text); r >= 0 {
				dst = utf8.AppendRune(dst, r)
				continue
			}
		case c != 'v' && copytext.Escapes[c] != 0:
			c = copytext.Escapes[c]
		}
		dst = append(dst, c)
	}
}

// hexRune reads the four digits behind \u, and those of the second half of a surrogate pair. It returns -1 and the whole
// text where there are none.
func hexRune(text []byte) (r rune, rest []byte) {
	r = hex4(text)
	if r < 0 {
		return -1, text
	}
	rest = text[4:]
	if utf16.IsSurrogate(r) && len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
		if low := hex4(rest[2:]); low >= 0 {
			return utf16.DecodeRune(r, low), rest[6:]
		}
	}
	return r, rest
}

func hex4(text []byte) (r rune) {
	if len(text) < 4 {
		return -1
	}
	for _, c := range text[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}
