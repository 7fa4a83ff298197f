package mask

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"unicode/utf8"

	"rehearsal/internal/copytext"
)

// InFlight divides the masked columns of a table by who masks them: a Masker those that rest leaves out, while the rows
// stream by; the trigger of rest the others, at ten times the cost. An expression of the verb sql sees a row's original
// columns, so there the trigger does all.
func (t Table) InFlight() (rest Table, columns []Column) {
	rest = t
	if !t.changes() || len(t.expressions()) > 0 {
		return rest, nil
	}
	rest.Masked = nil
	for _, c := range t.Masked {
		if c.maskable() {
			columns = append(columns, c)
		} else {
			rest.Masked = append(rest.Masked, c)
		}
	}
	return rest, columns
}

// maskable tells whether a Masker knows the verb in the column's type. A json, unlike a jsonb, may spell a number or a
// name in ways that the server would have to make one of.
func (c Column) maskable() bool {
	switch {
	case c.Verb == clearVerb:
		return true
	case c.Element != "":
		return false
	case c.Verb == jsonVerb:
		return c.Base == "jsonb"
	}
	k := kindOf(c.Column)
	return c.Verb.pseudonym != nil && (k == text || k == uuid)
}

// Masker masks the rows of one table in COPY's text format, in UTF-8, on their way to a writer. It makes of a value what
// the table's trigger would. It holds the masked fields of a row one by one, however long they are, and of the others a
// piece at a time.
type Masker struct {
	table  string
	fields []func(dst, value []byte) []byte // by column; nil where a field passes
	w      io.Writer
	split  copytext.Splitter

	column int
	long   bool   // the field has had pieces before
	value  []byte // of a masked field, its pieces
	plain  []byte // without escapes
	ended  bool   // "\." was there
	out    []byte
	err    error
}

// Masker makes one for rows whose fields are those of names, as the COPY statement has them. It masks columns.
func (t Table) Masker(key Key, columns []Column, names []string, w io.Writer) (*Masker, error) {
	m := &Masker{table: t.Qualified(), fields: make([]func(dst, value []byte) []byte, len(names)), w: w}
	m.split.Emit = m.field
	h := newHasher(key)
	for _, c := range columns {
		i := slices.Index(names, c.Name)
		if i < 0 {
			return nil, fmt.Errorf("the rows of %s have no column %q", m.table, c.Name)
		}
		m.fields[i] = c.masking(h)
	}
	return m, nil
}

// Write masks what p completes. Its error is the writer's, or that a row has not the fields that it should have.
func (m *Masker) Write(p []byte) (int, error) {
	m.split.Write(p)
	return len(p), m.flush()
}

// Also has see get the fields as they were before they are masked.
func (m *Masker) Also(see func(piece []byte, end byte)) { m.split.Also(see) }

// Close masks what is left.
func (m *Masker) Close() error {
	m.split.Close()
	return m.flush()
}

func (m *Masker) flush() error {
	if m.err == nil && len(m.out) > 0 {
		_, m.err = m.w.Write(m.out)
	}
	m.out = m.out[:0]
	return m.err
}

// Format keeps values out of logs and messages, whatever the verb.
func (m *Masker) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "masker of %s", m.table) }

func (m *Masker) field(piece []byte, end byte) {
	switch {
	case m.err != nil:
		return
	case m.ended:
		m.pass(piece, end)
		return
	case m.column == 0 && !m.long && end == '\n' && string(piece) == copytext.EndOfData:
		m.ended = true
		m.pass(piece, end)
		return
	case m.column == len(m.fields) || end == '\n' && m.column != len(m.fields)-1:
		m.err = fmt.Errorf("a row of %s has not the %d fields of its columns", m.table, len(m.fields))
		return
	}
	switch mask := m.fields[m.column]; {
	case mask == nil:
		m.pass(piece, end)
	case end == 0:
		m.value = append(m.value, piece...)
	default:
		if m.long {
			m.value = append(m.value, piece...)
			piece = m.value
		}
		m.mask(mask, piece)
		m.out = append(m.out, end)
		m.value = m.value[:0]
	}
	switch m.long = end == 0; end {
	case '\t':
		m.column++
	case '\n':
		m.column = 0
	}
}

func (m *Masker) pass(piece []byte, end byte) {
	m.out = append(m.out, piece...)
	if end != 0 {
		m.out = append(m.out, end)
	}
}

func (m *Masker) mask(mask func(dst, value []byte) []byte, field []byte) {
	if string(field) == copytext.Null {
		m.out = append(m.out, field...)
		return
	}
	if bytes.IndexByte(field, '\\') >= 0 {
		m.plain = copytext.Unescape(m.plain[:0], field)
		field = m.plain
	}
	m.out = mask(m.out, field)
}

// masking returns what appends the masked field that COPY is to read for a value. A value that is not NULL is asked.
func (c Column) masking(h *hasher) func(dst, value []byte) []byte {
	switch {
	case c.Verb == clearVerb:
		return c.clearing()
	case c.Verb == jsonVerb:
		return (&documents{hasher: h, paths: c.paths}).mask
	case kindOf(c.Column) == uuid:
		return func(dst, value []byte) []byte { return appendUUID(dst, h.of(c.Verb, value)) }
	}
	longest := limit(c.Column)
	return func(dst, value []byte) []byte {
		switch c.Base {
		case "bpchar":
			value = bytes.TrimRight(value, " ") // no part of it, for PostgreSQL
		case "citext":
			value = appendLower(nil, value)
		}
		return h.pseudonym(dst, c.Verb, value, longest)
	}
}

func (c Column) clearing() func(dst, value []byte) []byte {
	written := []byte(copytext.Null)
	if c.NotNull {
		value, _, _ := empty(c.Column, "")
		written = copytext.Escape(nil, []byte(value))
	}
	return func(dst, _ []byte) []byte { return append(dst, written...) }
}

// hasher hashes values under the key. It is not safe for concurrent use.
type hasher struct {
	hash.Hash
	message, sum []byte
}

func newHasher(k Key) *hasher { return &hasher{Hash: hmac.New(sha256.New, k.secret)} }

// of is the HMAC of a value's normal form under the verb, valid until the next.
func (h *hasher) of(v *Verb, value []byte) []byte {
	h.message = append(append(h.message[:0], v.Name...), ':')
	h.message = v.pseudonym.stream.normalise(h.message, value)
	h.Reset()
	_, _ = h.Write(h.message)
	h.sum = h.Sum(h.sum[:0])
	return h.sum
}

// pseudonym appends what the verb makes of a text. The empty text stays empty.
func (h *hasher) pseudonym(dst []byte, v *Verb, value []byte, longest int) []byte {
	if len(value) == 0 {
		return dst
	}
	return v.pseudonym.stream.result(dst, value, h.of(v, value), longest)
}

// streamed is a pseudonym for values that stream by: what its SQL does, in Go.
type streamed struct {
	normalise func(dst, value []byte) []byte                    // appends what is hashed
	result    func(dst, value, hash []byte, longest int) []byte // appends the pseudonym; longest 0: as long as it gets
	matches   func(value []byte, longest int) bool              // tells whether a value is one
}

var (
	streamedEmail = streamed{
		normalise: func(dst, value []byte) []byte { return appendLower(dst, bytes.Trim(value, blanks)) },
		result: func(dst, _, hash []byte, _ int) []byte {
			return append(appendHex(append(dst, emailPrefix...), hash), emailSuffix...)
		},
		matches: func(value []byte, _ int) bool { return isHexBetween(value, emailPrefix, emailSuffix) },
	}

	streamedName = streamed{
		normalise: func(dst, value []byte) []byte {
			for _, c := range value {
				if c != ' ' {
					dst = append(dst, lower(c))
				}
			}
			return dst
		},
		result: func(dst, value, hash []byte, _ int) []byte {
			dst = append(dst, chosen(givenNames, hash, 0)...)
			if bytes.IndexByte(bytes.Trim(value, " "), ' ') >= 0 {
				dst = append(append(dst, ' '), chosen(familyNames, hash, 2)...)
			}
			return dst
		},
		matches: func(value []byte, _ int) bool {
			given, family, two := bytes.Cut(value, []byte(" "))
			return isGiven[string(given)] && (!two || isFamily[string(family)])
		},
	}

	streamedPhone = streamed{
		normalise: func(dst, value []byte) []byte {
			from := len(dst)
			for _, c := range value {
				if bytes.IndexByte([]byte(" ()-./"), c) < 0 {
					dst = append(dst, c)
				}
			}
			return append(dst[:from], bytes.TrimLeft(dst[from:], "+0")...)
		},
		result: func(dst, _, hash []byte, _ int) []byte {
			n := binary.BigEndian.Uint16(hash) % 1000
			return append(append(dst, phonePrefix...), byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10))
		},
		matches: func(value []byte, _ int) bool {
			digits, ok := bytes.CutPrefix(value, []byte(phonePrefix))
			return ok && len(digits) == 3 && digitsOnly(digits)
		},
	}

	streamedProse = streamed{
		normalise: func(dst, value []byte) []byte {
			end := 0
			for range 64 {
				_, size := utf8.DecodeRune(value[end:])
				end += size
			}
			return append(dst, value[:end]...)
		},
		result: func(dst, value, hash []byte, longest int) []byte {
			length := (utf8.RuneCount(value) + openingLength - 1) / openingLength * openingLength
			if longest > 0 {
				length = min(length, longest)
			}
			from := len(dst)
			dst = append(dst, chosen(openings, hash, 0)...)
			for len(dst)-from < length {
				dst = append(dst, filler...)
			}
			return bytes.TrimRight(dst[:from+length], " ")
		},
		matches: func(value []byte, longest int) bool {
			opening := value[:min(len(value), openingLength)]
			if !slices.Contains(cutOpenings(longest), string(opening)) {
				return false
			}
			for rest := value[len(opening):]; len(rest) > 0; {
				n := min(len(rest), len(filler))
				if string(rest[:n]) != filler[:n] {
					return false
				}
				rest = rest[n:]
			}
			return true
		},
	}

	streamedToken = streamed{
		normalise: func(dst, value []byte) []byte { return append(dst, value...) },
		result:    func(dst, _, hash []byte, _ int) []byte { return appendHex(append(dst, tokenPrefix...), hash) },
		matches:   func(value []byte, _ int) bool { return isHexBetween(value, tokenPrefix, "") },
	}
)

var isGiven, isFamily = set(givenNames), set(familyNames)

func set(words []string) map[string]bool {
	all := map[string]bool{}
	for _, w := range words {
		all[w] = true
	}
	return all
}

// chosen is pick.
func chosen(words []string, hash []byte, at int) string {
	return words[int(binary.BigEndian.Uint16(hash[at:]))%len(words)]
}

// appendHex is hexHash.
func appendHex(dst, hash []byte) []byte { return hex.AppendEncode(dst, hash[:pseudonymBytes]) }

// appendUUID makes a UUID of version 8 of a hash.
func appendUUID(dst, hash []byte) []byte {
	const version, variant = 12, 16 // their digits
	digits := hex.AppendEncode(make([]byte, 0, 2*sha256.Size), hash)
	digits = slices.Insert(digits, version, '8')
	digits = slices.Insert(digits, variant, '8')
	for i, end := range []int{8, 12, 16, 20, 32} {
		if i > 0 {
			dst = append(dst, '-')
		}
		from := []int{0, 8, 12, 16, 20}[i]
		dst = append(dst, digits[from:end]...)
	}
	return dst
}

func isHexBetween(value []byte, prefix, suffix string) bool {
	if len(value) != len(prefix)+2*pseudonymBytes+len(suffix) {
		return false
	}
	digits := value[len(prefix) : len(value)-len(suffix)]
	return string(value[:len(prefix)]) == prefix && string(value[len(value)-len(suffix):]) == suffix && hexOnly(digits)
}

func hexOnly(text []byte) bool {
	for _, c := range text {
		if !isHex[c] {
			return false
		}
	}
	return true
}

var isHex = func() (is [256]bool) {
	for _, c := range []byte("0123456789abcdef") {
		is[c] = true
	}
	return is
}()

func digitsOnly(text []byte) bool {
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// appendLower is lower(… COLLATE "C").
func appendLower(dst, value []byte) []byte {
	for _, c := range value {
		dst = append(dst, lower(c))
	}
	return dst
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
