package mask

import (
	"fmt"
	"slices"
	"strings"

	"rehearsal/internal/run"
	"rehearsal/internal/source"
)

// place is a position in columns.yaml, counted from 1; the zero place is nowhere.
type place struct{ line, column int }

// problem is one thing that columns.yaml does not settle: where, what, and what to write.
type problem struct {
	at   place
	what string
	fix  string
}

// problems collects all problems of a file, so that one run shows them all.
type problems struct {
	file   string
	source []string
	list   []problem
}

// add notes a problem, once. Fix says what to write or to remove; it may be empty.
func (p *problems) add(at place, fix, format string, args ...any) {
	one := problem{at, fmt.Sprintf(format, args...), fix}
	if !slices.Contains(p.list, one) { // partitions share the mistakes of their parent
		p.list = append(p.list, one)
	}
}

// err returns all problems as one refusal: those with a place in the order of the file, then the others.
func (p *problems) err(hint string) error {
	if len(p.list) == 0 {
		return nil
	}
	slices.SortStableFunc(p.list, func(a, b problem) int {
		switch {
		case (a.at.line == 0) != (b.at.line == 0):
			return b.at.line - a.at.line
		case a.at.line != b.at.line:
			return a.at.line - b.at.line
		}
		return a.at.column - b.at.column
	})
	text := make([]string, len(p.list))
	for i, one := range p.list {
		text[i] = p.render(one)
	}
	if len(text) == 1 {
		return run.Fail(run.Unclean, hint, "%s", text[0])
	}
	return run.Fail(run.Unclean, hint, "%d problems in %s\n%s", len(text), p.file, strings.Join(text, "\n"))
}

// render shows a problem as compilers do: file:line:column, the source line and a caret, then what to write.
func (p *problems) render(one problem) string {
	var b strings.Builder
	b.WriteString(p.file)
	if one.at.line > 0 {
		fmt.Fprintf(&b, ":%d:%d", one.at.line, one.at.column)
	}
	b.WriteString(": " + one.what)
	if one.at.line > 0 && one.at.line <= len(p.source) {
		line := p.source[one.at.line-1]
		margin := fmt.Sprintf("%5d | ", one.at.line)
		fmt.Fprintf(&b, "\n%s%s\n%s", margin, line, strings.Repeat(" ", len(margin))+source.Caret(line, one.at.column))
	}
	if one.fix != "" {
		b.WriteString("\n      " + one.fix)
	}
	return b.String()
}
