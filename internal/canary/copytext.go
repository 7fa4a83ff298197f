package canary

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
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

// maxPiece is how much of a field is in memory at once. Longer ones, up to PostgreSQL's 1 GB, come in pieces.
const maxPiece = 256 << 10

// endOfData is the line that ends the data of a table in a dump. As a value it would be \\. there.
const endOfData = `\.`

// splitter splits COPY's text format at its tabs and newlines; within values both are escaped. Where the chunks are cut
// makes no difference to what it emits.
type splitter struct {
	// emit gets the fields one by one, or what of a field is left after its first pieces; end is the tab or newline
	// behind it. Pieces before have maxPiece bytes, and no end (0).
	emit func(piece []byte, end byte)
	part []byte // of a field whose end is yet to come
	open bool   // a row has begun and not ended
}

func (s *splitter) write(p []byte) {
	for len(p) > 0 {
		newline := bytes.IndexByte(p, '\n')
		row := p
		if newline >= 0 {
			row = p[:newline]
		}
		for tab := bytes.IndexByte(row, '\t'); tab >= 0; tab = bytes.IndexByte(row, '\t') {
			s.field(row[:tab], '\t')
			row = row[tab+1:]
		}
		s.open = newline < 0
		if s.open {
			s.field(row, 0)
			return
		}
		s.field(row, '\n')
		p = p[newline+1:]
	}
}

func (s *splitter) field(b []byte, end byte) {
	if end != 0 && len(s.part) == 0 && len(b) < maxPiece {
		s.emit(b, end)
		return
	}
	for len(s.part)+len(b) >= maxPiece {
		n := maxPiece - len(s.part)
		s.part, b = append(s.part, b[:n]...), b[n:]
		s.emit(s.part, 0)
		s.part = s.part[:0]
	}
	s.part = append(s.part, b...)
	if end != 0 {
		s.emit(s.part, end)
		s.part = s.part[:0]
	}
}

// close ends a last row that lacks its newline.
func (s *splitter) close() {
	if s.open {
		s.open = false
		s.emit(s.part, '\n')
		s.part = nil
	}
}

// copyEscapes are the letters that COPY TO writes behind a backslash. It writes no octal or hex digits there.
var copyEscapes = [256]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

// unescapeCopy appends the value of a field to dst.
func unescapeCopy(dst, field []byte) []byte {
	for {
		i := bytes.IndexByte(field, '\\')
		if i < 0 || i+1 == len(field) {
			return append(dst, field...)
		}
		c := field[i+1]
		if copyEscapes[c] != 0 {
			c = copyEscapes[c]
		}
		dst = append(append(dst, field[:i]...), c)
		field = field[i+2:]
	}
}

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
		case c != 'v' && copyEscapes[c] != 0:
			c = copyEscapes[c]
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
