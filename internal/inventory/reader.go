package inventory

import (
	"slices"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"rehearsal/internal/source"
)

// reader walks the syntax tree of one YAML file by tables of keys. It collects every problem instead of stopping at the
// first, so that a file is mended in one go; only a file that is not YAML at all has a single one.
//
// It reads the tree, not what go-yaml would decode from it: a decoder stops at the first unknown key, and is of its own
// opinion on what 0100, yes and 1.10 are.
type reader struct {
	file     string
	lines    []string
	problems []problem
}

// pair is a key with its value. A value of nil is one that was complained about already.
type pair struct {
	name  string // the key as people know it
	key   ast.Node
	value ast.Node
}

// at is where to point at for a value that may not be there.
func (p pair) at() ast.Node {
	if implicitNull(p.value) {
		return p.key
	}
	return p.value
}

// key is one row of a section's table.
type key struct {
	name string
	need need
	read func(pair)
}

type need bool

const (
	must need = true
	may  need = false
)

// section reads a mapping with the keys of the table and no others, in the order of the table. It returns what was found.
func (r *reader) section(p pair, table []key) map[string]pair {
	pairs, ok := r.pairs(p)
	if !ok {
		return nil
	}
	found := map[string]pair{}
	for _, q := range pairs {
		if slices.ContainsFunc(table, func(k key) bool { return k.name == q.name }) {
			found[q.name] = q
		} else {
			r.unknown(q, table)
		}
	}
	var missing []string
	for _, k := range table {
		if q, ok := found[k.name]; ok {
			k.read(q)
		} else if k.need == must {
			missing = append(missing, k.name)
		}
	}
	if len(missing) > 0 {
		r.fail(p.key, "%s is missing: %s", p.name, strings.Join(missing, ", "))
	}
	return found
}

func (r *reader) unknown(q pair, table []key) {
	known := make([]string, len(table))
	for i, k := range table {
		known[i] = k.name
	}
	r.fail(q.key, "unknown key %q; known keys: %s%s", q.name, strings.Join(known, ", "), source.DidYouMean(q.name, known))
}

// named reads a mapping whose keys are names that people give to things, in the order of the file.
func (r *reader) named(p pair, read func(pair)) {
	pairs, _ := r.pairs(p)
	for _, q := range pairs {
		_, quoted, _ := text(q.key)
		if _, err := name(q.name); err != nil {
			r.fail(q.key, "%v", err)
		} else if kind := misread(q.name); kind != "" && !quoted {
			r.fail(q.key, "unquoted, YAML takes %s for %s; write %q", q.name, kind, q.name)
		}
		read(q)
	}
}

// list returns the elements of a sequence.
func (r *reader) list(p pair) []ast.Node {
	if p.value == nil {
		return nil
	}
	seq, ok := p.value.(*ast.SequenceNode)
	if !ok {
		r.fail(p.at(), "%s takes a list", p.name)
		return nil
	}
	nodes := make([]ast.Node, len(seq.Values))
	for i, n := range seq.Values {
		nodes[i] = r.open(n)
	}
	return nodes
}

// into returns the reader of a single value: the characters of the file, parsed to *dst.
//
// A value without quotes must mean the same to every reader of YAML, of any version, even where ours would not change
// it: else "write it in quotes" is the error.
func into[T any](r *reader, dst *T, parse func(string) (T, error)) func(pair) {
	return func(p pair) {
		s, quoted, ok := text(p.value)
		switch {
		case p.value == nil:
			return
		case !ok:
			r.fail(p.value, "%s takes a single value", p.name)
			return
		case s == "", s == "~" && !quoted:
			r.fail(p.at(), "%s has no value", p.name)
			return
		case strings.ContainsFunc(s, unicode.IsControl):
			r.fail(p.value, "%s holds a line break or another control character", p.name)
			return
		}
		v, err := parse(s)
		if err != nil {
			r.fail(p.value, "%s: %v", p.name, err)
		} else if kind := misread(s); kind != "" && !quoted {
			r.fail(p.value, "%s: unquoted, YAML takes %s for %s; write %q", p.name, s, kind, s)
		}
		*dst = v
	}
}
