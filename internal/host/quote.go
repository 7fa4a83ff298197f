package host

import (
	"fmt"
	"strings"
)

// Quote returns args as words of a POSIX shell's command line: the shell gives back exactly args.
// An argument cannot hold a NUL byte, in a shell or out of it; Run refuses one.
func Quote(args ...string) string {
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = quote(arg)
	}
	return strings.Join(words, " ")
}

// quote leaves alone what no shell could take for anything else. "=" and "~" are not among it: they mean
// something at the start of a line or a word.
func quote(arg string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_@%+:,./-", r)
	}
	if arg != "" && strings.TrimFunc(arg, plain) == "" {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// forLoginShell makes a command line of a POSIX sh script that every login shell takes for the same: sh, bash, zsh, fish,
// csh and tcsh. To the C shell a newline ends a quoted word and "!" is history in it; to fish a backslash escapes a
// quote or another backslash. So none of these is in the line: they are octal escapes, for sh's own printf.
func forLoginShell(script string) string {
	var line strings.Builder
	line.WriteString(`exec sh -c 'eval "$(printf "$1")"' sh '`)
	for _, b := range []byte(script) {
		switch {
		case b == '%':
			line.WriteString("%%")
		case b < ' ' || b > '~' || strings.IndexByte(`'!\`, b) >= 0:
			fmt.Fprintf(&line, `\%03o`, b)
		default:
			line.WriteByte(b)
		}
	}
	return line.String() + "'"
}
