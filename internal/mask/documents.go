package mask

import (
	"bytes"
	"encoding/json"

	"rehearsal/internal/copytext"
)

// documents masks the values of a jsonb column, as the server writes them: what the paths allow is left of them.
type documents struct {
	hasher *hasher
	paths  *branch
	in     jsonText
	out    []byte
}

// mask appends what is left of a document. What is no JSON becomes something that is none either, which the server
// refuses.
func (d *documents) mask(dst, document []byte) []byte {
	d.in, d.out = jsonText{rest: document}, d.out[:0]
	left := d.value(d.paths)
	switch {
	case d.in.bad || len(d.in.next()) > 0:
		return append(dst, '?')
	case !left:
		return append(dst, "null"...)
	}
	return copytext.Escape(dst, d.out)
}

// value appends what b allows of the next value, and tells whether anything is left of it.
func (d *documents) value(b *branch) bool {
	next := d.in.next()
	if len(next) == 0 {
		return d.in.fail()
	}
	composite := next[0] == '{' || next[0] == '['
	switch {
	case composite && b.named == nil && b.every == nil:
		d.in.skip()
		return false
	case next[0] == '{':
		d.out = append(d.out, '{')
		first := true
		d.in.each('}', func() { first = !d.member(b, first) && first })
		d.out = append(d.out, '}')
		return true
	case next[0] == '[':
		d.out = append(d.out, '[')
		first := true
		d.in.each(']', func() { first = !d.element(b.every, first) && first })
		d.out = append(d.out, ']')
		return true
	}
	return d.scalar(b.verb)
}

// member appends a member of an object, or nothing.
func (d *documents) member(b *branch, first bool) bool {
	key := d.in.token()
	child := b.member(key)
	d.in.colon()
	if child == nil {
		d.in.skip()
		return false
	}
	mark := len(d.out)
	d.separate(first)
	d.out = append(append(d.out, key...), ": "...)
	if d.value(child) {
		return true
	}
	d.out = d.out[:mark]
	return false
}

// element appends an element of an array, or nothing.
func (d *documents) element(b *branch, first bool) bool {
	if b == nil {
		d.in.skip()
		return false
	}
	mark := len(d.out)
	d.separate(first)
	if d.value(b) {
		return true
	}
	d.out = d.out[:mark]
	return false
}

func (d *documents) separate(first bool) {
	if !first {
		d.out = append(d.out, ", "...)
	}
}

// scalar appends a string, number, boolean or null as the verb has it.
func (d *documents) scalar(v *Verb) bool {
	token := d.in.token()
	switch {
	case v == nil:
		return false
	case v == keepVerb || string(token) == "null":
		d.out = append(d.out, token...)
		return true
	}
	d.out = append(d.out, '"') // no pseudonym holds a character that a string must escape
	d.out = d.hasher.pseudonym(d.out, v, scalarText(token), 0)
	d.out = append(d.out, '"')
	return true
}

// holds tells whether a document holds nothing but what the paths allow, and masked values where they mask. It shares
// with what masks no more than the reading of JSON.
func (b *branch) holds(document []byte) bool {
	in := jsonText{rest: document}
	if string(bytes.TrimSpace(document)) == "null" {
		return true
	}
	ok := b.holdsNext(&in)
	return ok && !in.bad && len(in.next()) == 0
}

func (b *branch) holdsNext(in *jsonText) bool {
	next := in.next()
	if len(next) == 0 {
		return false
	}
	ok := b.named != nil || b.every != nil
	switch next[0] {
	case '{':
		in.each('}', func() {
			child := b.member(in.token())
			in.colon()
			if child == nil || !ok {
				ok = false
				in.skip()
				return
			}
			ok = child.holdsNext(in) && ok
		})
		return ok
	case '[':
		in.each(']', func() {
			if b.every == nil || !ok {
				ok = false
				in.skip()
				return
			}
			ok = b.every.holdsNext(in) && ok
		})
		return ok
	}
	token := in.token()
	switch {
	case b.verb == nil:
		return false
	case b.verb == keepVerb || string(token) == "null":
		return true
	}
	value := scalarText(token)
	return token[0] == '"' && (len(value) == 0 || b.verb.pseudonym.stream.matches(value, 0))
}

// member is the branch of a member, by its name as JSON writes it; nil where none allows it.
func (b *branch) member(key []byte) *branch {
	if child := b.named[string(scalarText(key))]; child != nil {
		return child
	}
	return b.every
}

// scalarText is what ->> makes of a scalar.
func scalarText(token []byte) []byte {
	if len(token) < 2 || token[0] != '"' {
		return token
	}
	if bytes.IndexByte(token, '\\') < 0 {
		return token[1 : len(token)-1]
	}
	var text string
	_ = json.Unmarshal(token, &text) // what is no JSON, bad says
	return []byte(text)
}

var isBlank, isPunctuation [256]bool

func init() {
	for _, c := range " \t\r\n" {
		isBlank[c], isPunctuation[c] = true, true
	}
	for _, c := range `,:]}[{"` {
		isPunctuation[c] = true
	}
}

// jsonText reads JSON that the server wrote, value by value. Of what is none it becomes bad, and empty.
type jsonText struct {
	rest []byte
	bad  bool
}

// next is what is left, from its next byte on.
func (t *jsonText) next() []byte {
	i := 0
	for i < len(t.rest) && isBlank[t.rest[i]] {
		i++
	}
	t.rest = t.rest[i:]
	return t.rest
}

func (t *jsonText) fail() bool {
	t.bad, t.rest = true, nil
	return false
}

// each calls one before each member or element of an object or array, which it has to read.
func (t *jsonText) each(end byte, one func()) {
	t.rest = t.rest[1:]
	if next := t.next(); len(next) > 0 && next[0] == end {
		t.rest = next[1:]
		return
	}
	for {
		one()
		next := t.next()
		if len(next) == 0 || next[0] != ',' && next[0] != end {
			t.fail()
			return
		}
		t.rest = next[1:]
		if next[0] == end {
			return
		}
	}
}

func (t *jsonText) colon() {
	if next := t.next(); len(next) > 0 && next[0] == ':' {
		t.rest = next[1:]
	} else {
		t.fail()
	}
}

// token reads a string, with its quotes, a number, true, false or null.
func (t *jsonText) token() []byte {
	next := t.next()
	end := 0
	if len(next) > 0 && next[0] == '"' {
		for end = 1; end < len(next) && next[end] != '"'; end++ {
			if next[end] == '\\' {
				end++
			}
		}
		end++
	} else {
		for end < len(next) && !isPunctuation[next[end]] {
			end++
		}
	}
	if end == 0 || end > len(next) {
		t.fail()
		return []byte("null")
	}
	t.rest = next[end:]
	return next[:end]
}

// skip passes over a value.
func (t *jsonText) skip() {
	for depth := 0; ; {
		next := t.next()
		if len(next) == 0 {
			t.fail()
			return
		}
		switch next[0] {
		case '{', '[':
			depth++
			t.rest = next[1:]
		case '}', ']':
			if depth == 0 {
				t.fail()
				return
			}
			depth--
			t.rest = next[1:]
		case ',', ':':
			t.rest = next[1:]
			continue
		default:
			t.token()
		}
		if depth <= 0 {
			return
		}
	}
}
