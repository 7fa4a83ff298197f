package mask_test

import (
	"fmt"
	"testing"
)

// BenchmarkCopy loads 200 000 rows plainly, then through triggers: one for each verb, then one for a table
// like a real one.
func BenchmarkCopy(b *testing.B) {
	const rows = 200_000
	b.Setenv("REHEARSAL_MASK_KEY", "benchmark")
	for _, bench := range []struct{ name, rules string }{
		{"plain", "keep: [id, email, name, phone, bio, token, secret, doc]"},
		{"clear", "keep: [id, email, name, phone, bio, token, doc], clear: [secret]"},
		{"email", "keep: [id, name, phone, bio, token, secret, doc], email: [email]"},
		{"name", "keep: [id, email, phone, bio, token, secret, doc], name: [name]"},
		{"phone", "keep: [id, email, name, bio, token, secret, doc], phone: [phone]"},
		{"text", "keep: [id, email, name, phone, token, secret, doc], text: [bio]"},
		{"token", "keep: [id, email, name, phone, bio, secret, doc], token: [token]"},
		{"sql", `keep: [id, email, name, phone, bio, token, doc], sql: {secret: "'x' || id"}`},
		{"json", "keep: [id, email, name, phone, bio, token, secret], json: {doc: {keep: [currency, \"lines.*.sku\"], email: [customer.email]}}"},
		{"six columns", "keep: [id, doc], email: [email], name: [name], phone: [phone], text: [bio], token: [token], clear: [secret]"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			d := newDatabase(b, `CREATE TABLE t (id int, email text, name text, phone text, bio text, token text, secret text, doc jsonb)`)
			d.install(d.plan("public.t: {" + bench.rules + "}"))
			settings := key(b, "benchmark").Settings()
			file := "/tmp/" + d.name + ".copy"
			d.sql(fmt.Sprintf(`COPY (SELECT i, 'user' || i || '@example.com', 'Person Number ' || i, '+49151' || i, repeat('some text ', 10) || i, md5(i::text), 'secret' || i,
				'{"currency": "EUR", "lines": [{"sku": "A", "price": 1}, {"sku": "B", "price": 2}], "customer": {"email": "a@b", "age": 7}}'
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
