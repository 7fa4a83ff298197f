package tree

import (
	"path"
	"testing"
)

// What path.Match says of a name is said of it whatever its ends are.
func TestAPatternIgnoresWhatPathMatchMatches(t *testing.T) {
	patterns := []string{"", "*", "a", "a.tmp", "*.tmp", "a*", "a*.tmp", "a*b*.tmp", "?.tmp", "[ab].tmp", "*[p]", `\*.tmp`, `*\.tmp`, `a\*`, "*.tm?",
		"a/*", "*/b.tmp", "a/*.tmp", "[^a]*.tmp", ".rehearsal-*.partial", "\xff*", "*\xff"}
	names := []string{"", "a", "b", "p", "a.tmp", "b.tmp", "*.tmp", "a*", "ab.tmp", "axbx.tmp", ".tmp", "tmp", "atmp", "aa.tmp", "a.tmx", "a/b.tmp", "a/b", "c/b.tmp",
		"b/a/c.tmp", ".rehearsal-1.partial", ".rehearsal-.partial", ".rehearsal-partial", "\xff", "\xffa", "a\xff", "a\n.tmp"}
	matched := 0
	for _, text := range patterns {
		p := newPattern(text)
		for _, name := range names {
			want, err := path.Match(text, name)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.match([]byte(name)); got != want {
				t.Errorf("%q and %q: %v", text, name, got)
			}
			if want {
				matched++
			}
		}
	}
	if matched < len(patterns) {
		t.Errorf("%d pairs match: they tell nothing", matched)
	}
}
