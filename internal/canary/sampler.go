package canary

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"rehearsal/internal/copytext"
)

// Sampler reads the data of one table as it lies in a dump: rows in COPY's text format, then a line "\."; what follows that
// is ignored. It takes chunks cut anywhere, never fails and never blocks. It is not safe for concurrent use.
type Sampler struct {
	table   string
	columns []Column
	pools   []*pool   // of each column; nil where it has no canaries
	walkers []*walker // of each column; nil where it holds no documents
	split   copytext.Splitter
	hash    hasher

	column int  // of the next field
	long   bool // it is not the first piece of that field
	ended  bool // "\." was there

	decoded []byte // space for a value
	first   word   // the latest value of this row that is one word
	joined  []byte
}

// NewSampler returns a Sampler for the columns of the table, in the order of the COPY statement. The table's name is for
// findings, which call columns table.column.
func NewSampler(table string, columns []Column) *Sampler {
	s := &Sampler{table: table, columns: columns, pools: make([]*pool, len(columns)), walkers: make([]*walker, len(columns)), hash: hasher{seed: seed}}
	s.split.Emit = s.Field
	for i, c := range columns {
		if c.Masked && !coincides(c) {
			p := newPool()
			s.pools[i] = p
			if c.isDocument() {
				s.walkers[i] = newWalker(c.Path, func(text []byte) { runs(text, &breaks, p.offer) })
			}
		}
	}
	return s
}

// Write always takes all of p.
func (s *Sampler) Write(p []byte) (int, error) {
	if !s.ended {
		s.split.Write(p)
	}
	return len(p), nil
}

// Close settles which canaries there are, and lets go of all other values.
func (s *Sampler) Close() error {
	s.split.Close()
	for _, p := range s.pools {
		if p != nil {
			p.settle(s.hash.sum.Rows)
		}
	}
	s.decoded, s.walkers, s.joined, s.first = nil, nil, nil, word{}
	return nil
}

// Fingerprint returns the number of rows, which is what COPY loads, and the fingerprint of the columns with Compare.
func (s *Sampler) Fingerprint() Fingerprint { return s.hash.sum }

// Sample says how many canaries a masked column has.
type Sample struct {
	Column string // as findings call it
	Values int    // 0 where its type or its values are of no use
}

// Samples returns one Sample for every masked column, after Close.
func (s *Sampler) Samples() (samples []Sample) {
	for i, c := range s.columns {
		if c.Masked {
			sample := Sample{Column: s.name(i)}
			if s.pools[i] != nil {
				sample.Values = len(s.pools[i].canaries)
			}
			samples = append(samples, sample)
		}
	}
	return samples
}

// Format keeps values out of logs and messages, whatever the verb.
func (s *Sampler) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "sampler of %s", s.table) }

func (s *Sampler) name(column int) string { return s.table + "." + s.columns[column].Name }

// Field is Write for rows that are split already, by a copytext.Splitter.
func (s *Sampler) Field(piece []byte, end byte) {
	if s.ended || s.column == 0 && !s.long && end == '\n' && string(piece) == copytext.EndOfData {
		s.ended = true
		return
	}
	if s.column < len(s.columns) {
		c := &s.columns[s.column]
		if c.Compare {
			s.hash.add(piece, end != 0, base(c, s.long))
		}
		if s.pools[s.column] != nil && !s.long {
			s.sample(c, piece)
		}
	}
	switch s.long = end == 0; end {
	case '\t':
		s.column++
	case '\n':
		s.hash.endRow()
		s.column, s.first.column = 0, -1
	}
}

// base is the type by which a field is compared: of the rest of a long one, none in particular.
func base(c *Column, long bool) string {
	if long {
		return ""
	}
	return c.Base
}

// sample takes what it can of a field, or of the beginning of one that is very long.
func (s *Sampler) sample(c *Column, field []byte) {
	if string(field) == copytext.Null {
		return
	}
	value := field
	if bytes.IndexByte(field, '\\') >= 0 {
		s.decoded = copytext.Unescape(s.decoded[:0], field)
		value = s.decoded
	}
	p := s.pools[s.column]
	switch {
	case c.isDocument():
		s.walkers[s.column].document(value)
	case strings.IndexByte("ACR", c.Category) >= 0:
		runs(value, &structure, p.offer)
	default:
		runs(value, &breaks, p.offer)
		s.join(value)
	}
}

// word is a value that is a single word.
type word struct {
	column int // -1: none
	text   []byte
}

// join makes a canary of two columns of a row that hold one word each: a given name or a family name alone is nobody's,
// both together are. Which of them comes first, the table does not say.
func (s *Sampler) join(value []byte) {
	if !isName(value) {
		return
	}
	if s.first.column >= 0 && len(s.first.text) > 0 {
		p := s.pools[s.first.column]
		s.joined = append(append(append(s.joined[:0], s.first.text...), ' '), value...)
		p.offer(s.joined)
		s.joined = append(append(append(s.joined[:0], value...), ' '), s.first.text...)
		p.offer(s.joined)
	}
	s.first.column, s.first.text = s.column, append(s.first.text[:0], value...)
}

// isName tells whether a value is one word with a capital.
func isName(value []byte) bool {
	if len(value) < 2 || len(value) > 40 {
		return false
	}
	if r, _ := utf8.DecodeRune(value); !unicode.IsUpper(r) {
		return false
	}
	for _, c := range value {
		if fold[c] == 0 && c != '-' && c != '\'' || isDigit(c) {
			return false
		}
	}
	return true
}

// coincides tells whether two values of the column's type are often equal without having to do with each other: numbers,
// times, yes or no, coordinates; and tsvector, whose words are somebody else's.
func coincides(c Column) bool {
	if strings.IndexByte("BDEGNTV", c.Category) >= 0 && c.Category != 0 {
		return true
	}
	base, array := strings.CutPrefix(c.Base, "_")
	return base == "tsvector" || base == "tsquery" || array && slices.Contains(numbersAndTimes, base) ||
		c.Category == 'R' || strings.HasSuffix(base, "range")
}

var numbersAndTimes = strings.Fields("bool int2 int4 int8 numeric float4 float8 money oid date time timetz timestamp timestamptz interval")
