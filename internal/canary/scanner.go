package canary

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Kind is what was found.
type Kind string

const (
	Canary Kind = "canary" // a value that stands in a masked column of the backup
	Email  Kind = "e-mail" // an address whose domain does not end in .invalid
	Card   Kind = "card"   // a payment card's number, in a masked column
	IBAN   Kind = "iban"   // in a masked column
)

// Finding is one reason to believe that staging is not clean. It holds no value.
type Finding struct {
	Kind   Kind
	Where  string // public.orders.note
	From   string // of a canary: the column whose real value it is
	Count  int64  // fields (lines of a Text) that hold such a thing
	Values int    // of a canary: how many different ones; one alone may be a coincidence
}

func (f Finding) String() string {
	if f.Kind == Canary {
		return fmt.Sprintf("%s: a value of %s, %s (%d different)", f.Where, f.From, times(f.Count), f.Values)
	}
	return fmt.Sprintf("%s: %s, %s", f.Where, f.Kind, times(f.Count))
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// Scanner searches the text of a database for canaries. Its Streams may be used side by side.
//
// A canary is found in whatever case and column it stands, in the text of arrays, composites, hstore, XML and JSON, behind
// the escapes of COPY, JSON and SQL's strings, and word by word in a tsvector; only not as a part of a longer word.
type Scanner struct {
	canaries []string // in small letters
	from     []int    // of each, in columns
	columns  []string
	allowed  map[string]bool // in small letters

	anchors map[uint64][]anchor // by a token's hash
	bloom   []uint64            // bits of those hashes
	shift   int                 // from a hash to a bit's number
	seed    uint64              // of fingerprints

	sieve    *Sieve        // in place of canaries and anchors
	pass     func(Suspect) // gets what the sieve lets through
	suspects atomic.Int64  // fields that it did
	judge    *Stream       // of suspects

	mu    sync.Mutex
	found map[place]*tally
}

// anchor is the token of a canary by which a search finds it: one that few others have.
type anchor struct {
	canary int
	offset int // in its text
}

type place struct {
	kind  Kind
	where string
	from  int
}

type tally struct {
	count    int64
	canaries map[int]bool
}

// NewScanner searches for the canaries of the samplers, which are closed. What is allowed, addresses and names of those
// who have their own on staging, is neither a canary nor found as an address. A value that stands in several columns
// counts as that of the first.
func NewScanner(samplers []*Sampler, allowed ...string) *Scanner {
	sc := newScanner(allowed)
	var written []string // the canaries as they are in the backup
	seen := map[string]bool{}
	for _, s := range samplers {
		for i, p := range s.pools {
			if p == nil {
				continue
			}
			from := slices.Index(sc.columns, s.name(i)) // of partitions, the same
			if from < 0 {
				from = len(sc.columns)
				sc.columns = append(sc.columns, s.name(i))
			}
			for _, text := range p.canaries {
				original := apostrophes.ReplaceAllLiteralString(text, "'")
				text = lowered(original)
				if !seen[text] && !sc.isAllowed(text) {
					seen[text] = true
					sc.canaries, written = append(sc.canaries, text), append(written, original)
					sc.from = append(sc.from, from)
				}
			}
		}
	}
	sc.index(written)
	return sc
}

func newScanner(allowed []string) *Scanner {
	sc := &Scanner{allowed: map[string]bool{}, found: map[place]*tally{}, seed: seed}
	for _, a := range allowed {
		sc.allowed[lowered(strings.TrimSpace(a))] = true
	}
	return sc
}

var apostrophes = regexp.MustCompile("''+")

// isAllowed tells whether a canary is a part of what is allowed.
func (sc *Scanner) isAllowed(text string) bool {
	for a := range sc.allowed {
		if strings.Contains(a, text) {
			return true
		}
	}
	return false
}

// index chooses the anchors. Capitals do not change where a token stands.
func (sc *Scanner) index(written []string) {
	common := map[uint64]int{} // canaries with a token
	all := make([][]token, len(sc.canaries))
	for i, text := range sc.canaries {
		all[i] = tokens(text)
		for _, t := range all[i] {
			common[hashOf(text[t.start:t.end])]++
		}
	}
	sc.anchors = map[uint64][]anchor{}
	for i, text := range sc.canaries {
		best := slices.MinFunc(all[i], func(a, b token) int {
			return cmp.Compare(cost(text[a.start:a.end], common), cost(text[b.start:b.end], common))
		})
		for _, h := range hashes(written[i][best.start:best.end]) {
			sc.anchors[h] = append(sc.anchors[h], anchor{i, best.start})
		}
	}
	sc.shift = 64 - 10 // 32 to 64 bits for each leave 3 % of the tokens for a look into the map
	for 1<<(64-sc.shift) < 32*len(sc.anchors) {
		sc.shift--
	}
	sc.bloom = sc.filter(func(hash uint64) uint64 { return hash })
}

// filter is a bit for each anchor, where another hash of its hash has it.
func (sc *Scanner) filter(another func(hash uint64) uint64) []uint64 {
	bits := make([]uint64, 1<<(64-sc.shift)/64)
	for hash := range sc.anchors {
		bit := another(hash) >> sc.shift
		bits[bit/64] |= 1 << (bit % 64)
	}
	return bits
}

// cost estimates how often a token as an anchor leads to a comparison in vain.
func cost(token string, common map[uint64]int) int {
	c := 100*common[hashOf(token)] - len(token)
	if len(token) < 3 {
		c += 100_000
	}
	if len(token) < 6 && number([]byte(token)) >= 0 {
		c += 10_000 // data is full of small numbers
	}
	return c
}

// Table returns a Stream for what COPY writes of a table, with the columns in COPY's order. Its session needs the settings
// of the dump: client_encoding, and pg_dump's DateStyle ISO, IntervalStyle postgres and extra_float_digits 3.
func (sc *Scanner) Table(name string, columns []Column) *Stream {
	return newStream(sc, name, columns, false)
}

// Text returns a Stream for a text that is not COPY's, such as what pg_dump --schema-only writes. Findings are in what.
func (sc *Scanner) Text(what string) *Stream { return newStream(sc, what, nil, true) }

var _ io.WriteCloser = (*Stream)(nil)

// Findings returns what was found so far, in order.
func (sc *Scanner) Findings() (findings []Finding) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for p, t := range sc.found {
		f := Finding{Kind: p.kind, Where: p.where, Count: t.count, Values: len(t.canaries)}
		if p.kind == Canary {
			f.From = sc.columns[p.from]
		}
		findings = append(findings, f)
	}
	slices.SortFunc(findings, Finding.Compare)
	return findings
}

// Compare orders findings by where they are.
func (f Finding) Compare(g Finding) int {
	return cmp.Or(cmp.Compare(f.Where, g.Where), cmp.Compare(f.Kind, g.Kind), cmp.Compare(f.From, g.From))
}

// Canaries is how many values are searched for.
func (sc *Scanner) Canaries() int { return len(sc.canaries) }

// Format keeps values out of logs and messages, whatever the verb.
func (sc *Scanner) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "scanner for %d canaries", len(sc.canaries))
}

// record notes one field with a finding; again says that the field has been counted for this place before.
func (sc *Scanner) record(p place, canary int, again bool) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	t := sc.found[p]
	if t == nil {
		t = &tally{canaries: map[int]bool{}}
		sc.found[p] = t
	}
	if !again {
		t.count++
	}
	if p.kind == Canary {
		t.canaries[canary] = true
	}
}
