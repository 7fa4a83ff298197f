package canary

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// local and domain are the bytes of an address before and behind the @. More are legal (RFC 5322), in quotes nearly all,
// but those are delimiters in every text that holds addresses. Bytes beyond ASCII belong to both (RFC 6531).
var local, domain [256]bool

func init() {
	for c := range 256 {
		if isDigit(byte(c)) || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= utf8.RuneSelf {
			local[c], domain[c] = true, true
		}
	}
	for _, c := range "._%+-'&!#$^~" {
		local[c] = true
	}
	domain['.'], domain['-'] = true, true
}

// notTLDs end names that look like an address and are a file (logo@2x.png) or a unit of systemd (user@1000.service).
var notTLDs = map[string]bool{"png": true, "jpg": true, "jpeg": true, "gif": true, "webp": true, "svg": true, "avif": true,
	"css": true, "js": true, "json": true, "html": true, "service": true}

// emails calls found for every address in text that can be delivered to and is not allowed. Addresses under .invalid
// cannot (RFC 2606). Patterns are no addresses, nor are operators, "a @ b", hosts without a dot, handles, and the
// git@host of a repository.
func emails(text []byte, allowed map[string]bool, found func()) {
	for from := 0; ; {
		i := bytes.IndexByte(text[from:], '@')
		if i < 0 {
			return
		}
		at := from + i
		before := text[from:at]
		from = at + 1
		if isInvalid(text[from:]) {
			continue
		}
		where := host(text[from:])
		if where == "" || strings.HasSuffix(where, ".invalid") {
			continue
		}
		if who := mailbox(before); who != "" && who != "git" && !allowed[who+"@"+where] {
			found()
		}
	}
}

// isInvalid tells of the domains that masking makes, and of most others under .invalid, what host and a look at its result
// would: a table has one in every row.
func isInvalid(after []byte) bool {
	end := 0
	for end < len(after) && after[end] < utf8.RuneSelf && domain[after[end]] {
		end++
	}
	return bytes.HasSuffix(after[:end], []byte(".invalid")) && (end == len(after) || after[end] < utf8.RuneSelf)
}

// mailbox returns the part of an address that before ends with, in small letters, if it does.
func mailbox(before []byte) string {
	start := len(before)
	for start > 0 && local[before[start-1]] {
		start--
	}
	who := before[start:]
	if len(who) == 0 || fold[who[len(who)-1]] == 0 && who[len(who)-1] != '_' { // "a-z+@" ends a pattern
		return ""
	}
	for len(who) > 0 { // what is glued to it
		r, size := utf8.DecodeRune(who)
		if !isPunctuation(r) || r == '_' || r == utf8.RuneError {
			break
		}
		who = who[size:]
	}
	for i := 0; i < len(who); { // quotes and dashes beyond ASCII
		r, size := utf8.DecodeRune(who[i:])
		if i += size; r >= utf8.RuneSelf && r != utf8.RuneError && isPunctuation(r) {
			who, i = who[i:], 0
		}
	}
	return lowered(string(who))
}

// host returns the domain that after begins with, in small letters, if it is one that mail can go to.
func host(after []byte) string {
	end := 0
	for end < len(after) && domain[after[end]] {
		r, size := utf8.DecodeRune(after[end:])
		if r >= utf8.RuneSelf && r != utf8.RuneError && isPunctuation(r) {
			break
		}
		end += size
	}
	name := lowered(string(bytes.TrimRight(after[:end], ".-")))
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || l[0] == '-' || l[len(l)-1] == '-' {
			return ""
		}
	}
	if top := labels[len(labels)-1]; len(labels) < 2 || !isTLD(top) || notTLDs[top] {
		return ""
	}
	return name
}

// isTLD tells whether a label can be the last: letters, two or more, or an internationalized one.
func isTLD(label string) bool {
	for i := range len(label) {
		if isDigit(label[i]) || label[i] == '-' {
			return strings.HasPrefix(label, "xn--")
		}
	}
	return len(label) >= 2
}
