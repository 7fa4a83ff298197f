package mask_test

import (
	"strings"
	"testing"
)

const arraysSchema = `
CREATE EXTENSION citext;
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN address AS varchar(44) CHECK (value LIKE '%@%');
CREATE DOMAIN addresses AS text[];
CREATE TABLE t (
	id int, e text[], e_varchar varchar(44)[], e_char char(50)[], e_citext citext[], e_domain address[], e_domains addresses,
	e_nocase text[] COLLATE nocase, n text[], n_name name[], p varchar(13)[], w text[], w_short varchar(6)[], k text[], k_uuid uuid[],
	k_bytea bytea[], c text[] NOT NULL, c_null int[], one text, tok text, bin bytea, u uuid
);`

const arraysRules = `public.t: {keep: [id], email: [e, e_varchar, e_char, e_citext, e_domain, e_domains, e_nocase, one], name: [n, n_name], phone: [p],
  text: [w, w_short], token: [k, k_uuid, k_bytea, tok, bin, u], clear: [c, c_null]}`

// arrays is a row of the table above with the same elements of each kind.
func arrays(id, addresses, names, phones, texts, uuids, bytes string) string {
	return strings.Join([]string{id, addresses, addresses, addresses, addresses, addresses, addresses, addresses, names, names, phones, texts,
		texts, names, uuids, bytes, names, `\N`, "raw@example.com", "RAW", "RAW", "77777777-7777-4777-8777-777777777777"}, "\t") + "\n"
}

func TestArraysAreMaskedElementByElement(t *testing.T) {
	d := newDatabase(t, arraysSchema)
	plan := d.plan(arraysRules)
	d.install(plan)
	k := key(t, "one")
	d.load(k, "public.t", arrays("1", `{raw@example.com,NULL,RAW@example.com}`, `{RAW,NULL,"RAW \\\\ \\"R\\", {77}"}`, `{+49 7777777,NULL}`, `{RAW,NULL,RAW}`,
		`{77777777-7777-4777-8777-777777777777,NULL}`, `{RAW,NULL,"\\\\\\\\x77"}`))
	d.load(k, "public.t", arrays("2", `{}`, `{}`, `{}`, `{}`, `{}`, `{}`))
	d.sql("ALTER DATABASE " + d.name + " SET bytea_output = 'escape'")
	d.load(k, "public.t", arrays("3", `[0:1][2:3]={{raw@example.com,b@c},{NULL,d@e}}`, `{{{RAW},{NULL}},{{""},{RAW RAW}}}`, `{{1},{2}}`, `[-1:0]={RAW,RAW}`,
		`{{77777777-7777-4777-8777-777777777777}}`, `{{RAW,RAW}}`))
	d.load(k, "public.t", strings.ReplaceAll(arrays("4", `\N`, `\N`, `\N`, `\N`, `\N`, `\N`), "\\N\t\\N\traw", "{}\t\\N\traw"))

	for query, want := range map[string]string{
		`SELECT e[1] = one, e[2] IS NULL, e[3] = e[1], e_varchar::text[] = e, e_char::text[] = e, e_citext::text[] = e, e_domain::text[] = e, e_domains = e,
			(e_nocase COLLATE "C") = e, array_length(e, 1) FROM t WHERE id = 1`: "t|t|t|t|t|t|t|t|t|3",
		`SELECT n[1] <> 'RAW', n[2] IS NULL, n[3] ~ '^[A-Z][a-z]+ [A-Z][a-z]+$', n_name::text[] = n, p[1] ~ '^[+]447700900...$', p[2] IS NULL,
			w[1] = w[3], w[2] IS NULL, length(w_short[1]) <= 6 FROM t WHERE id = 1`: "t|t|t|t|t|t|t|t|t",
		`SELECT k[1] = tok, k[2] IS NULL, k_uuid[1] = u, k_uuid[2] IS NULL, k_bytea[1] = bin, k_bytea[2] IS NULL, c, c_null FROM t WHERE id = 1`: "t|t|t|t|t|t|{}|",
		`SELECT e, e_varchar, e_char, e_citext, n, p, w, k, k_uuid, k_bytea FROM t WHERE id = 2`:                                                 "{}|{}|{}|{}|{}|{}|{}|{}|{}|{}",
		`SELECT array_dims(e), e[0][2] = one, e[1][2] IS NULL, array_dims(n), n[2][1][1] = '', n[1][2][1] IS NULL, n[2][2][1] LIKE '% %',
			array_dims(w), array_dims(k_uuid), array_dims(k_bytea), k_bytea[1][2] = bin FROM t WHERE id = 3`: "[0:1][2:3]|t|t|[1:2][1:2][1:1]|t|t|t|[-1:0]|[1:1][1:1]|[1:1][1:2]|t",
		`SELECT num_nulls(e, e_varchar, e_char, e_citext, e_domain, e_domains, e_nocase, n, n_name, p, w, w_short, k, k_uuid, k_bytea, c_null) FROM t WHERE id = 4`: "16",
		`SELECT count(*) FROM t WHERE t::text ~* 'raw|77777'`: "0",
	} {
		if got := d.sql(query); got != want {
			t.Errorf("%s\n\tis %s, want %s", query, got, want)
		}
	}
	if v := d.violated(table(t, plan, "public.t")); len(v) > 0 {
		t.Errorf("the proof finds violations in %v", v)
	}
}

func TestTheProofFindsOneRawElementAmongMaskedOnes(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (e text[], k uuid[], b bytea[])`)
	plan := d.plan(`public.t: {email: [e], token: [k, b]}`)
	for row, want := range map[string]string{
		`'{u0123456789abcdef01234567@masked.invalid,NULL,""}', '{NULL}', '{NULL,masked-0123456789abcdef01234567}'`:       "",
		`'{{u0123456789abcdef01234567@masked.invalid},{a@b}}', '{}', NULL`:                                               "e",
		`'{}', '{01234567-89ab-8def-8123-456789abcdef,77777777-7777-4777-8777-777777777777}', '{masked-0123456789,RAW}'`: "k b",
	} {
		d.sql("TRUNCATE t; INSERT INTO t VALUES (" + row + ")")
		if got := strings.Join(d.violated(table(t, plan, "public.t")), " "); got != want {
			t.Errorf("%s: violated %q, want %q", row, got, want)
		}
	}
}
