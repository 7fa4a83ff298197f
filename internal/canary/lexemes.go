package canary

import (
	"bytes"
	"slices"
	"strings"
)

// lexemes are the words of a tsvector with their positions: 'anna':1 'müller':2A,7. Those of one that was stripped have
// none. Nil is one that has not been parsed.
type lexemes map[string][]int

// parse reads a tsvector's text, or a piece of it.
func (l *lexemes) parse(text []byte) lexemes {
	if *l != nil {
		return *l
	}
	*l = lexemes{}
	for {
		quote := bytes.IndexByte(text, '\'')
		if quote < 0 {
			return *l
		}
		text = text[quote+1:]
		end := bytes.IndexByte(text, '\'')
		for end >= 0 && end+1 < len(text) && text[end+1] == '\'' { // a doubled one
			next := bytes.IndexByte(text[end+2:], '\'')
			if next < 0 {
				return *l
			}
			end += 2 + next
		}
		if end < 0 {
			return *l
		}
		word := strings.TrimLeft(lowered(string(text[:end])), "+-") // of numbers
		(*l)[word], text = positions(text[end+1:])
	}
}

// positions reads :2A,7.
func positions(text []byte) (list []int, rest []byte) {
	if len(text) == 0 || text[0] != ':' {
		return nil, text
	}
	n := 0
	for i, c := range text[1:] {
		switch {
		case isDigit(c):
			n = n*10 + int(c-'0')
		case c == ',':
			list, n = append(list, n), 0
		case c < 'A' || c > 'D': // else its weight
			return append(list, n), text[1+i:]
		}
	}
	return append(list, n), nil
}

// hold tells whether the words of a canary stand in the tsvector one after the other: all numbers and all words of four
// letters or more, of the others those that were no stop words, and two at least. Where positions are missing, being
// there is enough.
func (l lexemes) hold(canary string) bool {
	var found [][]int // positions of the words found, less the word's number
	for number, t := range tokens(canary) {
		at, ok := l.word(canary[t.start:t.end])
		if !ok && (t.end-t.start >= 4 || isDigit(canary[t.start])) {
			return false
		}
		if ok {
			var starts []int
			for _, p := range at {
				starts = append(starts, p-number)
			}
			found = append(found, starts)
		}
	}
	if len(found) < 2 {
		return false
	}
	for _, starts := range found {
		if starts == nil {
			return true
		}
	}
	return slices.ContainsFunc(found[0], func(start int) bool {
		return !slices.ContainsFunc(found[1:], func(starts []int) bool { return !slices.Contains(starts, start) })
	})
}

// word finds a word or what a stemmer leaves of it: without up to three letters at its end.
func (l lexemes) word(word string) (positions []int, ok bool) {
	for end := len(word); ; end-- {
		if positions, ok = l[word[:end]]; ok {
			return positions, true
		}
		if end <= 4 || end == len(word)-3 || isDigit(word[end-1]) {
			return nil, false
		}
	}
}
