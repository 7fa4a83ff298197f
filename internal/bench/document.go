package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rehearsal/internal/run"
)

const preface = `# Benchmarks

Written by ` + "`mage bench -write`" + `, each part by the run that it names; the other parts stay as they are. Run it on your machine: the
ratios travel, the seconds do not.
`

// write puts the part into the Markdown file at path, in the place of the one that an earlier run wrote.
func (p *part) write(t *run.Target, path string) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the report: %w", err)
	}
	text := preface
	for _, b := range benchmarks {
		one := section(string(old), b.title)
		if b.title == p.title {
			one = p.markdown()
		}
		if one != "" {
			text += "\n" + strings.TrimSpace(one) + "\n"
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	t.Printf("\n%s is written", path)
	return nil
}

// section is the part of a Markdown text below a heading of the second level, with it.
func section(text, title string) string {
	_, after, found := strings.Cut("\n"+text, "\n## "+title+"\n")
	if !found {
		return ""
	}
	own, _, _ := strings.Cut(after, "\n## ")
	return "## " + title + "\n" + own
}

func (p *part) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\nMeasured by `%s` on %s, on %s.\n\n%s\n\n", p.title, p.command, p.began.Format(time.DateOnly), p.machine, p.about)
	for _, n := range p.names {
		fmt.Fprintf(&b, "- **%s** %s\n", n.name, n.what)
	}
	if share := p.samples.shared(); share > quiet {
		words := busy(share)
		fmt.Fprintf(&b, "\n%s.\n", strings.ToUpper(words[:1])+words[1:])
	}
	b.WriteString("\n### To reach\n\n")
	lines, _ := p.toReach()
	for _, line := range lines {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	for _, table := range p.tables() {
		fmt.Fprintf(&b, "\n### %s\n\n%s", table.title, table.markdown())
	}
	b.WriteString("\n" + p.how)
	return b.String()
}

func (b block) markdown() string {
	var out strings.Builder
	line := func(cells []string) { out.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(b.header)
	line(slices.Repeat([]string{"---"}, len(b.header)))
	for _, row := range b.rows {
		line(row)
	}
	return out.String()
}
