package canary

import (
	"reflect"
	"testing"
)

// FuzzSampler looks for bytes that make a Sampler panic, hold too much, or depend on where they were cut.
func FuzzSampler(f *testing.F) {
	f.Add(customers(3, "example.com"), uint16(7))
	f.Add([]byte("1\t\\N\tAnna\\nMüller\t{\"a\":[1,\"\\\\u00fc\"]}\n\\.\n"), uint16(1))
	columns := append([]Column{}, customerColumns[:6]...)
	columns[2].Base = "jsonb"
	columns[3].Base, columns[3].Category = "_text", 'A'
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		var results []any
		for _, n := range []int{len(data), 1 + int(cut)} {
			s := NewSampler("t", columns)
			write(s, data, func() int { return n })
			var all [][]string
			for _, p := range s.pools {
				if p != nil {
					if len(p.canaries) > maxCanaries {
						t.Fatal("too many")
					}
					for _, c := range p.canaries {
						if len(c) < minBytes || len(c) > maxToken || len(tokens(c)) == 0 {
							t.Fatalf("%q is no canary", c)
						}
					}
					all = append(all, p.canaries)
				}
			}
			results = append(results, []any{all, s.Fingerprint()})
		}
		if !reflect.DeepEqual(results[0], results[1]) {
			t.Fatal("the cut made a difference")
		}
	})
}

// FuzzScanner searches any bytes for what any other bytes brought forth, and every canary where it came from.
func FuzzScanner(f *testing.F) {
	f.Add([]byte("Anna Müller\n'\\\\"), []byte("x\tanna müller\t'müller':2 'anna':1\t4111 1111 1111 1111\tDE89 3704 0044 0532 0130 00\ta@b.co\n"), uint16(3))
	f.Add([]byte("İstanbul ŻÓŁĆ\xff\xe2"), []byte("\\u00"), uint16(1))
	f.Fuzz(func(t *testing.T, backup, staging []byte, cut uint16) {
		s := NewSampler("t", []Column{masked("v")})
		feed(s, append(backup, '\n'))
		sc := NewScanner([]*Sampler{s})
		columns := []Column{masked("a"), {Name: "b", Base: "jsonb"}, {Name: "c", Base: "tsvector"}, masked("d")}
		for _, n := range []int{len(staging), 1 + int(cut)} {
			write(sc.Table("x", columns), staging, func() int { return n })
			write(sc.Text("y"), staging, func() int { return n })
		}
		for _, f := range sc.Findings() {
			if f.Count%2 != 0 {
				t.Fatalf("the cut made a difference: %v", f)
			}
		}
		bySieve, _ := apart(t, NewScanner([]*Sampler{s}), func(there *Scanner) {
			for _, n := range []int{len(staging), 1 + int(cut)} {
				write(there.Table("x", columns), staging, func() int { return n })
				write(there.Text("y"), staging, func() int { return n })
			}
		})
		if !reflect.DeepEqual(bySieve, sc.Findings()) {
			t.Fatalf("by sieve %v, as a whole %v", bySieve, sc.Findings())
		}
		for _, value := range values(s) {
			sc := NewScanner([]*Sampler{s})
			if found := scanned(sc, text("v"), value); len(found) == 0 {
				t.Fatalf("%q is not found where it stands", value)
			}
		}
	})
}
