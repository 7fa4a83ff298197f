package canary

import (
	"bytes"
	"slices"
)

// maxDepth bounds the recursion. What is deeper counts as text.
const maxDepth = 200

// walker finds the data in a JSON document: strings that the rules do not keep, and names of members that they do not
// list. Numbers coincide and are left out. It takes what json_out and jsonb_out write; of anything else it makes the best.
type walker struct {
	rule  func(steps []string) (listed, kept bool) // Column.Path
	data  func(text []byte)                        // gets each; the text is valid until data returns
	root  *spot
	depth int
	buf   []byte
}

func newWalker(rule func(steps []string) (listed, kept bool), data func(text []byte)) *walker {
	w := &walker{rule: rule, data: data, root: nowhere}
	if rule != nil {
		w.root = w.ask(nil)
	}
	return w
}

// spot is a place in documents, with what the rules make of it, and the places below that have been asked for.
type spot struct {
	steps        []string
	listed, kept bool
	below        map[string]*spot
}

// nowhere is every place that no rule lists: what is below is not listed either.
var nowhere = &spot{}

// maxPlaces bounds what is remembered below one place: names may be data.
const maxPlaces = 1000

func (w *walker) ask(steps []string) *spot {
	listed, kept := w.rule(steps)
	if !listed {
		return nowhere
	}
	return &spot{steps: steps, listed: true, kept: kept, below: map[string]*spot{}}
}

// below is the place that one step leads to.
func (w *walker) below(p *spot, step []byte) *spot {
	if p == nowhere {
		return nowhere
	}
	if known := p.below[string(step)]; known != nil {
		return known
	}
	asked := w.ask(append(slices.Clip(p.steps), string(step)))
	if len(p.below) < maxPlaces {
		p.below[string(step)] = asked
	}
	return asked
}

func (w *walker) document(text []byte) { w.value(text, w.root) }

// What may stand before a value, between two, and between a name and its value.
var isBlank, isSeparator, isColon = bytesOf(" \n\r\t"), bytesOf(", \n\r\t"), bytesOf(": \n\r\t")

func bytesOf(set string) *[256]bool {
	var is [256]bool
	for _, c := range []byte(set) {
		is[c] = true
	}
	return &is
}

// behind is text without the bytes of a set that it begins with.
func behind(text []byte, set *[256]bool) []byte {
	for len(text) > 0 && set[text[0]] {
		text = text[1:]
	}
	return text
}

// value walks one value and returns what follows it.
func (w *walker) value(text []byte, at *spot) (rest []byte) {
	text = behind(text, isBlank)
	if w.depth > maxDepth {
		w.data(text)
		return nil
	}
	switch {
	case len(text) == 0:
		return nil
	case text[0] == '{':
		return w.members(text[1:], '}', at)
	case text[0] == '[':
		return w.members(text[1:], ']', at)
	case text[0] == '"':
		content, rest := w.quoted(text)
		if !at.kept {
			w.data(content)
		}
		return rest
	}
	if end := bytes.IndexAny(text, ",]}"); end >= 0 {
		return text[end:]
	}
	return nil
}

// members walks what stands between braces or brackets.
func (w *walker) members(text []byte, end byte, at *spot) (rest []byte) {
	w.depth++
	defer func() { w.depth-- }()
	for {
		text = behind(text, isSeparator)
		if len(text) == 0 {
			return nil
		}
		if text[0] == end {
			return text[1:]
		}
		before := len(text)
		if end == '}' {
			text = w.member(text, at)
		} else {
			text = w.value(text, w.below(at, anyStep))
		}
		if len(text) == before {
			return nil // no JSON: this would never end
		}
	}
}

// The steps to the elements of an array, and to a member that is named as if it were one.
var anyStep, starStep = []byte("*"), []byte(`"*"`)

func (w *walker) member(text []byte, at *spot) (rest []byte) {
	if text[0] != '"' {
		return w.value(text, nowhere)
	}
	name, rest := w.quoted(text)
	step := name
	if string(name) == "*" {
		step = starStep
	}
	there := w.below(at, step)
	if !there.listed {
		w.data(name)
	}
	return w.value(behind(rest, isColon), there)
}

// quoted returns the content of the string that text begins with, without escapes, and what follows it. A string that was
// cut off ends with the text.
func (w *walker) quoted(text []byte) (content, rest []byte) {
	end, escaped := 1, false
	for end < len(text) && text[end] != '"' {
		if text[end] == '\\' {
			escaped = true
			end++
		}
		end++
	}
	end = min(end, len(text))
	content = text[1:end]
	if escaped {
		w.buf = unescape(w.buf[:0], content)
		content = w.buf
	}
	return content, text[min(end+1, len(text)):]
}
