// Package source points people at their mistakes in a text they wrote: the caret below a column, and the word that
// was probably meant. Columns count characters, from 1.
package source

import (
	"fmt"
	"strings"
)

// Caret is a line with a caret below column, tabs before it kept: it belongs below line, printed as it is.
func Caret(line string, column int) string {
	before := []rune(line)
	before = before[:min(max(column-1, 0), len(before))]
	return strings.Map(func(c rune) rune {
		if c == '\t' {
			return c
		}
		return ' '
	}, string(before)) + "^"
}

// DidYouMean is the end of a message about an unknown word: the known one that is at most two slips of the pen away,
// or begins with it; empty where there is none.
func DidYouMean(word string, known []string) string {
	best, bound := "", min(3, len(word)) // never a wholly different word
	for _, k := range known {
		d := distance(word, k)
		if word != "" && (strings.HasPrefix(k, word) || strings.HasPrefix(word, k)) {
			d = min(d, 2)
		}
		if d < bound {
			best, bound = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is Levenshtein's: insertions, deletions and replacements that make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
