package canary

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// apart searches by the sieve of one scanner, which crosses as JSON, and judges by that scanner what passes.
func apart(t *testing.T, sc *Scanner, search func(*Scanner), allowed ...string) (findings []Finding, passed int) {
	t.Helper()
	var v Sieve
	if text, err := json.Marshal(sc.Sieve()); err != nil || json.Unmarshal(text, &v) != nil {
		t.Fatal(err)
	}
	there, err := v.Scanner(func(x Suspect) {
		passed++
		text, _ := json.Marshal(x)
		var here Suspect
		if err := json.Unmarshal(text, &here); err != nil {
			t.Fatal(err)
		}
		sc.Judge(here)
	}, allowed...)
	if err != nil {
		t.Fatal(err)
	}
	search(there)
	findings = append(there.Findings(), sc.Findings()...)
	slices.SortFunc(findings, Finding.Compare)
	return findings, passed
}

func TestASearchBySieveFindsWhatAnotherFinds(t *testing.T) {
	sampler := NewSampler("public.customers", customerColumns)
	feed(sampler, customers(20_000, "example.com"))
	words := sampled("Jürgen O'Brien", "0190163d-8694-739b-aea5-966c26f8ad90", "Łukasz ŻÓŁĆ")
	samplers := []*Sampler{sampler, words}
	clean, dirty := customers(5_000, "elsewhere.invalid"), customers(300, "example.com")
	long := strings.Repeat("nothing to see here, ", maxPiece/10)
	texts := "COMMENT ON TABLE x IS 'by JÜRGEN O''BRIEN, jürgen o''brien';\n-- łukasz żółć anna@example.org 4111111111111111\n"
	mixed := []Column{text("a"), {Name: "b", Base: "jsonb"}, {Name: "c", Base: "tsvector"}, masked("d")}
	rows := `Jürgen O'Brien, Jürgen O'Brien` + "\t" + `{"a": "x\\nJ\\u00fcrgen O'Brien"}` + "\t" + `'brien':3 'jürgen':1 'o':2` + "\t4111 1111 1111 1111\n" +
		long + "Łukasz ŻÓŁĆ" + long + "0190163D-8694-739B-AEA5-966C26F8AD90\t\\N\t\\N\tDE89 3704 0044 0532 0130 00\n"
	search := func(sc *Scanner) {
		for name, data := range map[string][]byte{"public.customers": append(slices.Clone(clean), dirty...), "public.copies": dirty} {
			feed(sc.Table(name, customerColumns), data)
		}
		feed(sc.Table("public.mixed", mixed), []byte(rows))
		feed(sc.Text("the schema"), []byte(texts))
	}
	at := NewScanner(samplers, "anna@example.org")
	search(at)
	want := at.Findings()
	if len(want) < 10 || !strings.Contains(fmt.Sprint(want), "public.mixed.a: a value of t.v, 2 times") {
		t.Fatalf("there is not much to find: %v", want)
	}
	got, _ := apart(t, NewScanner(samplers, "anna@example.org"), search, "anna@example.org")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("by sieve:\n%v\nas a whole:\n%v", got, want)
	}
}

func TestHardlyAnythingPassesASieveThatIsNoCanary(t *testing.T) {
	sampler := NewSampler("public.customers", customerColumns)
	feed(sampler, customers(20_000, "example.com"))
	others := bytes.ReplaceAll(customers(20_000, "masked.invalid"), []byte("Zimmermann"), []byte("Cobbleden"))
	sc := NewScanner([]*Sampler{sampler})
	at := NewScanner([]*Sampler{sampler})
	feed(at.Table("t", customerColumns), others)
	real := 0
	for _, f := range at.Findings() {
		real += int(f.Count)
	}
	_, passed := apart(t, sc, func(there *Scanner) { feed(there.Table("t", customerColumns), others) })
	if fields := 20_000 * len(customerColumns); passed > real+fields/200 {
		t.Errorf("%d of %d fields pass, %d have a canary", passed, fields, real)
	}
	v := sc.Sieve()
	pass := 0
	for i := range 1_000_000 {
		hash := hashOf(fmt.Sprintf("word%d", i))
		if bit := hash >> v.Shift; v.Filters[0][bit/64]>>(bit%64)&1 != 0 && v.passes(hash) {
			pass++
		}
	}
	if pass > 1_000_000/30_000*2 {
		t.Errorf("%d of a million other words pass", pass)
	}
}

func TestASieveHoldsNoValue(t *testing.T) {
	s := sampled("Jürgen O'Brien", "anna.mueller29@example.com")
	v := NewScanner([]*Sampler{s}).Sieve()
	text, _ := json.Marshal(v)
	if bytes.ContainsAny(text, "@") || bytes.Contains(bytes.ToLower(text), []byte("brien")) {
		t.Errorf("%s", text)
	}
	bits := 0
	for _, word := range v.Filters[0] {
		for ; word != 0; word &= word - 1 {
			bits++
		}
	}
	if bits > 4 {
		t.Errorf("%d bits for two canaries", bits)
	}
	if got := fmt.Sprintf("%v %+v %s", Suspect{Where: "t.v", Field: []byte("Anna")}, Suspect{Field: []byte("Anna")}, Suspect{Field: []byte("Anna")}); strings.Contains(got, "Anna") || strings.Contains(got, "65") {
		t.Error(got)
	}
}

func TestABrokenSieveIsRefused(t *testing.T) {
	good := NewScanner([]*Sampler{sampled("Jürgen O'Brien")}).Sieve()
	for _, v := range []Sieve{{}, {Shift: 64}, {Shift: -1}, {Filters: good.Filters, Shift: good.Shift - 1}, {Filters: [3][]uint64{good.Filters[0], good.Filters[1]}, Shift: good.Shift}} {
		if _, err := v.Scanner(func(Suspect) {}); err == nil {
			t.Errorf("%d bits were taken", 64-v.Shift)
		}
	}
}

func TestAFingerprintIsTheSameElsewhere(t *testing.T) {
	rows := customers(100, "example.com")
	sampler := NewSampler("t", customerColumns)
	feed(sampler, rows)
	v := NewScanner([]*Sampler{sampler}).Sieve()
	for seeded, same := range map[uint64]bool{v.Seed: true, v.Seed + 1: false} {
		v.Seed = seeded
		there, err := v.Scanner(func(Suspect) {})
		if err != nil {
			t.Fatal(err)
		}
		s := there.Table("t", customerColumns)
		feed(s, rows)
		if got := s.Fingerprint(); (got == sampler.Fingerprint()) != same {
			t.Errorf("%v and %v, seeds alike: %v", got, sampler.Fingerprint(), same)
		}
	}
}
