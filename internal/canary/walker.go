package canary

import "bytes"

// maxDepth bounds the recursion. What is deeper counts as text.
const maxDepth = 200

// walker finds the data in a JSON document: strings that the rules do not keep, and names of members that they do not
// list. Numbers coincide and are left out. It takes what json_out and jsonb_out write; of anything else it makes the best.
type walker struct {
	rule  func(steps []string) (listed, kept bool)
	data  func(text []byte) // gets each; the text is valid until data returns
	steps []string
	buf   []byte
}

func (w *walker) document(text []byte) {
	_, kept := w.ask()
	w.value(text, kept)
}

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

// ask puts the steps to the rules.
func (w *walker) ask() (listed, kept bool) {
	if w.rule == nil {
		return false, false
	}
	return w.rule(w.steps)
}

// value walks one value and returns what follows it.
func (w *walker) value(text []byte, kept bool) (rest []byte) {
	text = behind(text, isBlank)
	if len(w.steps) > maxDepth {
		w.data(text)
		return nil
	}
	switch {
	case len(text) == 0:
		return nil
	case text[0] == '{':
		return w.members(text[1:], '}', w.member)
	case text[0] == '[':
		return w.members(text[1:], ']', w.element)
	case text[0] == '"':
		content, rest := w.quoted(text)
		if !kept {
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
func (w *walker) members(text []byte, end byte, one func(text []byte) []byte) (rest []byte) {
	for {
		text = behind(text, isSeparator)
		if len(text) == 0 {
			return nil
		}
		if text[0] == end {
			return text[1:]
		}
		before := len(text)
		if text = one(text); len(text) == before {
			return nil // no JSON: this would never end
		}
	}
}

func (w *walker) member(text []byte) (rest []byte) {
	if text[0] != '"' {
		return w.value(text, false)
	}
	name, rest := w.quoted(text)
	step := string(name)
	if step == "*" {
		step = `"*"`
	}
	w.steps = append(w.steps, step)
	listed, kept := w.ask()
	if !listed {
		w.data(name)
	}
	rest = behind(rest, isColon)
	rest = w.value(rest, kept)
	w.steps = w.steps[:len(w.steps)-1]
	return rest
}

func (w *walker) element(text []byte) (rest []byte) {
	w.steps = append(w.steps, "*")
	_, kept := w.ask()
	rest = w.value(text, kept)
	w.steps = w.steps[:len(w.steps)-1]
	return rest
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
