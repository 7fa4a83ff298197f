package canary

import (
	"bytes"
	"fmt"

	"rehearsal/internal/copytext"
)

// minField is the length of the shortest address; shorter fields hold nothing.
const minField = 6

// overlap is how much of a very long field's last piece is searched again with the next one: more than the longest thing
// to be found, with every letter escaped.
const overlap = 4 << 10

// maxLevels is how many escapes within escapes are taken off: JSON in a string of JSON in an array.
const maxLevels = 4

// Stream searches one table, or one text, as it is written to it in chunks cut anywhere. It is not safe for concurrent
// use; several Streams of a Scanner are. Close it: a last row may lack its newline.
type Stream struct {
	sc      *Scanner
	name    string
	columns []Column
	text    bool
	split   copytext.Splitter
	hash    hasher

	column int
	long   bool   // the field has had pieces before
	tail   []byte // the end of the last one

	counted map[place]int64 // the field in which a place was last counted
	fields  int64
	decoded [2][]byte // space

	passes  bool  // the scanner's sieve lets this field through
	passed  int64 // the last field that it did
	suspect int64 // that one's number
}

func newStream(sc *Scanner, name string, columns []Column, text bool) *Stream {
	s := &Stream{sc: sc, name: name, columns: columns, text: text, hash: hasher{seed: sc.seed}, counted: map[place]int64{}}
	s.split.Emit = s.field
	return s
}

// Write always takes all of p.
func (s *Stream) Write(p []byte) (int, error) {
	s.split.Write(p)
	return len(p), nil
}

// Also has see get the fields that are searched.
func (s *Stream) Also(see func(piece []byte, end byte)) { s.split.Also(see) }

// Close searches what is left.
func (s *Stream) Close() error {
	s.split.Close()
	return nil
}

// Fingerprint returns the number of rows and the fingerprint of the columns with Compare.
func (s *Stream) Fingerprint() Fingerprint { return s.hash.sum }

// Format keeps values out of logs and messages, whatever the verb.
func (s *Stream) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "stream of %s", s.name) }

func (s *Stream) field(piece []byte, end byte) {
	if s.column == 0 && !s.long && end == '\n' && !s.text && string(piece) == copytext.EndOfData {
		return
	}
	var c *Column
	if s.column < len(s.columns) {
		c = &s.columns[s.column]
		if c.Compare {
			s.hash.add(piece, end != 0, base(c, s.long))
		}
	}
	switch {
	case s.long || end == 0:
		s.tail = append(s.tail, piece...)
		s.tail = s.searchPiece(c, s.tail, end != 0)
	case len(piece) >= minField:
		s.search(c, piece)
	}
	if s.long = end == 0; s.long {
		return
	}
	s.fields++
	s.column++
	s.tail = s.tail[:0]
	if end == '\n' {
		s.hash.endRow()
		s.column = 0
	}
}

// searchPiece searches a piece of a field up to the last blank, unless it is the last, and returns what of it belongs
// before the next one. An address that was cut in two is none, or somebody else's.
func (s *Stream) searchPiece(c *Column, piece []byte, last bool) (tail []byte) {
	end := len(piece)
	if !last {
		if blank := bytes.LastIndexAny(piece[len(piece)-overlap:], " ,;"); blank >= 0 {
			end = len(piece) - overlap + blank
		}
	}
	s.search(c, piece[:end])
	from := max(0, end-overlap)
	if blank := bytes.IndexAny(piece[from:end], " ,;"); blank >= 0 {
		from += blank + 1
	}
	return piece[:copy(piece, piece[from:])]
}

// search looks for everything in a field, or in a piece of it: as it stands, and with one level of escapes after the other
// taken off. Only behind the last one it is clear where an address begins.
func (s *Stream) search(c *Column, field []byte) {
	whole := field
	found := s.find(c, field)
	for level := 0; found&isBackslash != 0 && level < maxLevels; level++ {
		space := &s.decoded[level%2] // the other one may be field
		if level == 0 && !s.text {
			*space = copytext.Unescape((*space)[:0], field)
		} else {
			*space = unescape((*space)[:0], field)
		}
		field = *space
		found = s.find(c, field)
	}
	if found&isAt != 0 && s != s.sc.judge {
		emails(field, s.sc.allowed, func() { s.found(Email, -1) })
	}
	if s.passes {
		s.passes = false
		s.handOn(c, whole)
	}
}

// find looks for canaries and numbers, and returns which of @ and \ it met.
func (s *Stream) find(c *Column, field []byte) (met uint8) {
	masked := c != nil && c.Masked
	bloom, shift := s.sc.bloom, s.sc.shift&63
	var words lexemes
	for i := 0; i < len(field); {
		f := fold[field[i]]
		if f == 0 {
			skip := skips[field[i]]
			met |= skip
			i += 1 + int(skip&0xF)
			continue
		}
		start, hash := i, uint64(0)
		for f != 0 {
			hash = mix(hash, f)
			if i++; i == len(field) {
				break
			}
			f = fold[field[i]]
		}
		hash = spread(hash)
		if bit := hash >> shift; bloom[bit/64]>>(bit%64)&1 != 0 {
			s.compare(c, field, start, hash, &words)
		}
		// The third character of cards and IBANs is a digit.
		if n := i - start; masked && (n == 4 || n >= 13) && isDigit(field[start+2]) {
			s.numbers(field, start, i)
		}
	}
	return met
}

// compare looks for the canaries whose anchor may stand at start.
func (s *Stream) compare(c *Column, field []byte, start int, hash uint64, words *lexemes) {
	if s.sc.sieve != nil {
		s.passes = s.passes || s.sc.sieve.passes(hash)
		return
	}
	for _, a := range s.sc.anchors[hash] {
		text := s.sc.canaries[a.canary]
		before := endsWith(field[:start], text[:a.offset])
		after := startsWith(field[start:], text[a.offset:])
		if before >= 0 && after >= 0 && bounded(field, start-before, start+after) ||
			c != nil && c.Base == "tsvector" && words.parse(field).hold(text) {
			s.found(Canary, a.canary)
		}
	}
}

func (s *Stream) numbers(field []byte, start, end int) {
	if isCard(field, start, end) {
		s.found(Card, -1)
	}
	if isIBAN(field, start, end) {
		s.found(IBAN, -1)
	}
}

// found notes a finding in the current field.
func (s *Stream) found(kind Kind, canary int) {
	p := place{kind: kind, where: s.where(), from: -1}
	if canary >= 0 {
		p.from = s.sc.from[canary]
	}
	last, ok := s.counted[p]
	s.counted[p] = s.fields
	s.sc.record(p, canary, ok && last == s.fields)
}

func (s *Stream) where() string {
	switch {
	case s.text, s == s.sc.judge:
		return s.name
	case s.column < len(s.columns):
		return s.name + "." + s.columns[s.column].Name
	}
	return fmt.Sprintf("%s.column %d", s.name, s.column+1)
}
