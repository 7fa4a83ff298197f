package canary

import (
	"bytes"
	"cmp"
	"container/heap"
	"hash/maphash"
	"slices"
	"unicode"
	"unicode/utf8"
)

const (
	maxCanaries = 300  // of a column
	candidates  = 1024 // of a column while it streams by: some of them turn out to be nobody's

	minBytes  = 8   // of a canary
	maxPhrase = 64  // bytes of one with blanks: a copy that was cut to fit still holds the beginning
	maxToken  = 128 // bytes of one without: a SHA-512 in hex
)

// How distinctive a text is; see gradeOf.
type grade int

const (
	nobodys grade = iota
	weak          // distinctive where it is rare
	strong
)

// A canary is a text that stands in a masked column of the backup and, if masking did its work, nowhere on staging.
//
// Values are taken apart at control characters, double quotes, backslashes and angle brackets, arrays and composites at
// their braces and commas too: what is left reads the same in every column it may be copied to. Each such run, without
// the punctuation around it, is a candidate if it has 8 bytes or more and is distinctive:
//
//   - strong: an address with @; two or more words with capitals ("Anna Müller"); 32 bytes or more of five words or more;
//     a token of 10 bytes or more that goes from letters to digits and back at least four times, or has letters and nine
//     digits (UUID, hex, IBAN), or four in 20 bytes or more; a number of nine digits or more in groups (a phone), or of 13 or more in one;
//   - weak: any other two words, a token of 12 bytes or more, letters and digits of 10 or more, an IPv4 address, a number
//     of ten to twelve digits. Programmers' vocabulary looks the same (password_reset_requested, Windows-10, San
//     francisco), so a weak one counts only in tables of 1000 rows or more, where no more than one row in 1000 has it;
//   - nobody's: dates, times, decimal numbers, seconds since 1970, and what has less than five different bytes.
//
// What stands 20 times in its column, or in one row of 100 of a table of 1000 or more, is a default or a standard text,
// and nobody's. Values of two columns that are one capitalised word each (given name, family name) make one canary.
type canary struct {
	text  string
	grade grade
	count int // times it was offered
	rank  uint64
	hash  uint64
}

// seldom tells whether it is rare enough in a table of that many rows.
func (c *canary) seldom(rows int64) bool {
	n := int64(c.count)
	if n >= 20 || rows >= 1000 && n*100 >= rows {
		return false
	}
	return c.grade == strong || n*1000 <= rows
}

// pool chooses a column's canaries in bounded memory. It prefers long texts up to 16 bytes; beyond that, and among those of
// one length, a hash decides, so that they come from everywhere in the table. A text's rank never changes and the lowest
// rank that is held only rises: what is held at the end has been held, and counted, since it was first offered.
type pool struct {
	held     map[uint64]*canary
	lowest   byRank // a heap
	canaries []string
}

var texts = maphash.MakeSeed()

func newPool() *pool { return &pool{held: map[uint64]*canary{}} }

// offer counts a text. It does not keep text itself.
func (p *pool) offer(text []byte) {
	full := len(p.lowest) == candidates
	if full && uint64(len(text)) < p.lowest[0].rank>>56 {
		return
	}
	hash := maphash.Bytes(texts, text)
	rank := uint64(min(len(text), 16))<<56 | hash>>8
	if full && rank < p.lowest[0].rank {
		return // as nearly all do, before the dearest question
	}
	if c := p.held[hash]; c != nil {
		c.count++
		return
	}
	g := gradeOf(text)
	if g == nobodys {
		return
	}
	if full {
		delete(p.held, heap.Pop(&p.lowest).(*canary).hash)
	}
	c := &canary{text: string(text), grade: g, count: 1, rank: rank, hash: hash}
	p.held[hash] = c
	heap.Push(&p.lowest, c)
}

// settle chooses the canaries, longest first, and forgets everything else.
func (p *pool) settle(rows int64) {
	chosen := slices.DeleteFunc(p.lowest, func(c *canary) bool {
		return !c.seldom(rows) || len(tokens(c.text)) == 0 // in the scripts that tokens take for punctuation
	})
	slices.SortFunc(chosen, func(a, b *canary) int { return cmp.Compare(b.rank, a.rank) })
	for _, c := range chosen[:min(len(chosen), maxCanaries)] {
		p.canaries = append(p.canaries, c.text)
	}
	slices.SortStableFunc(p.canaries, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	p.held, p.lowest = nil, nil
}

type byRank []*canary

func (h byRank) Len() int           { return len(h) }
func (h byRank) Less(i, j int) bool { return h[i].rank < h[j].rank }
func (h byRank) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byRank) Push(c any)        { *h = append(*h, c.(*canary)) }
func (h *byRank) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// breaks are the bytes that do not look the same everywhere, or surround what is copied; structure are those of arrays,
// composites and ranges as well.
var breaks, structure [256]bool

func init() {
	for c := range 0x20 {
		breaks[c] = true
	}
	for _, c := range `"\<>` {
		breaks[c] = true
	}
	structure = breaks
	for _, c := range `,(){}[]` {
		structure[c] = true
	}
}

// runs gives one each run of value between the bytes in at.
func runs(value []byte, at *[256]bool, one func(run []byte)) {
	for start := 0; start < len(value); {
		end := start
		for end < len(value) && !at[value[end]] {
			end++
		}
		if run := cut(trim(value[start:end])); len(run) >= minBytes {
			one(run)
		}
		start = end + 1
	}
}

func trim(run []byte) []byte {
	if len(run) == 0 || fold[run[0]] != 0 && run[0] < utf8.RuneSelf && fold[run[len(run)-1]] != 0 && run[len(run)-1] < utf8.RuneSelf {
		return run
	}
	return bytes.TrimFunc(run, isPunctuation)
}

// cut shortens what is too long: a text to its beginning, a token to its end, which is less often the same in all of them
// (of JSON Web Tokens, of images).
func cut(run []byte) []byte {
	if len(run) <= maxPhrase {
		return run
	}
	if blank := bytes.LastIndexByte(run[:maxPhrase+1], ' '); blank >= minBytes {
		return trim(run[:blank])
	}
	if len(run) <= maxToken {
		return run
	}
	tail := run[len(run)-maxToken:]
	for i, c := range tail {
		if fold[c] == 0 {
			return trim(tail[i:])
		}
	}
	return nil
}

func isPunctuation(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
}

// makeup is what a text is made of.
type makeup struct {
	letters, digits  int // bytes
	words, capitals  int // words of two letters or more, and those with a capital
	turns            int // from letters to digits or back
	different        int // bytes
	at, blank, colon bool
	decimal          bool // nothing but digits, dots and commas
}

func makeupOf(text []byte) (m makeup) {
	var seen [256]bool
	last, lettersOfWord, capital := byte(0), 0, false
	m.decimal = true
	for i, c := range text {
		if !seen[c] {
			seen[c] = true
			m.different++
		}
		switch {
		case isDigit(c):
			m.digits++
			if last == 'a' {
				m.turns++
			}
			last = '0'
		case fold[c] != 0:
			if lettersOfWord == 0 {
				capital = isCapital(text[i:])
			}
			m.letters++
			lettersOfWord++
			if lettersOfWord == 2 {
				m.words++
				if capital {
					m.capitals++
				}
			}
			if last == '0' {
				m.turns++
			}
			last = 'a'
			m.decimal = false
		default:
			m.at = m.at || c == '@'
			m.colon = m.colon || c == ':'
			m.decimal = m.decimal && (c == '.' || c == ',')
			if c == ' ' {
				m.blank = true
				lettersOfWord = 0
			}
		}
	}
	return m
}

// isCapital tells whether text begins with a letter that is not small: scripts without capitals have only such.
func isCapital(text []byte) bool {
	if c := text[0]; c < utf8.RuneSelf {
		return c < 'a'
	}
	r, _ := utf8.DecodeRune(text)
	return unicode.IsLetter(r) && !unicode.IsLower(r)
}

// gradeOf tells how distinctive a text is; the rules stand at canary.
func gradeOf(text []byte) grade {
	if len(text) < minBytes {
		return nobodys
	}
	m := makeupOf(text)
	switch {
	case m.different < 5 && !(m.letters == 0 && m.different >= 3):
		return nobodys
	case m.at && isAddressed(text):
		return strong
	case m.letters <= 3 && isDate(text):
		return nobodys
	case m.letters == 0:
		return gradeOfNumber(text, m)
	case m.blank && m.words >= 2:
		if m.capitals >= 2 || m.words >= 5 && len(text) >= 32 {
			return strong
		}
		return weak
	case m.turns >= 4 && len(text) >= 10, m.digits >= 9 && !(m.blank && m.colon), m.digits >= 4 && len(text) >= 20 && !m.blank:
		return strong
	case m.digits > 0 && len(text) >= 10 || len(text) >= 12 && m.letters > len(text)/2:
		return weak
	}
	return nobodys
}

func gradeOfNumber(text []byte, m makeup) grade {
	switch one := m.digits == len(text); {
	case m.colon: // a time
		return nobodys
	case one && (m.digits == 10 || m.digits == 13) && text[0] == '1': // seconds or milliseconds since 1970
		return nobodys
	case one && m.digits >= 13, one && m.digits >= 10 && text[0] == '0':
		return strong
	case one && m.digits >= 10, isIPv4(text):
		return weak
	case !m.decimal && m.digits >= 9:
		return strong
	}
	return nobodys
}

// isAddressed tells whether an @ stands between letters or digits.
func isAddressed(text []byte) bool {
	i := bytes.IndexByte(text, '@')
	return i > 0 && i+1 < len(text) && fold[text[i-1]] != 0 && fold[text[i+1]] != 0
}

// isDate tells whether text begins as 2006-01-02, 2006/01/02, 20060102T, 02.01.2006 or 1/2/2006.
func isDate(text []byte) bool {
	var groups [3]int
	i := 0
	for g := range groups {
		for i < len(text) && isDigit(text[i]) {
			groups[g]++
			i++
		}
		if g < 2 && i < len(text) && bytes.IndexByte([]byte("-/."), text[i]) >= 0 {
			i++
		}
	}
	switch groups {
	case [3]int{4, 2, 2}, [3]int{2, 2, 4}, [3]int{1, 1, 4}, [3]int{1, 2, 4}, [3]int{2, 1, 4}:
		return true
	}
	return groups[0] == 8 && len(text) > 8 && text[8] == 'T'
}

func isIPv4(text []byte) bool {
	dots := 0
	for i, c := range text {
		if c == '.' && i > 0 && text[i-1] != '.' {
			dots++
		} else if !isDigit(c) {
			return false
		}
	}
	return dots == 3 && len(text) <= len("255.255.255.255")
}
