package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"rehearsal/internal/source"
)

// problem is one thing that is wrong at one place. Line and column count from 1, columns in characters.
type problem struct {
	line, column int
	text         string
}

func (r *reader) fail(n ast.Node, format string, args ...any) {
	line, column := r.position(n)
	r.problems = append(r.problems, problem{line, column, fmt.Sprintf(format, args...)})
}

func (r *reader) failAt(t *token.Token, format string, args ...any) {
	line, column := r.locate(t)
	r.problems = append(r.problems, problem{line, column, fmt.Sprintf(format, args...)})
}

// position returns where n begins; the top of the file for nil.
func (r *reader) position(n ast.Node) (line, column int) {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key // the token of a block mapping is its first colon
	}
	if n == nil {
		return 1, 1
	}
	return r.locate(n.GetToken())
}

// locate returns where t begins. go-yaml is right about lines, but its columns drift after tabs and before trailing
// blanks; so this is the place on the line, nearest to the column it gives, where the text of the token stands.
func (r *reader) locate(t *token.Token) (line, column int) {
	if t == nil {
		return 1, 1
	}
	line = min(max(t.Position.Line, 1), len(r.lines))
	column = max(t.Position.Column, 1)
	want, _, _ := strings.Cut(strings.TrimSpace(t.Origin), "\n")
	if want == "" {
		return line, column
	}
	best, text, from := column, r.lines[line-1], 0
	for nearest := -1; ; {
		i := strings.Index(text[from:], want)
		if i < 0 {
			return line, best
		}
		here := utf8.RuneCountInString(text[:from+i]) + 1
		if off := max(here-column, column-here); nearest < 0 || off < nearest {
			nearest, best = off, here
		}
		from += i + len(want)
	}
}

// messages returns the problems in the order of the file, each as file:line:column: what is wrong, the source line and
// a caret below the place.
func (r *reader) messages() []string {
	slices.SortStableFunc(r.problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	messages := make([]string, len(r.problems))
	for i, p := range r.problems {
		line := strings.Map(printable, r.lines[p.line-1])
		messages[i] = fmt.Sprintf("%s:%d:%d: %s\n    %s\n    %s", r.file, p.line, p.column,
			strings.Map(printable, p.text), line, source.Caret(line, p.column))
	}
	return messages
}

// printable keeps what a terminal would act on out of messages.
func printable(c rune) rune {
	if c == '\t' || unicode.IsPrint(c) {
		return c
	}
	return utf8.RuneError
}
