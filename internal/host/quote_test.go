package host

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// nasty holds arguments that mean something to a shell when they are not quoted.
var nasty = []string{"", " ", "a b", "$(id)", "`id`", "$HOME", "*", "~", "~/x", "'", "''", `"`, `\`, `\\`, `\'`, `a\nb`, "a\nb", "\n", "\t", "-n", "--",
	"a;b", "a|b", "a&", "<a", ">a", "#a", "!a", "{a,b}", "[a]", "a=b", "%s", "ünïcode", "\x01\x7f", "\xff\xfe", "it's \"quoted\" $x `y` \\z"}

// FuzzQuote asks a real shell what it makes of the quoted words.
func FuzzQuote(f *testing.F) {
	for _, arg := range nasty {
		f.Add(arg, "x")
		f.Add("x", arg)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\x00") {
			t.Skip("no argument holds a NUL byte")
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\0' `+Quote(a, b)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Split(string(out), "\x00"), []string{a, b, ""}; !slices.Equal(got, want) {
			t.Errorf("Quote(%q, %q) = %s gave %q", a, b, Quote(a, b), got)
		}
	})
}

func ExampleQuote() {
	fmt.Println(Quote("psql", "-c", `select 'x' -- $(reboot)`, "", "a=b", "~"))
	// Output: psql -c 'select '\''x'\'' -- $(reboot)' '' 'a=b' '~'
}

func TestAFirstWordIsNeverTakenForAnAssignment(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "sh", "-c", Quote("x=1", "echo", "ran")).CombinedOutput()
	if err == nil {
		t.Errorf("the shell assigned, and said %q", out)
	}
}
