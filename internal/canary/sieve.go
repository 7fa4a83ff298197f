package canary

import "fmt"

// A Sieve lets a search run on a machine where the canaries may not be. It holds no value: of one word of each, and of
// nothing else, some bits of a hash, which at most one other word in 30,000 shares. Who comes by a Sieve reads nothing from
// it; he could check whether a word that he guesses is in some masked column. What passes is judged where the canaries are.
type Sieve struct {
	Filters [3][]uint64 `json:"filters"`
	Shift   int         `json:"shift"`
	Seed    uint64      `json:"seed"`
}

// Sieve returns that of the scanner's canaries.
func (sc *Scanner) Sieve() Sieve {
	v := Sieve{Shift: sc.shift, Seed: sc.seed}
	for i := range v.Filters {
		v.Filters[i] = sc.filter(func(hash uint64) uint64 { return v.another(i, hash) })
	}
	return v
}

// another is the hash that the filter with number i knows a token by; the first has that of a Scanner. The seed sees to it
// that a frequent word which passes today does not pass for ever.
func (v *Sieve) another(i int, hash uint64) uint64 {
	for range i {
		hash = spread(hash ^ v.Seed)
	}
	return hash
}

// passes tells whether the token may be an anchor, once the first filter has said so.
func (v *Sieve) passes(hash uint64) bool {
	for i := 1; i < len(v.Filters); i++ {
		if bit := v.another(i, hash) >> v.Shift; v.Filters[i][bit/64]>>(bit%64)&1 == 0 {
			return false
		}
	}
	return true
}

// valid tells whether the filters are of the size that Shift says.
func (v *Sieve) valid() bool {
	for _, f := range v.Filters {
		if v.Shift < 24 || v.Shift > 58 || len(f) != 1<<(64-v.Shift)/64 {
			return false
		}
	}
	return true
}

// Suspect is a field, or a piece of one, that a Sieve let through.
type Suspect struct {
	Where  string `json:"where"` // public.orders.note, as a Finding's
	Base   string `json:"base,omitempty"`
	Text   bool   `json:"text,omitempty"` // it is not COPY's
	Number int64  `json:"number"`         // of the field: its pieces have one
	Field  []byte `json:"field"`
}

// Format keeps values out of logs and messages, whatever the verb.
func (x Suspect) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "suspect in %s", x.Where) }

// Scanner returns a Scanner that finds what needs no canaries, addresses, cards and IBANs, and hands what may hold a canary
// to pass, valid until that returns; its Streams may call it side by side. allowed is that of NewScanner.
func (v Sieve) Scanner(pass func(Suspect), allowed ...string) (*Scanner, error) {
	if !v.valid() {
		return nil, fmt.Errorf("a sieve of %d, %d and %d words for %d bits", len(v.Filters[0]), len(v.Filters[1]), len(v.Filters[2]), 64-v.Shift)
	}
	sc := newScanner(allowed)
	sc.bloom, sc.shift, sc.seed, sc.sieve, sc.pass = v.Filters[0], v.Shift, v.Seed, &v, pass
	return sc, nil
}

// handOn hands on a field, or a piece of one.
func (s *Stream) handOn(c *Column, field []byte) {
	if s.suspect == 0 || s.passed != s.fields {
		s.suspect, s.passed = s.sc.suspects.Add(1), s.fields
	}
	x := Suspect{Where: s.where(), Text: s.text, Number: s.suspect, Field: field}
	if c != nil {
		x.Base = c.Base
	}
	s.sc.pass(x)
}

// Judge searches what the Sieve of this Scanner let through elsewhere. It is not safe for concurrent use.
func (sc *Scanner) Judge(x Suspect) {
	if sc.judge == nil {
		sc.judge = newStream(sc, "", nil, true)
	}
	s := sc.judge
	s.name, s.text, s.fields = x.Where, x.Text, x.Number
	s.search(&Column{Base: x.Base}, x.Field)
}
