package canary

import (
	"math/bits"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// fold maps the bytes of tokens to themselves, capitals to small letters, and all others to 0. Tokens are runs of letters,
// digits and bytes beyond ASCII.
var fold [256]byte

// skips are the bytes between tokens that are more than that: how many bytes come with them, or what they announce.
var skips [256]uint8

const (
	isAt        = 0x10
	isBackslash = 0x20
)

func init() {
	for c := range 256 {
		b := byte(c)
		switch {
		case b >= 'A' && b <= 'Z':
			fold[b] = b | 0x20
		case b >= 'a' && b <= 'z', isDigit(b), b >= utf8.RuneSelf:
			fold[b] = b
		}
	}
	// In UTF-8 nearly all of U+0080 to U+00BF and U+2000 to U+2BFF is punctuation: «», “”, –, no-break space.
	fold[0xC2], skips[0xC2] = 0, 1
	fold[0xE2], skips[0xE2] = 0, 2
	skips['@'], skips['\\'] = isAt, isBackslash
}

// mix takes one folded byte more into the hash of a token. Two instructions: this is the innermost loop of a search.
func mix(hash uint64, c byte) uint64 { return bits.RotateLeft64(hash, 5) ^ uint64(c) }

// spread distributes a token's hash over all bits.
func spread(hash uint64) uint64 {
	hash *= 0x9E3779B97F4A7C15
	return hash ^ hash>>29
}

// token is one token of a text.
type token struct{ start, end int }

// tokens lists the tokens of a text, as a search comes by them.
func tokens(text string) (list []token) {
	for i := 0; i < len(text); {
		if fold[text[i]] == 0 {
			i += 1 + int(skips[text[i]]&0xF)
			continue
		}
		start := i
		for i < len(text) && fold[text[i]] != 0 {
			i++
		}
		list = append(list, token{start, i})
	}
	return list
}

// hashes returns the hashes by which a search comes by a token as it is, in small letters, in capitals and with one
// capital: it folds no more than ASCII.
func hashes(text string) []uint64 {
	list := []uint64{hashOf(text)}
	if isASCII(text) {
		return list
	}
	lower, upper := lowered(text), strings.ToUpper(text)
	_, first := utf8.DecodeRuneInString(upper)
	_, rest := utf8.DecodeRuneInString(lower)
	for _, variant := range []string{lower, upper, upper[:first] + lower[rest:]} {
		h := hashOf(variant)
		if !slices.Contains(list, h) {
			list = append(list, h)
		}
	}
	return list
}

func hashOf(text string) (hash uint64) {
	for i := range len(text) {
		hash = mix(hash, fold[text[i]])
	}
	return spread(hash)
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// lowered is text in small letters; of a text that is not UTF-8, only ASCII is.
func lowered(text string) string {
	switch {
	case isASCII(text):
		return strings.ToLower(text)
	case utf8.ValidString(text):
		return strings.Map(small, text)
	}
	b := []byte(text)
	for i, c := range b {
		if c < utf8.RuneSelf && fold[c] != 0 {
			b[i] = fold[c]
		}
	}
	return string(b)
}

// small is the small letter of r, but for those few whose small letter has another length in UTF-8: İ, ẞ, the Kelvin sign.
func small(r rune) rune {
	if s := unicode.ToLower(r); utf8.RuneLen(s) == utf8.RuneLen(r) {
		return s
	}
	return r
}

// startsWith returns how many bytes at the beginning of text are needle, in whatever case; -1 if they are not.
// Several apostrophes are as good as the one in needle: strings of SQL and the words of a tsvector double them.
func startsWith(text []byte, needle string) int {
	i := 0
	for n := 0; n < len(needle); {
		if i == len(text) {
			return -1
		}
		if c := needle[n]; c < utf8.RuneSelf {
			if f := fold[text[i]]; f != c && text[i] != c {
				return -1
			}
			for c == '\'' && i+1 < len(text) && text[i+1] == '\'' {
				i++
			}
			n, i = n+1, i+1
			continue
		}
		want, size := utf8.DecodeRuneInString(needle[n:])
		got, width := utf8.DecodeRune(text[i:])
		if !sameRune(want, got, needle[n], text[i]) {
			return -1
		}
		n, i = n+size, i+width
	}
	return i
}

// endsWith is startsWith for the end of text.
func endsWith(text []byte, needle string) int {
	i := len(text)
	for n := len(needle); n > 0; {
		if i == 0 {
			return -1
		}
		if c := needle[n-1]; c < utf8.RuneSelf {
			if f := fold[text[i-1]]; f != c && text[i-1] != c {
				return -1
			}
			for c == '\'' && i > 1 && text[i-2] == '\'' {
				i--
			}
			n, i = n-1, i-1
			continue
		}
		want, size := utf8.DecodeLastRuneInString(needle[:n])
		got, width := utf8.DecodeLastRune(text[:i])
		if !sameRune(want, got, needle[n-1], text[i-1]) {
			return -1
		}
		n, i = n-size, i-width
	}
	return len(text) - i
}

// sameRune compares what was decoded; in texts that are not UTF-8, the bytes.
func sameRune(want, got rune, wantByte, gotByte byte) bool {
	if want == utf8.RuneError || got == utf8.RuneError {
		return want == got && wantByte == gotByte
	}
	return want == got || want == small(got)
}

// bounded tells whether the part of text between start and end does not go on to either side as a word would.
func bounded(text []byte, start, end int) bool {
	before, _ := utf8.DecodeLastRune(text[:start])
	after, _ := utf8.DecodeRune(text[end:])
	return isPunctuation(before) && isPunctuation(after)
}
