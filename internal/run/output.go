package run

// The rules of our output.
//
// What a target was asked for goes to stdout: in text mode the finished steps, warnings, tables and other
// text for people; in JSON mode (REHEARSAL_FORMAT=json) exactly one line, one object, at the end, whether
// the target succeeded or not, and nothing else of ours. What only helps while waiting goes to stderr:
// progress, the stack of a panic, and the error itself, which mage prints ("Error: …") and we do not.
//
// No capital at the beginning and no full stop at the end, so that messages join with ": ". A hint is a
// line of its own, "  next: …". Numbers for people are rounded (Bytes, Duration), numbers in JSON are not.
//
// Progress is one line rewritten in place where stderr is a terminal, and a line every 30 s elsewhere.
// Whoever prints erases that line first. Colour marks success, failure and warnings, never carries
// meaning alone, and is off where stdout is no terminal or NO_COLOR is set.
//
// Text may hold names and messages that come from a host: control characters, but for colour, are
// replaced, so that no table name moves the cursor. A stdout that cannot be written (a closed pipe, a full
// disk) does not stop a target in text mode, whose effects matter more; in JSON mode it is a failure.

import (
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/fatih/color"
	"golang.org/x/term"
)

// output is stdout and stderr of a target.
type output struct {
	json bool
	live bool // stderr is a terminal that can rewrite a line

	over atomic.Bool // no more progress: the last words are being said

	mu    sync.Mutex
	drawn bool // a line of progress stands on the terminal
}

func newOutput() (*output, error) {
	o := &output{live: term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb"}
	switch format := os.Getenv("REHEARSAL_FORMAT"); format {
	case "", "text":
	case "json":
		o.json = true
	default:
		return nil, Fail(Usage, "set it to text or json, or unset it", "REHEARSAL_FORMAT is %q", format)
	}
	return o, nil
}

// print writes text for people. Failing at that is no reason to stop, see the rules.
func (o *output) print(text string) {
	if o.json {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.eraseLocked()
	os.Stdout.WriteString(printable(text))
}

func (o *output) warn(text string) { o.print(color.YellowString("warning:") + " " + text + "\n") }

// result writes the JSON object, in one write: a log collector must not see half a line.
func (o *output) result(object []byte) error {
	if !o.json {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.eraseLocked()
	_, err := os.Stdout.Write(append(object, '\n'))
	return err
}

// note writes a line that stays on stderr.
func (o *output) note(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.eraseLocked()
	os.Stderr.WriteString(printable(text) + "\n")
}

// draw replaces the line of progress. It is cut one column short of the terminal's width: many terminals
// wrap when the last column is filled, and a wrapped line cannot be erased.
func (o *output) draw(line string) {
	width, _, err := term.GetSize(int(os.Stderr.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over.Load() {
		return
	}
	o.drawn = true
	os.Stderr.WriteString("\r" + cut(line, width-1) + eraseRest)
}

func (o *output) erase() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.eraseLocked()
}

func (o *output) eraseLocked() {
	if o.drawn {
		os.Stderr.WriteString("\r" + eraseRest)
	}
	o.drawn = false
}

const eraseRest = "\x1b[K" // EL of ECMA-48: erase to the end of the line

var (
	colour     = regexp.MustCompile(`\x1b\[[0-9;]*m`)      // SGR of ECMA-48
	noText     = regexp.MustCompile(`\x1b\[[0-9;]*m|\pC`)  // \pC: control, format, private use
	whitespace = strings.NewReplacer("\n", " ", "\t", " ") // that is no blank
)

// printable replaces what would do something to a terminal, but for line ends, tabs and colour.
func printable(s string) string {
	return noText.ReplaceAllStringFunc(strings.ToValidUTF8(s, "\uFFFD"), func(m string) string {
		if m == "\n" || m == "\t" || strings.HasPrefix(m, "\x1b[") {
			return m
		}
		return "\uFFFD"
	})
}

func oneLine(s string) string { return whitespace.Replace(printable(s)) }

// columns is the width of s on a terminal, each character taken for one column wide.
func columns(s string) int { return utf8.RuneCountInString(colour.ReplaceAllString(s, "")) }

// cut shortens a line to a number of columns, and takes its colour: half a sequence would be no colour.
func cut(s string, width int) string {
	runes := []rune(colour.ReplaceAllString(s, ""))
	if len(runes) <= width {
		return string(runes)
	}
	return string(runes[:max(width-1, 0)]) + "…"
}

// table renders rows in columns two blanks apart.
func table(rows [][]string) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columns(oneLine(cell)))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			cell = oneLine(cell)
			line += cell + strings.Repeat(" ", widths[i]-columns(cell)+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}
