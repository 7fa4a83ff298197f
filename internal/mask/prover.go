package mask

import (
	"bytes"
	"slices"

	"rehearsal/internal/copytext"
)

// Prover reads the rows of one table as COPY writes them, in UTF-8, and counts the values that their verbs cannot have
// made. It shares nothing with the code that masks.
type Prover struct {
	names      []string
	made       []func(value []byte) bool // by column; nil where nothing is asked
	violations []int64
	split      copytext.Splitter

	column int
	long   bool
	value  []byte
	plain  []byte
}

// Unread is the table with those masked columns alone that no Prover asks about: its Proof is the rest of the proof.
func (t Table) Unread() Table {
	t.Masked = slices.DeleteFunc(slices.Clone(t.Masked), func(c Column) bool { return c.made() != nil })
	return t
}

// Prover makes one for rows whose fields are those of names.
func (t Table) Prover(names []string) *Prover {
	p := &Prover{names: names, made: make([]func([]byte) bool, len(names)), violations: make([]int64, len(names))}
	p.split.Emit = p.Field
	for _, c := range t.Masked {
		if i := slices.Index(names, c.Name); i >= 0 {
			p.made[i] = c.made()
		}
	}
	return p
}

// Write always takes all of p.
func (p *Prover) Write(b []byte) (int, error) {
	p.split.Write(b)
	return len(b), nil
}

// Violations is how many values of a column, NULL excepted, its verb cannot have made. It is not ok where nothing was
// asked.
func (p *Prover) Violations(column string) (n int64, ok bool) {
	i := slices.Index(p.names, column)
	if i < 0 || p.made[i] == nil {
		return 0, false
	}
	return p.violations[i], true
}

// Field is Write for rows that are split already, by a copytext.Splitter.
func (p *Prover) Field(piece []byte, end byte) {
	if p.column < len(p.made) && p.made[p.column] != nil {
		if p.long || end == 0 {
			p.value = append(p.value, piece...)
			piece = p.value
		}
		if end != 0 {
			p.ask(piece)
			p.value = p.value[:0]
		}
	}
	switch p.long = end == 0; end {
	case '\t':
		p.column++
	case '\n':
		p.column = 0
	}
}

func (p *Prover) ask(field []byte) {
	if string(field) == copytext.Null {
		return
	}
	if bytes.IndexByte(field, '\\') >= 0 {
		p.plain = copytext.Unescape(p.plain[:0], field)
		field = p.plain
	}
	if !p.made[p.column](field) {
		p.violations[p.column]++
	}
}

// made returns what tells whether a value is one that the column's verb makes; nil where only the server can tell.
func (c Column) made() func(value []byte) bool {
	if c.Element != "" && c.Verb != clearVerb {
		return nil
	}
	switch {
	case c.Verb == clearVerb && !c.NotNull:
		return func([]byte) bool { return false }
	case c.Verb == clearVerb && kindOf(c.Column) == text:
		return func(value []byte) bool { return len(bytes.TrimRight(value, " ")) == 0 }
	case c.Verb == jsonVerb && c.Base == "jsonb":
		return c.paths.holds
	case c.Verb.pseudonym == nil:
		return nil
	case kindOf(c.Column) == uuid:
		return isMaskedUUID
	case kindOf(c.Column) != text:
		return nil
	}
	longest := limit(c.Column)
	return func(value []byte) bool {
		if c.Base == "bpchar" {
			value = bytes.TrimRight(value, " ")
		}
		return len(value) == 0 || c.Verb.pseudonym.stream.matches(value, longest)
	}
}

// isMaskedUUID is maskedUUID.
func isMaskedUUID(value []byte) bool {
	return len(value) == 36 && value[8] == '-' && value[13] == '-' && value[14] == '8' && value[18] == '-' && value[19] == '8' &&
		hexOnly(value[:8]) && hexOnly(value[9:13]) && hexOnly(value[15:18])
}
