package mask_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// BenchmarkCopy loads 200 000 rows plainly, then through triggers: one for each verb, then one for a table
// like a real one.
func BenchmarkCopy(b *testing.B) {
	const rows = 200_000
	b.Setenv("REHEARSAL_MASK_KEY", "benchmark")
	for _, bench := range []struct{ name, rules string }{
		{"plain", "keep: [id, email, name, phone, bio, token, secret, doc, born, tags]"},
		{"clear", "keep: [id, email, name, phone, bio, token, doc, born, tags], clear: [secret]"},
		{"email", "keep: [id, name, phone, bio, token, secret, doc, born, tags], email: [email]"},
		{"name", "keep: [id, email, phone, bio, token, secret, doc, born, tags], name: [name]"},
		{"phone", "keep: [id, email, name, bio, token, secret, doc, born, tags], phone: [phone]"},
		{"text", "keep: [id, email, name, phone, token, secret, doc, born, tags], text: [bio]"},
		{"token", "keep: [id, email, name, phone, bio, secret, doc, born, tags], token: [token]"},
		{"date", "keep: [id, email, name, phone, bio, token, secret, doc, tags], date: [born]"},
		{"array", "keep: [id, email, name, phone, bio, token, secret, doc, born], token: [tags]"},
		{"sql", `keep: [id, email, name, phone, bio, token, doc, born, tags], sql: {secret: "'x' || id"}`},
		{"json", "keep: [id, email, name, phone, bio, token, secret, born, tags], json: {doc: {keep: [currency, \"lines.*.sku\"], email: [customer.email]}}"},
		{"six columns", "keep: [id, doc, born, tags], email: [email], name: [name], phone: [phone], text: [bio], token: [token], clear: [secret]"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			d := newDatabase(b, `CREATE TABLE t (id int, email text, name text, phone text, bio text, token text, secret text, doc jsonb, born timestamptz, tags text[])`)
			d.install(d.plan("public.t: {" + bench.rules + "}"))
			settings := key(b, "benchmark").Settings()
			file := "/tmp/" + d.name + ".copy"
			d.sql(fmt.Sprintf(`COPY (SELECT i, 'user' || i || '@example.com', 'Person Number ' || i, '+49151' || i, repeat('some text ', 10) || i, md5(i::text), 'secret' || i,
				'{"currency": "EUR", "lines": [{"sku": "A", "price": 1}, {"sku": "B", "price": 2}], "customer": {"email": "a@b", "age": 7}}',
				to_timestamp(i * 9999.0), ARRAY['one' || i, 'two' || i, 'three' || i]
				FROM generate_series(1, %d) i) TO '%s'`, rows, file))
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				d.sql("TRUNCATE t")
				b.StartTimer()
				if err := d.psql(settings, "COPY public.t FROM '"+file+"'", ""); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
			b.StopTimer()
			d.sql("COPY (SELECT 1) TO PROGRAM 'rm " + file + "'")
		})
	}
}

// BenchmarkMasker masks rows like those of BenchmarkCopy as they stream by.
func BenchmarkMasker(b *testing.B) {
	const rows = 20_000
	var text strings.Builder
	for i := range rows {
		fmt.Fprintf(&text, "%d\tuser%[1]d@example.com\tPerson Number %[1]d\t+49151%[1]d\t%s%[1]d\t%x\tsecret%[1]d\t%s\n", i, strings.Repeat("some text ", 10), i*i,
			`{"lines": [{"sku": "A", "price": 1}, {"sku": "B", "price": 2}], "currency": "EUR", "customer": {"age": 7, "email": "a@b"}}`)
	}
	names := []string{"id", "email", "name", "phone", "bio", "token", "secret", "doc"}
	for _, bench := range []struct{ name, rules string }{
		{"email", "keep: [id, name, phone, bio, token, secret, doc], email: [email]"},
		{"name", "keep: [id, email, phone, bio, token, secret, doc], name: [name]"},
		{"text", "keep: [id, email, name, phone, token, secret, doc], text: [bio]"},
		{"json", "keep: [id, email, name, phone, bio, token, secret], json: {doc: {keep: [currency, \"lines.*.sku\"], email: [customer.email]}}"},
		{"six columns", "keep: [id, doc], email: [email], name: [name], phone: [phone], text: [bio], token: [token], clear: [secret]"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			d := newDatabase(b, `CREATE TABLE t (id int, email text, name text, phone text, bio text, token text, secret text, doc jsonb)`)
			one := table(b, d.plan("public.t: {"+bench.rules+"}"), "public.t")
			_, columns := one.InFlight()
			m, err := one.Masker(key(b, "benchmark"), columns, names, io.Discard)
			if err != nil {
				b.Fatal(err)
			}
			chunk := []byte(text.String())
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				if _, err := m.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}
