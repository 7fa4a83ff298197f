package mask_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestJSONKeepsOnlyListedPaths(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (n int, doc jsonb, old json)`)
	const rules = `{keep: [currency, "lines.*.sku", "deep.*.*.x", "both", "both.a", "else.boss.id"], email: ["customer.email", "else.*.email"], name: ["customer.name"], phone: [tel], text: [note], token: [key]}`
	plan := d.plan("public.t: {keep: [n], json: {doc: " + rules + ", old: " + rules + "}}")
	d.install(plan)
	k := key(t, "one")
	masked := k.Email("raw@example.com")
	for doc, want := range map[string]string{
		`{}`:                              `{}`,
		`{"currency":"EUR","secret":"x"}`: `{"currency": "EUR"}`,
		`{"currency":null,"note":null,"customer":{"email":null}}`: `{"note": null, "currency": null, "customer": {"email": null}}`,
		`{"currency":{"secret":1}}`:                               `{}`,
		`{"currency":["secret"]}`:                                 `{}`,
		`{"lines":[]}`:                                            `{"lines": []}`,
		`{"lines":[{"sku":1,"price":2},{"price":3},"secret",[["secret"]],null]}`:                    `{"lines": [{"sku": 1}, {}, []]}`,
		`{"lines":{"a":{"sku":1,"x":2},"b":7}}`:                                                     `{"lines": {"a": {"sku": 1}}}`,
		`{"lines":"secret"}`:                                                                        `{}`,
		`{"customer":{"email":"raw@example.com","age":9},"else":{"a":{"email":"raw@example.com"}}}`: `{"else": {"a": {"email": "` + masked + `"}}, "customer": {"email": "` + masked + `"}}`,
		`{"else":{"boss":{"id":1,"email":"raw@example.com","x":2},"a":{"id":1}}}`:                   `{"else": {"a": {}, "boss": {"id": 1, "email": "` + masked + `"}}}`,
		`{"else":{"email":{"raw":1},"x":1}}`:                                                        `{"else": {"email": {}}}`,
		`{"both":1}`:                                                                                `{"both": 1}`,
		`{"both":{"a":1,"b":2}}`:                                                                    `{"both": {"a": 1}}`,
		`{"deep":[[{"x":1,"y":2}],{"k":{"x":3}}]}`:                                                  `{"deep": [[{"x": 1}], {"k": {"x": 3}}]}`,
		`{"note":""}`:                            `{"note": ""}`,
		`["secret"]`:                             `[]`,
		`{"else":[{"email":"raw@example.com"}]}`: `{"else": [{"email": "` + masked + `"}]}`,
		`"secret"`:                               `null`,
		`17`:                                     `null`,
	} {
		d.sql("TRUNCATE t")
		line := strings.ReplaceAll(doc, `\`, `\\`)
		d.load(k, "public.t", "1\t"+line+"\t"+line+"\n")
		if got := d.sql("SELECT doc FROM t"); got != want {
			t.Errorf("%s became %s, want %s", doc, got, want)
		}
		if got := d.sql("SELECT old::jsonb FROM t"); got != want {
			t.Errorf("json %s became %s, want %s", doc, got, want)
		}
		if v := d.violated(table(t, plan, "public.t")); len(v) > 0 {
			t.Errorf("the proof finds a violation in %s, which came of %s", want, doc)
		}
	}
	d.sql("TRUNCATE t")
	d.load(k, "public.t", `1	{"customer":{"name":"Raw Person"},"tel":4915177,"note":"raw words","key":true}	{}`+"\n")
	if got := d.sql(`SELECT doc #>> '{customer,name}' LIKE '% %', doc->>'tel' LIKE '+447700900%', doc->>'note' <> 'raw words', doc->>'key' LIKE 'masked-%' FROM t`); got != "t|t|t|t" {
		t.Error(d.sql("SELECT doc FROM t"))
	}
	if v := d.violated(table(t, plan, "public.t")); len(v) > 0 {
		t.Errorf("violations in %v: %s", v, d.sql("SELECT doc FROM t"))
	}
}

func TestTheProofFindsWhatJSONMustNotHold(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (doc jsonb)`)
	plan := d.plan(`public.t: {json: {doc: {keep: [currency, "lines.*.sku"], email: ["customer.email"]}}}`)
	for doc, violation := range map[string]bool{
		`{"currency":"EUR","lines":[{"sku":1},{}],"customer":{"email":"u0123456789abcdef01234567@masked.invalid"}}`: false,
		`null`:                                     false,
		`{"currency":"EUR","other":1}`:             true,
		`{"currency":{"a":1}}`:                     true,
		`{"currency":[]}`:                          true,
		`{"lines":[{"sku":1},{"price":2}]}`:        true,
		`{"lines":["secret"]}`:                     true,
		`{"lines":{"a":{"sku":1,"b":2}}}`:          true,
		`{"customer":{"email":"raw@example.com"}}`: true,
		`{"customer":{"email":7}}`:                 true,
		`{"customer":"raw@example.com"}`:           true,
		`{"customer":["raw@example.com"]}`:         true,
		`[1]`:                                      true,
		`"x"`:                                      true,
	} {
		d.sql("TRUNCATE t; INSERT INTO t VALUES ('" + doc + "')")
		if got := len(d.violated(table(t, plan, "public.t"))) > 0; got != violation {
			t.Errorf("%s: violation %t, want %t", doc, got, violation)
		}
	}
}

func TestTwoProofsOfOneDocumentAgree(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE raw (doc jsonb, old json); CREATE TABLE changed (LIKE raw); CREATE TABLE t (LIKE raw)`)
	const rules = `{keep: [k, both, both.k, 'many.*', 'mix.*.k', 'mix.n.both', 'deep.*.*.k', '"".k', '"a.b"', '"it''s"."*"', '"q\"\\"', '"a\nb".*.k', '"0".k'],
		email: [e, c.e, 'mix.*.e', 'deep.*.e'], name: [n, c.n, 'mix.*.n.n', 'both.n'], phone: [p, c.p, 'phones.*'], text: [note, 'notes.*', 'many.*.*', 'c.*.note'], token: [key, '"a\nb".*.key']}`
	plan := d.plan("public.raw: {json: {doc: {}, old: {}}}\npublic.changed: {json: {doc: {}, old: {}}}\npublic.t: {json: {doc: " + rules + ", old: " + rules + "}}")
	masked := table(t, plan, "public.t")
	// Compiling so much SQL would take longer than running it.
	d.sql("ALTER DATABASE \"" + d.name + "\" SET jit = off")
	d.sql(masked.Trigger())
	random := documents{rand.New(rand.NewPCG(1, 2))}
	const rows = 3000
	var raw []any
	for range rows {
		raw = append(raw, random.document(5))
	}
	d.load(key(t, "one"), "public.raw", lines(t, raw))
	d.load(key(t, "one"), "public.t", lines(t, raw))
	var changed []any
	for _, line := range strings.Split(d.sql("SELECT coalesce(doc::text, '') FROM t"), "\n") {
		var doc any
		if err := json.Unmarshal([]byte(line), &doc); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		changed = append(changed, random.change(doc))
	}
	d.load(key(t, "one"), "public.changed", lines(t, changed))
	for _, name := range []string{"raw", "changed", "t"} {
		for _, c := range masked.Masked {
			clean, queries := c.ProofOfOne(), c.ProofByQueries()
			if got := d.sql(fmt.Sprintf("SELECT doc FROM %s WHERE (%s) IS DISTINCT FROM (%s) LIMIT 3", name, clean, queries)); got != "" {
				t.Errorf("%s.%s: the proofs do not agree on\n%s", name, c.Name, got)
			}
			want := map[string]string{"raw": "t|t", "changed": "t|t", "t": "t|f"}[name]
			if got := d.sql(fmt.Sprintf("SELECT bool_or(c), bool_or(NOT c) FROM (SELECT (%s) AS c FROM %s) AS p", clean, name)); got != want {
				t.Errorf("%s.%s: some clean, some not: %s, want %s", name, c.Name, got, want)
			}
		}
	}
}

func TestTheProofOfDocumentsRunsInParallel(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (doc jsonb)`)
	plan := d.plan(`public.t: {json: {doc: {keep: [currency, "lines.*.sku", "a.*.*.b"], email: ["customer.email", "mails.*"], name: [customer.name], text: [note]}}}`)
	d.sql("INSERT INTO t SELECT '{}' FROM generate_series(1, 1000)")
	explained := d.sql("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; EXPLAIN " + table(t, plan, "public.t").Proof())
	if !strings.Contains(explained, "Parallel Seq Scan") {
		t.Error(explained)
	}
}

// documents makes documents out of few names and values, so that many lie on a path, or beside one.
type documents struct{ *rand.Rand }

func (r documents) name() string {
	names := []string{"k", "both", "many", "mix", "deep", "c", "e", "n", "p", "key", "note", "notes", "phones", "", "a.b", "it's", "*", `q"\`, "a\nb", "0", "x"}
	return names[r.IntN(len(names))]
}

func (r documents) scalar() any {
	values := []any{nil, true, false, 7, 1.5, "", "raw@example.com", "Raw Person", "+49 151 1", "raw words", "u0123456789abcdef01234567@masked.invalid",
		"u0123456789abcdef01234567@masked.invalid\n", "raw\nu0123456789abcdef01234567@masked.invalid", "+447700900123", "+4477009001234", "masked-0123456789abcdef01234567", "Masked-0"}
	return values[r.IntN(len(values))]
}

func (r documents) document(depth int) any {
	kind := r.IntN(8)
	switch {
	case depth == 0 || depth < 5 && kind < 3 || depth == 5 && r.IntN(20) == 0:
		return r.scalar()
	case kind == 3:
		array := make([]any, r.IntN(4))
		for i := range array {
			array[i] = r.document(depth - 1)
		}
		return array
	}
	object := map[string]any{}
	for range r.IntN(6) {
		object[r.name()] = r.document(depth - 1)
	}
	return object
}

// change puts something else in one place of a document.
func (r documents) change(doc any) any {
	if r.IntN(3) == 0 {
		return r.document(r.IntN(3))
	}
	switch doc := doc.(type) {
	case map[string]any:
		name := r.name()
		if members := slices.Sorted(maps.Keys(doc)); len(members) > 0 && r.IntN(4) > 0 {
			name = members[r.IntN(len(members))]
		}
		doc[name] = r.change(doc[name])
	case []any:
		if len(doc) > 0 {
			i := r.IntN(len(doc))
			doc[i] = r.change(doc[i])
		}
	}
	return doc
}

// lines are rows of COPY's text format with each document twice.
func lines(t *testing.T, documents []any) string {
	t.Helper()
	var b strings.Builder
	for _, doc := range documents {
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		line := strings.ReplaceAll(string(text), `\`, `\\`)
		b.WriteString(line + "\t" + line + "\n")
	}
	return b.String()
}
