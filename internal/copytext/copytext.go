// Package copytext is the text format of PostgreSQL's COPY, in which a dump holds its rows: fields end with a tab or a
// newline, and within values both are escaped.
package copytext

import "bytes"

// MaxPiece is how much of a field is in memory at once. Longer ones, up to PostgreSQL's 1 GB, come in pieces.
const MaxPiece = 256 << 10

const (
	// EndOfData is the line that ends the data of a table in a dump. As a value it would be \\. there.
	EndOfData = `\.`
	// Null is how NULL is written.
	Null = `\N`
)

// Splitter splits rows into fields. Where the chunks are cut makes no difference to what it emits.
type Splitter struct {
	// Emit gets the fields one by one, or what of a field is left after its first pieces; end is the tab or newline
	// behind it. Pieces before have MaxPiece bytes, and no end (0). They are valid until Emit returns.
	Emit func(piece []byte, end byte)

	part []byte // of a field whose end is yet to come
	open bool   // a row has begun and not ended
}

// Also has see get every field too, before Emit does: rows for two readers need to be split once only.
func (s *Splitter) Also(see func(piece []byte, end byte)) {
	emit := s.Emit
	s.Emit = func(piece []byte, end byte) {
		see(piece, end)
		emit(piece, end)
	}
}

// Write takes the next chunk.
func (s *Splitter) Write(p []byte) {
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

func (s *Splitter) field(b []byte, end byte) {
	if end != 0 && len(s.part) == 0 && len(b) < MaxPiece {
		s.Emit(b, end)
		return
	}
	for len(s.part)+len(b) >= MaxPiece {
		n := MaxPiece - len(s.part)
		s.part, b = append(s.part, b[:n]...), b[n:]
		s.Emit(s.part, 0)
		s.part = s.part[:0]
	}
	s.part = append(s.part, b...)
	if end != 0 {
		s.Emit(s.part, end)
		s.part = s.part[:0]
	}
}

// Close ends a last row that lacks its newline.
func (s *Splitter) Close() {
	if s.open {
		s.open = false
		s.Emit(s.part, '\n')
		s.part = nil
	}
}

// Escapes are the letters that COPY TO writes behind a backslash, and what they stand for. It writes no octal or hex
// digits there.
var Escapes = [256]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

// Unescape appends the value of a field to dst.
func Unescape(dst, field []byte) []byte {
	for {
		i := bytes.IndexByte(field, '\\')
		if i < 0 || i+1 == len(field) {
			return append(dst, field...)
		}
		c := field[i+1]
		if Escapes[c] != 0 {
			c = Escapes[c]
		}
		dst = append(append(dst, field[:i]...), c)
		field = field[i+2:]
	}
}

// letters is Escapes the other way round.
var letters = [256]byte{'\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v', '\\': '\\'}

// Escape appends a value to dst as COPY writes it.
func Escape(dst, value []byte) []byte {
	from := 0
	for i, c := range value {
		if letters[c] != 0 {
			dst = append(append(dst, value[from:i]...), '\\', letters[c])
			from = i + 1
		}
	}
	return append(dst, value[from:]...)
}
