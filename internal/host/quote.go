package host

import "strings"

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
