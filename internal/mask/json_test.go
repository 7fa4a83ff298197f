package mask_test

import (
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
