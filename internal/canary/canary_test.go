package canary

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"rehearsal/internal/copytext"
)

func text(name string) Column   { return Column{Name: name, Base: "text", Category: 'S'} }
func masked(name string) Column { c := text(name); c.Masked = true; return c }

// sampled closes a sampler of one masked text column t.v that has seen the fields.
func sampled(fields ...string) *Sampler {
	s := NewSampler("t", []Column{masked("v")})
	s.Write([]byte(strings.Join(fields, "\n") + "\n" + copytext.EndOfData + "\n\n\n"))
	s.Close()
	return s
}

// values are the canaries of a sampler's first column.
func values(s *Sampler) []string { return s.pools[0].canaries }

// scanned searches one field of a column for a scanner's canaries.
func scanned(sc *Scanner, c Column, field string) []Finding {
	s := sc.Table("staging", []Column{c})
	s.Write([]byte(field + "\n"))
	s.Close()
	return sc.Findings()
}

func TestWhatIsDistinctive(t *testing.T) {
	for value, want := range map[string]grade{
		"Anna Müller": strong, "anna müller": weak, "ANNA MUELLER": strong, "山田 太郎": strong, "Wei Chen": strong, "A B C D E": nobodys,
		"Anna": nobodys, "Müller-Lüdenscheidt": weak, "Main Street 12": strong, "San francisco": weak,
		"anna@example.com": strong, "a @ b, said somebody": weak,
		"Please leave it with the neighbour": strong, "please leave it": weak, "Thank you very much": weak,
		"password_reset_requested": weak, "order.placed": weak, "pending": nobodys, "Administrator": weak,
		"9f86d081884c7d659a2feaa0c55ad015": strong, "tok_9f86d081884c": strong, "masked": nobodys, "Windows10-x64": weak, "live-smtp-password-7781": strong,
		"0190163d-8694-739b-aea5-966c26f8ad90": strong, "00000000-0000-0000-0000-000000000000": nobodys, "aaaaaaaaaaaaaaa": nobodys,
		"+49 151 2000001": strong, "(0151) 002 00 01": strong, "0151/2000001": strong, "01512000001": strong, "2125551234": weak,
		"DE89370400440532013000": strong, "DE89 3704 0044 0532 0130 00": strong,
		"4539578763621486": strong, "1111111111111111": nobodys, "1700000000": nobodys, "1700000000123": nobodys, "12345678": nobodys,
		"2024-01-31": nobodys, "2024-01-31 10:20:30.123456+02": nobodys, "2024-01-31T10:20:30Z": nobodys, "31.12.2024": nobodys,
		"10:20:30.123456": nobodys, "1234567.89012": nobodys, "12,345,678.00": nobodys,
		"198.51.100.77": weak, "2001:db8::1f:2e": strong,
	} {
		if got := gradeOf(trim([]byte(value))); got != want {
			t.Errorf("%q: got %d, want %d", value, got, want)
		}
	}
}

func TestAValueIsTakenApartWhereOtherColumnsWouldWriteItDifferently(t *testing.T) {
	for field, want := range map[string][]string{
		`Hi, I'm Anna Müller.\nCall me:\t+49 151 2000001`: {"Hi, I'm Anna Müller", "49 151 2000001"},
		`first line\r\nsecond line by José García`:        {"second line by José García"},
		`Paths like C:\\temp\\new are Seán O'Brien's`:     {"new are Seán O'Brien's"},
		`Anna Müller <anna@example.com>`:                  {"anna@example.com", "Anna Müller"},
		`“Anna Müller” – „José García“`:                   {"Anna Müller” – „José García"},
		`\N`: nil, ``: nil, `\\N`: nil, `\\.`: nil,
		strings.Repeat("Lange Worte ", 20): {"Lange Worte Lange Worte Lange Worte Lange Worte Lange Worte"},
		strings.Repeat("0f1e2d3c4b", 30):   nil, // one token of 300 bytes
		"eyJhbGciOiJIUzI1NiJ9." + strings.Repeat("0f1e2d3c4b", 10) + ".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV": {"SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV"},
	} {
		got := values(sampled(field))
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %q, want %q", field, got, want)
		}
	}
}

func TestOfArraysCompositesAndDocumentsTheElementsAreTaken(t *testing.T) {
	listed := map[string]bool{"": true, "customer": true, "lines": true, "lines.*": true, "lines.*.sku": true, "customer.email": true, "Listed By Name": true, `"*"`: true}
	rule := func(steps []string) (bool, bool) {
		path := strings.Join(steps, ".")
		return listed[path], path == "lines.*.sku" || path == `"*"`
	}
	for _, c := range []struct {
		column Column
		field  string
		want   []string
	}{
		{Column{Base: "_text", Category: 'A'}, `{early,"Anna Müller","José \\"Pepe\\" García",Ola Nordmann}`, []string{"Anna Müller", "Ola Nordmann"}},
		{Column{Base: "address", Category: 'C'}, `("Main Street 7",Bad Homburg,DE)`, []string{"Bad Homburg", "Main Street 7"}},
		{Column{Base: "hstore", Category: 'U'}, `"name"=>"Anna Müller", "n"=>NULL`, []string{"Anna Müller"}},
		{Column{Base: "xml", Category: 'U'}, `<p>Anna Müller</p>`, []string{"Anna Müller"}},
		{Column{Base: "jsonb", Category: 'U', Path: rule}, `{"lines": [{"sku": "Article Number One", "note": "Engrave Anna Müller"}], "n": 4111111111111111,` +
			` "customer": {"email": "anna@example.com"}, "*": "Kept By Name", "Listed By Name": 1}`, []string{"Engrave Anna Müller", "anna@example.com"}},
		{Column{Base: "jsonb", Category: 'U', Path: rule}, `{"Anna Müller": {"customer": 1}}`, []string{"Anna Müller"}},
		{Column{Base: "jsonb", Category: 'U', Path: rule}, `"Anna Müller"`, []string{"Anna Müller"}},
		{Column{Base: "json", Category: 'U', Path: rule}, `{"lines" : [ [], {"x":"J\\u00fcrgen M\\u00fcller\\nsaid \\"Good Morning\\" \\ud83d\\ude00"}`, []string{"Good Morning", "Jürgen Müller"}},
		{Column{Base: "jsonb", Category: 'U'}, `{"a": {"b": "Anna Müller"}}`, []string{"Anna Müller"}},
		{Column{Base: "json", Category: 'U'}, `{"cut": ["Anna Mül`, []string{"Anna Mül"}},
		{Column{Base: "json", Category: 'U'}, `]]}}{"a"`, nil},
		{Column{Base: "json", Category: 'U'}, `[}]`, nil},
		{Column{Base: "json", Category: 'U'}, `{]}`, nil},
		{Column{Base: "int8", Category: 'N'}, `4111111111111111`, nil},
		{Column{Base: "timestamptz", Category: 'D'}, `2024-01-01 00:00:00+00`, nil},
		{Column{Base: "mood", Category: 'E'}, `Very Happy`, nil},
		{Column{Base: "_numeric", Category: 'A'}, `{4111111111111111}`, nil},
		{Column{Base: "tstzrange", Category: 'R'}, `["2024-01-01 00:00:00+00",)`, nil},
		{Column{Base: "tsvector", Category: 'U'}, `'Anna Müller':1`, nil},
	} {
		c.column.Masked = true
		s := NewSampler("t", []Column{c.column})
		s.Write([]byte(c.field + "\n"))
		s.Close()
		var got []string
		if s.pools[0] != nil {
			got = slices.Clone(values(s))
		}
		if slices.Sort(got); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s %s: got %q, want %q", c.column.Base, c.field, got, c.want)
		}
		if n := s.Samples()[0].Values; n != len(c.want) {
			t.Errorf("%s: Samples says %d", c.field, n)
		}
	}
}

func TestOnlyMaskedColumnsAreSampled(t *testing.T) {
	s := NewSampler("t", []Column{text("kept"), masked("v")})
	s.Write([]byte("Anna Müller\tJosé García\n"))
	s.Close()
	if s.pools[0] != nil || fmt.Sprint(s.Samples()) != "[{t.v 1}]" {
		t.Error(s.Samples())
	}
}

func TestGivenAndFamilyNameOfARowMakeOneCanary(t *testing.T) {
	s := NewSampler("t", []Column{masked("given"), masked("middle"), masked("family"), text("kept")})
	s.Write([]byte("Anna\t\\N\tMüller\tKept\nWei\tThe second\tChen\tKept\n\\N\t\\N\tGarcía\tKept\n"))
	s.Close()
	if got := fmt.Sprint(values(s)); got != "[Anna Müller Müller Anna Wei Chen Chen Wei]" && !strings.Contains(got, "Anna Müller") || len(values(s)) != 4 || len(s.pools[2].canaries) != 0 {
		t.Error(got)
	}
}

func TestWhatManyRowsHaveIsNobodys(t *testing.T) {
	fields := func(value string, times, rows int) (list []string) {
		for i := range rows {
			if i < times {
				list = append(list, value)
			} else {
				list = append(list, fmt.Sprint(i))
			}
		}
		return list
	}
	for _, c := range []struct {
		value       string
		times, rows int
		want        int
	}{
		{"Standard Text", 19, 19, 1}, {"Standard Text", 20, 20, 0}, {"Standard Text", 20, 5000, 0},
		{"Standard Text", 9, 1000, 1}, {"Standard Text", 10, 1000, 0}, {"Standard Text", 10, 999, 1},
		{"password_reset_requested", 1, 999, 0}, {"password_reset_requested", 1, 1000, 1},
		{"password_reset_requested", 2, 1000, 0}, {"password_reset_requested", 2, 2000, 1},
	} {
		if got := len(values(sampled(fields(c.value, c.times, c.rows)...))); got != c.want {
			t.Errorf("%q in %d of %d rows: %d canaries, want %d", c.value, c.times, c.rows, got, c.want)
		}
	}
}

func TestAColumnHasAtMost300CanariesLongestFirstAndOfAllItsRows(t *testing.T) {
	var fields []string
	for i := range 20_000 {
		fields = append(fields, fmt.Sprintf("Given%05d Family", i))
	}
	fields = append(fields, "Too Short", strings.Repeat("common to many rows, very long", 2), fields[7], fields[7])
	got := values(sampled(fields...))
	late := 0
	for i, v := range got {
		if i > 0 && len(v) > len(got[i-1]) {
			t.Fatal("not longest first")
		}
		if v > "Given10000" {
			late++
		}
	}
	if len(got) != maxCanaries || late < 100 || late > 200 {
		t.Errorf("%d canaries, %d of the later rows", len(got), late)
	}
}

func TestATextWithoutTokensIsNoCanary(t *testing.T) {
	fields := make([]string, 1500)
	fields[3] = "ⰀⰁⰂⰃ ⰄⰅⰆⰇ" // Glagolitic
	s := sampled(fields...)
	if len(values(s)) != 0 || NewScanner([]*Sampler{s}).Canaries() != 0 {
		t.Error(values(s))
	}
}

func TestLongTextsArePreferred(t *testing.T) {
	var fields []string
	for i := range 5000 {
		fields = append(fields, fmt.Sprintf("Al Ng %04d", i))
	}
	for i := range 100 {
		fields = append(fields, fmt.Sprintf("Alexander Nguyen %04d", i))
	}
	if got := values(sampled(fields...)); len(got) != maxCanaries || !strings.HasPrefix(got[99], "Alexander") {
		t.Errorf("%d canaries, %q", len(got), got[99])
	}
}

func TestALongFieldIsNeverInMemoryAsAWhole(t *testing.T) {
	s := NewSampler("t", []Column{masked("v")})
	w := NewScanner(nil).Table("t", []Column{{Name: "v", Base: "text", Compare: true}})
	for range 100 {
		s.Write(make([]byte, maxPiece/3))
		w.Write(make([]byte, maxPiece/3))
	}
	if most := 3 * maxPiece; cap(w.tail) > most || cap(w.hash.row) > most {
		t.Error(cap(w.tail), cap(w.hash.row))
	}
}

func TestEscapesAreTakenOff(t *testing.T) {
	for text, want := range map[string]string{
		`\u00fc\u00FC\u4e2d`: "üü中", `\ud83d\ude00!`: "😀!", `\ud83dx`: "\uFFFDx", `\ud83d\u00`: "\uFFFDu00", `\u12`: "u12", `\uzzzz`: "uzzzz",
		`\"\\\/\n\v`: "\"\\/\nv", `x\`: `x\`,
	} {
		if got := string(unescape(nil, []byte(text))); got != want {
			t.Errorf("JSON %s: %q", text, got)
		}
	}
}

func TestACanaryIsFoundHoweverItIsWritten(t *testing.T) {
	s := sampled("Jürgen O'Brien", "anna.mueller29+shop@example.com", "+49 151 2000001", "0190163d-8694-739b-aea5-966c26f8ad90", "Łukasz ŻÓŁĆ", "Main Street 12", "Wei Chen", "2000003 3000002")
	jsonb, tsvector := Column{Name: "v", Base: "jsonb"}, Column{Name: "v", Base: "tsvector"}
	for _, c := range []struct {
		column Column
		field  string
		found  bool
	}{
		{text("v"), "Jürgen O'Brien", true},
		{text("v"), "JÜRGEN O'BRIEN", true},
		{text("v"), "łukasz żółć", true},
		{text("v"), "ŁUKASZ Żółć", true},
		{text("v"), `first\nJürgen O'Brien\nlast`, true},
		{text("v"), `\tJürgen O'Brien`, true},
		{text("v"), `“Jürgen O'Brien”`, true},
		{text("v"), "\u00a0Jürgen O'Brien\u00a0", true},
		{text("v"), `http://x/?q=0190163D-8694-739b-aea5-966c26f8ad90&y`, true},
		{text("v"), `call +49 151 2000001!`, true},
		{text("v"), `{"a":"x\\nJürgen O'Brien"}`, true},                       // JSON in a text column
		{text("v"), `"{\\"a\\":\\"x\\\\nJürgen O'Brien\\"}"`, true},           // JSON in JSON
		{text("v"), `{"{\\"x\\": \\"\\\\nJ\\\\u00FCrgen O'Brien\\"}"}`, true}, // jsonb[]
		{jsonb, `{"a": ["J\\u00fcrgen O'Brien"]}`, true},
		{jsonb, `{"a": ["\\u004A\\u00dcrgen O'Brien"]}`, true},
		{jsonb, `{"J\\u00fcrgen O'Brien": 1}`, true},
		{jsonb, `{"a": "\\u003cJürgen O'Brien\\u003e"}`, true},
		{Column{Name: "v", Base: "_text"}, `{x,"Jürgen O'Brien"}`, true},
		{Column{Name: "v", Base: "address"}, `("main street 12",x)`, true},
		{tsvector, `'brien':3 'jürgen':1 'o':2`, true},
		{tsvector, `'brien':3A,9 'hello':7 'jürgen':1,7B 'o':8,22`, true},
		{tsvector, `'brien' 'jürgen' 'o'`, true},
		{tsvector, `'12':6 'main':4 'street':5`, true},
		{tsvector, `'anna.mueller29+shop@example.com':1`, true},
		{tsvector, `'żółć':2 'łukasz':1`, true},

		{text("v"), "Jürgen O'Brienne", false},
		{text("v"), "MJürgen O'Brien", false},
		{text("v"), "Yawei Chen", false},
		{text("v"), "Jürgen Brien", false},
		{text("v"), "Main Street 123", false},
		{text("v"), "Main Street 1", false},
		{text("v"), "Main\tStreet 12", false},
		{text("v"), `Main Street\n12`, false},
		{text("v"), `\N`, false},
		{tsvector, `'12':60 'main':4 'street':5`, false},
		{tsvector, `'12':6 'main':4 'street':50`, false},
		{tsvector, `'main':4 'street':5`, false},
		{tsvector, `'chen':2 'hello':1`, false},
		{tsvector, `'chen':2 'wei':1`, true},
		{tsvector, `'2000003' '3000002'`, true},
		{tsvector, `'2000003' '3000'`, false},
		{tsvector, `'+49':2 '151':3 '2000001':4`, true},
		{tsvector, `'+49':2 '151':3 '2000':4 '2000002':5`, false},
		{tsvector, `'brie':3 'jürgen':1 'o':2`, true}, // as a stemmer leaves it
		{tsvector, `'brien':3 'o':2`, false},
		{tsvector, `'jürgen':1 'o':2`, false},
		{tsvector, `'jürgen`, false}, {tsvector, `'jürgen'''`, false}, {tsvector, `'jürgen':`, false}, {tsvector, `'jürgen':1,,`, false},
	} {
		got := scanned(NewScanner([]*Sampler{s}), c.column, c.field)
		got = slicesOf(Canary, got)
		if c.found != (len(got) == 1) {
			t.Errorf("%s %s: %v", c.column.Base, c.field, got)
		}
		if c.found && len(got) == 1 && (got[0].Where != "staging.v" || got[0].From != "t.v" || got[0].Count != 1 || got[0].Values != 1) {
			t.Errorf("%s: %+v", c.field, got[0])
		}
	}
}

func slicesOf(k Kind, all []Finding) (list []Finding) {
	for _, f := range all {
		if f.Kind == k {
			list = append(list, f)
		}
	}
	return list
}

func TestTextsThatAreNotUTF8AreSearchedAsBytes(t *testing.T) {
	s := sampled("J\xfcrgen M\xfcller", "Ren\xe9 Ch\xe2teau")
	for field, found := range map[string]bool{"j\xfcrgen m\xfcller": true, "J\xfbrgen M\xfcller": false, "J\xfcrgen M\xfbller": false, "J\\nJ\xfcrgen M\xfcller": true, "Ren\xe9 Ch\xe2teau": true} {
		if got := scanned(NewScanner([]*Sampler{s}), text("v"), field); found != (len(got) == 1) {
			t.Errorf("%q: %v", field, got)
		}
	}
}

func TestAFreeTextIsSearchedBehindTheQuotesOfSQL(t *testing.T) {
	sc := NewScanner([]*Sampler{sampled("Seán O'Brien", "Anna Müller", "D'Angelo Zimmermann")})
	w := sc.Text("the schema")
	fmt.Fprint(w, "COMMENT ON TABLE x IS 'written by Seán O''Brien';\n-- D''Angelo Zimmermann\nCOMMENT ON TABLE y IS E'x\\\\\\nAnna Müller';\n-- 4111111111111111\n\\.\nDEFAULT 'anna@example.com'")
	w.Close()
	if got := fmt.Sprint(sc.Findings()); got != "[the schema: a value of t.v, 3 times (3 different) the schema: e-mail, once]" {
		t.Error(got)
	}
}

func TestAllowedValuesAreNoFindings(t *testing.T) {
	s := sampled("Ada Lovelace", "ada.lovelace@example.com", "ada.lovelace1815-12-10", "Anna Müller")
	sc := NewScanner([]*Sampler{s}, "Ada Lovelace", "Ada.Lovelace@example.com")
	if got := scanned(sc, text("v"), `ada lovelace <ADA.lovelace@example.com>\nada.lovelace@example.com`); len(got) != 0 {
		t.Error(got)
	}
	if got := scanned(sc, text("v"), `Anna Müller`); len(got) != 1 {
		t.Error(got)
	}
	sc = NewScanner([]*Sampler{s})
	if got := scanned(sc, text("v"), `ada lovelace <ADA.lovelace@example.com>`); len(got) != 2 {
		t.Error(got)
	}
}

func TestAValueOfSeveralColumnsCountsAsThatOfTheFirst(t *testing.T) {
	a, b := sampled("Anna Müller"), NewSampler("u", []Column{masked("w")})
	b.Write([]byte("ANNA Müller\nJosé García\n"))
	b.Close()
	c := NewSampler("u", []Column{masked("w")}) // another partition
	c.Write([]byte("Wei Chen\n"))
	c.Close()
	got := scanned(NewScanner([]*Sampler{a, b, c}), text("v"), `Anna Müller, José García, Anna Müller, Wei Chen`)
	if fmt.Sprint(got) != "[staging.v: a value of t.v, once (1 different) staging.v: a value of u.w, once (2 different)]" {
		t.Error(got)
	}
}

func TestNothingPrintsAValue(t *testing.T) {
	s := sampled("Anna Müller")
	sc := NewScanner([]*Sampler{s})
	w := sc.Text("x")
	w.Write([]byte("Anna Müller"))
	for _, v := range []any{s, sc, w} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			if got := fmt.Sprintf(verb, v); strings.Contains(strings.ToLower(got), "anna") || strings.Contains(got, "416e6e61") {
				t.Errorf("%T %s: %s", v, verb, got)
			}
		}
	}
}

// result is everything that must not depend on how the bytes arrive.
func result(data []byte, pieces func() int) any {
	s := NewSampler("public.customers", customerColumns)
	write(s, data, pieces)
	sc := NewScanner([]*Sampler{s})
	w := sc.Table("public.customers", customerColumns)
	write(w, data, pieces)
	x := sc.Text("text")
	write(x, data, pieces)
	var canaries [][]string
	for _, p := range s.pools {
		if p != nil {
			canaries = append(canaries, p.canaries)
		}
	}
	return []any{canaries, s.Fingerprint(), w.Fingerprint(), sc.Findings()}
}

func write(w interface {
	Write([]byte) (int, error)
	Close() error
}, data []byte, pieces func() int) {
	for len(data) > 0 {
		n := min(len(data), pieces())
		chunk := append([]byte(nil), data[:n]...)
		w.Write(chunk)
		clear(chunk) // nobody may have kept it
		data = data[n:]
	}
	w.Close()
}

func TestWhereChunksAreCutMakesNoDifference(t *testing.T) {
	data := customers(400, "example.com")
	long := strings.Repeat("x, write to Anna.Long@example.com or call +49 151 2000001, ", 6_000) // pieces
	data = append(data, "1\t"+long+"\tAnna Müller\t\\N\t"+long+`\\n`+"\n7\tlast without a newline@example.com"...)
	want := result(data, func() int { return len(data) })
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		limit := []int{7, 100, 3000, 100_000}[seed%4]
		if got := result(data, func() int { return 1 + r.IntN(limit) }); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d differs", seed)
		}
	}
}

func TestAFieldOfManyPiecesIsSearchedAcrossTheirEdges(t *testing.T) {
	s := sampled("Anna Müller")
	for shift := -30; shift < 5; shift++ {
		for what, kinds := range map[string]string{" Anna Müller ": "[canary]", " anna@example.com ": "[e-mail]", " anna@masked.invalid ": "[]", " MAnna Müllerson": "[]"} {
			sc := NewScanner([]*Sampler{s})
			found := scanned(sc, text("v"), strings.Repeat("y x ", maxPiece)[:maxPiece+shift]+what+strings.Repeat("z", overlap))
			var got []Kind
			for _, f := range found {
				got = append(got, f.Kind)
			}
			if fmt.Sprint(got) != kinds {
				t.Errorf("%q at %d: %v", what, shift, found)
			}
		}
	}
}

func TestNoPieceBeginsWithinAnAddress(t *testing.T) {
	for shift := range 3 {
		sc := NewScanner(nil, "grace.hopper@example.com")
		if got := scanned(sc, text("v"), strings.Repeat("x", shift)+strings.Repeat(" grace.hopper@example.com", 3*maxPiece/25)); len(got) != 0 {
			t.Fatal(got)
		}
	}
}

func TestRowsAreCountedAsCopyLoadsThem(t *testing.T) {
	for data, want := range map[string]int64{
		"": 0, "\\.\n\n\n": 0, "a\n\\.\n\n\n": 1, "\n\n\\.\n": 2, "a\tb\nc\td\n": 2, "a\nb": 2, `\\.` + "\nx\n\\.\n": 2, "\\.x\n": 1, "x\t\\.\n\\.\ny\n": 1,
	} {
		s := NewSampler("t", []Column{masked("v")})
		feed(s, []byte(data))
		if got := s.Fingerprint().Rows; got != want {
			t.Errorf("%q: %d rows, want %d", data, got, want)
		}
	}
	w := NewScanner(nil).Table("t", []Column{text("v")})
	feed(w, []byte("a\nb\n\n"))
	if w.Fingerprint().Rows != 3 {
		t.Error(w.Fingerprint())
	}
	feed(w, []byte("\\.\nanna@example.com\n"))
	if w.Fingerprint().Rows != 4 || len(w.sc.Findings()) != 1 {
		t.Error("what stands behind the end of the data was not searched")
	}
}

func TestFieldsBeyondTheColumnsAreSearchedAllTheSame(t *testing.T) {
	got := scanned(NewScanner([]*Sampler{sampled("Anna Müller")}), text("v"), "x\tAnna Müller")
	if len(got) != 1 || got[0].Where != "staging.column 2" {
		t.Error(got)
	}
}

func TestStreamsMayRunSideBySide(t *testing.T) {
	s := NewSampler("public.customers", customerColumns)
	data := customers(300, "example.com")
	feed(s, data)
	sc := NewScanner([]*Sampler{s})
	feed(sc.Table("a", customerColumns), data)
	want := sc.Findings()
	sc = NewScanner([]*Sampler{s})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { feed(sc.Table("a", customerColumns), data); sc.Findings() })
	}
	wg.Wait()
	got := sc.Findings()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatal(got)
	}
	for i := range got {
		if got[i].Count != 8*want[i].Count || got[i].Values != want[i].Values {
			t.Errorf("%v, alone %v", got[i], want[i])
		}
	}
}
