package canary

import (
	"bytes"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"
)

// measured runs f over data until the benchmark is long enough, and reports MB for each second of processor time: on a
// machine that others use, too, that is what can be compared.
func measured(b *testing.B, data []byte, f func()) {
	b.SetBytes(int64(len(data)))
	before := processorTime()
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(b.N)*float64(len(data))/1e6/(processorTime()-before).Seconds(), "MB/cpu-s")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// customers are rows as the lab's shop has them, with other people for every salt.
func customers(n int, salt string) []byte {
	given := []string{"Anna", "José", "François", "Łukasz", "Siobhán", "Jean-Luc", "Michael", "Fatima"}
	family := []string{"Müller", "O'Brien", "van der Berg", "Lindström", "Kowalski", "Zimmermann", "D'Angelo", "Gonçalves"}
	var b bytes.Buffer
	for i := range n {
		name := fmt.Sprintf("%s %s%s%x", given[i%8], family[i/8%8], salt, i)
		fmt.Fprintf(&b, "%d\t%s%d@%s\t%s\t+49 151 %d\tHi, I'm %s.\\nCall me:\\tplease, or write; \"quoted\", too\t"+
			"(\"Main Street %d\",Berlin,DE)\t19%02d-04-1%d\t{newsletter,\"early bird\"}\ten\tf\ttok_%x%032x\t\\N\t198.51.100.%d\t"+
			"'%s':1 'call':5 'hi':2\t2026-07-%02d 10:20:30.%06d+02\t2026-07-30 10:20:30.5+02\n",
			i, given[i%8], i, salt, name, 2000000+i, name, i, i%100, i%10, i, i*7919, i%256, name, 1+i%30, i)
	}
	return b.Bytes()
}

var customerColumns = []Column{
	{Name: "id", Base: "int8", Category: 'N', Compare: true}, {Name: "email", Base: "text", Category: 'S', Masked: true},
	{Name: "full_name", Base: "text", Category: 'S', Masked: true}, {Name: "mobile", Base: "varchar", Category: 'S', Masked: true},
	{Name: "bio", Base: "text", Category: 'S', Masked: true}, {Name: "home", Base: "address", Category: 'C', Masked: true},
	{Name: "birth_date", Base: "date", Category: 'D', Masked: true}, {Name: "tags", Base: "_text", Category: 'A', Compare: true},
	{Name: "locale", Base: "bpchar", Category: 'S', Compare: true}, {Name: "is_vip", Base: "bool", Category: 'B', Compare: true},
	{Name: "api_token", Base: "text", Category: 'S', Masked: true}, {Name: "reset_token", Base: "text", Category: 'S', Masked: true},
	{Name: "last_sign_in_ip", Base: "inet", Category: 'I', Masked: true}, {Name: "search_doc", Base: "tsvector", Category: 'U', Masked: true},
	{Name: "created_at", Base: "timestamptz", Category: 'D', Compare: true}, {Name: "updated_at", Base: "timestamptz", Category: 'D', Compare: true},
}

func BenchmarkSample(b *testing.B) {
	data := customers(20_000, "example.com")
	measured(b, data, func() { feed(NewSampler("public.customers", customerColumns), data) })
}

// BenchmarkScan searches rows of other people for 12,000 canaries.
func BenchmarkScan(b *testing.B) {
	var samplers []*Sampler
	for i := range 10 {
		s := NewSampler(fmt.Sprintf("public.customers%d", i), customerColumns)
		feed(s, customers(2000, fmt.Sprintf("real%d.example.com", i)))
		samplers = append(samplers, s)
	}
	// Masked columns hold what masks make.
	masked := bytes.ReplaceAll(customers(20_000, "masked.invalid"), []byte("Zimmermann"), []byte("Cobbleden"))
	masked = bytes.ReplaceAll(masked, []byte("+49 151 2"), []byte("+447700900"))
	sc := NewScanner(samplers)
	b.Logf("%d canaries, %d bytes a row", sc.Canaries(), len(masked)/20_000)
	measured(b, masked, func() { feed(sc.Table("public.customers", customerColumns), masked) })
}

// feed writes data as a pipe would, and closes.
func feed(w io.WriteCloser, data []byte) {
	for len(data) > 0 {
		n := min(len(data), 32<<10)
		w.Write(data[:n])
		data = data[n:]
	}
	w.Close()
}
