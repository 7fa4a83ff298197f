package doctor

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/fatih/color"
	"golang.org/x/term"

	"rehearsal/internal/guard"
	"rehearsal/internal/run"
)

// statuses are in the order of the last line, each with its mark and how many of it are named there.
var statuses = []struct {
	status guard.Status
	mark   string
	colour func(string, ...any) string
	words  string
}{
	{guard.OK, "✓", color.GreenString, "ok"},
	{guard.Warning, "!", color.YellowString, "with a warning"},
	{guard.Failed, "✗", color.RedString, "failed"},
	{guard.Unchecked, "?", color.YellowString, "could not be made"},
}

func mark(status guard.Status) string {
	for _, s := range statuses {
		if s.status == status {
			return s.colour("%s", s.mark)
		}
	}
	return "?"
}

// show prints the findings by host. A detail is broken at blanks where stdout is a terminal; a hint never, since it is
// copied from there.
func show(t *run.Target, findings []guard.Finding) {
	width := 0
	for _, f := range findings {
		width = max(width, utf8.RuneCountInString(f.Name))
	}
	margin := strings.Repeat(" ", width+6)
	for i, f := range findings {
		if i == 0 || findings[i-1].Host != f.Host {
			t.Printf("\n%s", heading(f.Host))
		}
		pad := strings.Repeat(" ", width-utf8.RuneCountInString(f.Name))
		t.Printf("  %s %s%s  %s", mark(f.Status), f.Name, pad, indent(f.Detail, margin, columns()))
		if f.Hint != "" {
			t.Printf("    next: %s", f.Hint)
		}
	}
	var counts []string
	for _, s := range statuses {
		if n := count(findings, s.status); n > 0 || s.status == guard.OK {
			counts = append(counts, fmt.Sprintf("%d %s", n, s.words))
		}
	}
	t.Printf("\n%s: %s", plural(len(findings), "check"), strings.Join(counts, ", "))
}

func heading(host string) string {
	if host == "" {
		return "this machine"
	}
	return host
}

// columns is the terminal's width, 0 where stdout is none.
func columns() int {
	width, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// indent breaks the first line of text at blanks, so that it ends before column columns, and sets its parts below each
// other behind margin. The other lines are laid out already, a file's line with a caret below as a rule: they need the
// room.
func indent(text, margin string, columns int) string {
	text, rest, more := strings.Cut(text, "\n")
	if room := columns - len(margin); room >= 20 {
		text = strings.Join(wrap(text, room), "\n"+margin)
	}
	if more {
		text += strings.ReplaceAll("\n"+rest, "\n", "\n      ")
	}
	return text
}

func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line+" "+word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}
