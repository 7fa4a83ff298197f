package scenarios

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
)

const checkout = "../.."

// commands is what the compiled command line knows: of each target its flags, each with the type that its help prints,
// "" for one that is on or off.
type commands map[string]map[string]string

func TestEveryCommandInTheDocumentationExists(t *testing.T) {
	known := askForHelp(t)
	found := 0
	for _, file := range documents(t) {
		for _, line := range quoted(readText(t, file)) {
			n, problems := known.check(line)
			found += n
			for _, p := range problems {
				t.Errorf("%s: %s\n\tin: %s", file, p, line)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d targets were found in the documentation", found)
	}
}

func TestACommandThatDoesNotExistIsFound(t *testing.T) {
	known := askForHelp(t)
	for _, c := range []struct{ text, problem string }{
		{"    mage backup:create\n", ""},
		{"    ./rehearsal backup:create backup:verify backup:prune >night.log 2>&1 # backup:foo\n", ""},
		{"try `go tool mage -compile ../rehearsal`, or\n`mage doctor staging:reset\nstaging:events -n=50`\n", ""},
		{"    mage backup:accept -backup=ID -why='two words'; mage lab:up -delay=150ms -orders=5\n", ""},
		{"| `backup:prune` | removes | `-dryRun` |\n", ""},
		{"plain `mage` and `mage -l`, at `vault.example.net:2222`\n", ""},
		{"    mage backup:craete\n", `there is no target "backup:craete"`},
		{"    x=$(./rehearsal backup:create backup:verfy)\n", `there is no target "backup:verfy"`},
		{"`mage doctor staging:reset\nstaging:event -n=50`\n", `there is no target "staging:event"`},
		{"then `backup:lst` shows\n", `there is no target "backup:lst"`},
		{"    mage doctr\n", `there is no target "doctr"`},
		{"    mage staging:reset -bakcup=ID\n", "staging:reset has no flag -bakcup"},
		{"    mage backup:create -backup=ID\n", "backup:create has no flag -backup"},
		{"    mage backup:list staging:events -n\n", "staging:events: -n needs a value"},
		{"    mage backup:check -budget=2hours\n", "backup:check: -budget=2hours is no time.Duration"},
		{"| `backup:prune` | removes | `-dry` |\n", "backup:prune has no flag -dry"},
	} {
		var problems []string
		for _, line := range quoted(c.text) {
			_, p := known.check(line)
			problems = append(problems, p...)
		}
		if got := strings.Join(problems, "\n"); got != c.problem {
			t.Errorf("%q: problems %q, want %q", c.text, got, c.problem)
		}
	}
}

func TestEveryLinkInTheDocumentationLeadsSomewhere(t *testing.T) {
	for _, file := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(readText(t, file), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", file, m[1])
			} else if anchor != "" && !slices.Contains(anchors(readText(t, target)), anchor) {
				t.Errorf("%s: %s has no heading #%s", file, target, anchor)
			}
		}
	}
}

func TestEveryPageThatAMessageNamesExists(t *testing.T) {
	err := filepath.WalkDir(checkout, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		for _, page := range page.FindAllString(readText(t, path), -1) {
			if _, err := os.Stat(filepath.Join(checkout, page)); err != nil {
				t.Errorf("%s names %s, which is not there", path, page)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var (
	link        = regexp.MustCompile(`\[[^\]]+\]\(([^)\s]+)\)`)
	page        = regexp.MustCompile(`\bdocs/[\w/-]+\.md\b`)
	headingLine = regexp.MustCompile(`(?m)^#+ (.+)$`)
	inline      = regexp.MustCompile("`([^`]+)`")
	helpTarget  = regexp.MustCompile(`(?m)^  ([a-z:]+)\*?\s`)
	helpFlag    = regexp.MustCompile(`(?m)^\t-(\w+)(?:=<([\w.]+)>)?`)

	invocation = regexp.MustCompile("(?:^|[\\s$(`])(?:mage|\\./rehearsal)((?:\\s+(?:[\\w:.-][^\\s'`|;&<>()#]*(?:'[^']*')?))*)")
	shellWord  = regexp.MustCompile(`(?:[^\s']|'[^']*')+`)
	tableFlag  = regexp.MustCompile("^-[a-z]")
)

// askForHelp asks the compiled command line for its targets and their flags.
func askForHelp(t *testing.T) commands {
	t.Helper()
	known := commands{}
	for _, m := range helpTarget.FindAllStringSubmatch(answer(t, "-l"), -1) {
		known[m[1]] = map[string]string{}
	}
	if len(known) < 10 {
		t.Fatalf("-l lists %d targets", len(known))
	}
	for target, flags := range known {
		for _, m := range helpFlag.FindAllStringSubmatch(answer(t, "-h", target), -1) {
			flags[m[1]] = m[2]
		}
	}
	return known
}

func answer(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(binary, args...).Output()
	if err != nil && len(out) == 0 { // -h ends with 2
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}

// check returns how many targets a piece of code names, and what is wrong with them. A row of a table is one piece: the
// flags in it are those of the targets in it.
func (known commands) check(code string) (targets int, problems []string) {
	pieces := inline.FindAllStringSubmatch(code, -1)
	if !strings.HasPrefix(code, "|") {
		pieces = [][]string{{"", code}}
	}
	var named []string
	for _, p := range pieces {
		switch first, _, _ := strings.Cut(p[1], " "); {
		case known.namespace(first):
			named = append(named, first)
			problems = append(problems, known.words(shellWord.FindAllString(p[1], -1))...)
		case tableFlag.MatchString(first) && len(named) > 0 && strings.HasPrefix(code, "|"):
			for _, flag := range shellWord.FindAllString(p[1], -1) {
				problems = append(problems, known.anyHas(named, flag)...)
			}
		}
		for _, m := range invocation.FindAllStringSubmatch(p[1], -1) {
			words := shellWord.FindAllString(m[1], -1)
			problems = append(problems, known.words(words)...)
			targets += len(words)
		}
	}
	return targets + len(named), problems
}

// namespace says whether a word looks like a target: its first half is that of one.
func (known commands) namespace(word string) bool {
	space, _, ok := strings.Cut(word, ":")
	for target := range known {
		if ok && strings.HasPrefix(target, space+":") {
			return true
		}
	}
	return false
}

// words checks what stands behind mage: targets, each followed by its flags. What stands before the first is for mage.
func (known commands) words(words []string) (problems []string) {
	target := ""
	for i, w := range words {
		switch flag := strings.HasPrefix(w, "-"); {
		case flag && target == "":
			if w == "-compile" && len(words) == i+2 {
				return nil
			}
		case flag:
			if p := known.flag(target, w); p != "" {
				problems = append(problems, p)
			}
		case known[w] == nil:
			return append(problems, fmt.Sprintf("there is no target %q", w))
		default:
			target = w
		}
	}
	return problems
}

func (known commands) anyHas(targets []string, flag string) (problems []string) {
	for _, target := range targets {
		p := known.flag(target, flag)
		if p == "" {
			return nil
		}
		problems = append(problems, p)
	}
	return problems
}

// flag says what is wrong with a flag of target, as in -n=20.
func (known commands) flag(target, text string) (problem string) {
	name, value, given := strings.Cut(strings.TrimPrefix(text, "-"), "=")
	kind, ok := known[target][name]
	var err error
	switch {
	case !ok:
		return fmt.Sprintf("%s has no flag -%s", target, name)
	case !given && kind != "" && kind != "bool":
		return fmt.Sprintf("%s: -%s needs a value", target, name)
	case kind == "int":
		_, err = strconv.Atoi(value)
	case kind == "time.Duration":
		_, err = time.ParseDuration(value)
	}
	if err != nil {
		return fmt.Sprintf("%s: %s is no %s", target, text, kind)
	}
	return ""
}

// quoted returns what a Markdown text quotes as code: lines of its blocks, rows of tables that hold code, and code
// within sentences, which may be broken across lines.
func quoted(text string) (code []string) {
	var prose strings.Builder
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "    "):
			code = append(code, strings.TrimSpace(line))
		case strings.HasPrefix(line, "| "):
			code = append(code, strings.TrimSpace(line))
		default:
			prose.WriteString(strings.TrimSpace(line) + " ")
		}
	}
	for _, m := range inline.FindAllStringSubmatch(prose.String(), -1) {
		code = append(code, m[1])
	}
	return code
}

// anchors are the names that GitHub gives to a text's headings.
func anchors(text string) (names []string) {
	for _, m := range headingLine.FindAllStringSubmatch(text, -1) {
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return names
}

// documents are the README and everything below docs.
func documents(t *testing.T) []string {
	t.Helper()
	files := []string{filepath.Join(checkout, "README.md")}
	err := filepath.WalkDir(filepath.Join(checkout, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 3 {
		t.Fatalf("documents: %v (%v)", files, err)
	}
	return files
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
