package mask_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"rehearsal/internal/copytext"
	"rehearsal/internal/mask"
)

// maskedRows are rows as a Masker of the table makes them, which gets them in chunks of a size.
func maskedRows(t *testing.T, of mask.Table, key mask.Key, names []string, rows string, chunk int) (string, error) {
	t.Helper()
	_, columns := of.InFlight()
	var out bytes.Buffer
	m, err := of.Masker(key, columns, names, &out)
	if err != nil {
		t.Fatal(err)
	}
	for len(rows) > 0 {
		n := min(chunk, len(rows))
		if _, err := m.Write([]byte(rows[:n])); err != nil {
			return "", err
		}
		rows = rows[n:]
	}
	return out.String(), m.Close()
}

// loadInFlight loads rows that a Masker has masked, but for what is left to a trigger, and puts the trigger of all back.
func (d *database) loadInFlight(t *testing.T, of mask.Table, key mask.Key, names []string, rows string) {
	t.Helper()
	rest, columns := of.InFlight()
	if len(columns) == 0 {
		t.Fatalf("nothing of %s is masked in flight", of.Qualified())
	}
	out, err := maskedRows(t, of, key, names, rows, 1000)
	if err != nil {
		t.Fatal(err)
	}
	d.sql(of.DropTrigger())
	d.sql(rest.Trigger())
	d.load(key, of.Qualified()+" ("+strings.Join(names, ", ")+")", out)
	d.sql(rest.DropTrigger())
	d.sql(of.Trigger())
}

// odd are values of which a verb could make something else in Go than in SQL.
var odd = []string{
	"", " ", "  Ann Lee  ", "ann lee", "ANN  LEE", "Ann", " Ann", "Ann ", "Élodie Ångström", "İstanbul ŞAHİN", "ß ẞ", "日本 太郎",
	"a\tb", "a\nb c", `back\slash`, `\N`, `\.`, "Ann.Lee@Example.com", "\tann.lee@example.com\r\n", "+49 (30) 77-77/1", "0049.30.7777",
	"+0+0", "0", "++", "()-./ ", strings.Repeat("x", 63), strings.Repeat("ü", 64), strings.Repeat("ü", 65) + "a",
	strings.Repeat("lorem ", 400), "\x01\x7f", "😀 😀", `'quoted' "twice"`,
}

func TestAMaskerMakesOfEveryValueWhatTheTriggerDoes(t *testing.T) {
	all := []string{"text", "varchar(300)", "citext", "char(300)", "text COLLATE nocase"}
	for verb, types := range map[string][]string{
		"email": all, "name": all, "phone": all, "token": all,
		"text": append([]string{"varchar(5)", "varchar(16)", "varchar(40)", "char(20)", "short"}, all...),
	} {
		t.Run(verb, func(t *testing.T) {
			var names, columns, raw, casts []string
			for i, typ := range types {
				name := fmt.Sprintf("c%d", i)
				names, columns, raw = append(names, name), append(columns, name+" "+typ), append(raw, name+" text")
				casts = append(casts, name+"::"+strings.TrimSuffix(typ, " COLLATE nocase"))
			}
			list := strings.Join(names, ", ")
			d := newDatabase(t, fmt.Sprintf(`CREATE EXTENSION citext;
				CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
				CREATE DOMAIN short AS varchar(7);
				CREATE TABLE raw (n int, %s); CREATE TABLE fitting (n int, %s); CREATE TABLE a (LIKE fitting); CREATE TABLE b (LIKE fitting)`,
				strings.Join(raw, ", "), strings.Join(columns, ", ")))
			plan := d.plan(fmt.Sprintf("public.raw: {keep: [n, %[1]s]}\npublic.fitting: {keep: [n, %[1]s]}\n"+
				"public.a: {keep: [n], %[2]s: [%[1]s]}\npublic.b: {keep: [n], %[2]s: [%[1]s]}", list, verb))
			d.install(plan)
			var rows strings.Builder
			for i, value := range odd {
				fmt.Fprintf(&rows, "%d%s\n", i, strings.Repeat("\t"+string(copytext.Escape(nil, []byte(value))), len(types)))
			}
			fmt.Fprintf(&rows, "-1%s\n", strings.Repeat("\t\\N", len(types)))
			k := key(t, "one")
			d.load(k, "public.raw", rows.String())
			d.sql("INSERT INTO fitting SELECT n, " + strings.Join(casts, ", ") + " FROM raw") // cut to length
			dumped := d.sql("COPY fitting TO STDOUT") + "\n"
			d.load(k, "public.a", dumped)
			d.loadInFlight(t, table(t, plan, "public.b"), k, append([]string{"n"}, names...), dumped)
			a, b := "(a."+strings.Join(names, "::text, a.")+"::text)", "(b."+strings.Join(names, "::text, b.")+"::text)"
			if got := d.sql("SELECT count(*) FROM a JOIN b USING (n) WHERE " + a + " IS NOT DISTINCT FROM " + b); got != fmt.Sprint(len(odd)+1) {
				t.Errorf("%s of %d rows are alike:\n%s", got, len(odd)+1,
					d.sql("SELECT a.*, '/', b.* FROM a JOIN b USING (n) WHERE "+a+" IS DISTINCT FROM "+b))
			}
			if v := d.violated(table(t, plan, "public.b")); len(v) > 0 {
				t.Errorf("violations in %v", v)
			}
		})
	}
}

func TestAMaskerAndTheTriggerOfTheRestMaskATableOfEveryType(t *testing.T) {
	d := newDatabase(t, everyVerb)
	rules, _, _ := strings.Cut(everyVerbRules, "  sql:")
	plan := d.plan(strings.Replace(rules, "keep: [id, g_upper]", `keep: [id, g_upper, s_text, s_len, s_doc, "s odd $mask$ \"q\" 'x'"]`, 1))
	people := table(t, plan, "public.person")
	d.install(plan)
	k := key(t, "one")
	d.load(k, personColumns, person("1"))
	var names, quoted []string
	for _, c := range people.Columns {
		if !c.Generated {
			names, quoted = append(names, c.Name), append(quoted, `"`+strings.ReplaceAll(c.Name, `"`, `""`)+`"`)
		}
	}
	rest, columns := people.InFlight()
	if len(rest.Masked) != 1 || rest.Masked[0].Name != "k_bytea" || len(columns) < 50 {
		t.Errorf("left to the trigger: %d columns, in flight %d", len(rest.Masked), len(columns))
	}
	out, err := maskedRows(t, people, k, names, person("2"), 7)
	if err != nil {
		t.Fatal(err)
	}
	d.sql(people.DropTrigger())
	d.sql(rest.Trigger())
	d.load(k, "public.person", out)
	if got := d.sql("SELECT count(DISTINCT p::text) FROM (SELECT " + strings.Join(quoted[1:], ", ") + ", g_upper FROM person) AS p"); got != "1" {
		t.Errorf("not alike:\n%s", d.sql("SELECT p::text FROM person p"))
	}
	if v := d.violated(people); len(v) > 0 {
		t.Errorf("violations in %v", v)
	}
}

func TestAMaskerMakesOfEveryDocumentWhatTheTriggerDoes(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE raw (n int, doc jsonb); CREATE TABLE a (LIKE raw); CREATE TABLE b (LIKE raw)`)
	const rules = `{keep: [n], json: {doc: {keep: [k, both, both.k, 'many.*', 'mix.*.k', 'mix.n.both', 'deep.*.*.k', '"".k', '"a.b"', '"it''s"."*"', '"q\"\\"', '"a\nb".*.k', '"0".k'],
		email: [e, c.e, 'mix.*.e', 'deep.*.e'], name: [n, c.n, 'mix.*.n.n', 'both.n'], phone: [p, c.p, 'phones.*'], text: [note, 'notes.*', 'many.*.*', 'c.*.note'], token: [key, '"a\nb".*.key']}}}`
	plan := d.plan("public.raw: {keep: [n], json: {doc: {}}}\npublic.a: " + rules + "\npublic.b: " + rules)
	d.sql(`ALTER DATABASE "` + d.name + `" SET jit = off`) // compiling so much SQL would take longer than running it
	d.sql(table(t, plan, "public.a").Trigger() + table(t, plan, "public.b").Trigger())
	random := documents{rand.New(rand.NewPCG(3, 4))}
	var rows strings.Builder
	for n := range 4000 {
		doc, _, _ := strings.Cut(lines(t, []any{random.document(5)}), "\t")
		fmt.Fprintf(&rows, "%d\t%s\n", n, strings.TrimSuffix(doc, "\n"))
	}
	k := key(t, "one")
	d.load(k, "public.raw", rows.String())
	dumped := d.sql("COPY raw TO STDOUT") + "\n"
	d.load(k, "public.a", dumped)
	d.loadInFlight(t, table(t, plan, "public.b"), k, []string{"n", "doc"}, dumped)
	if got := d.sql("SELECT a.n, raw.doc, a.doc, b.doc FROM a JOIN b USING (n) JOIN raw USING (n) WHERE a.doc IS DISTINCT FROM b.doc LIMIT 3"); got != "" {
		t.Errorf("not alike:\n%s", got)
	}
	if got := d.sql("SELECT count(*), count(DISTINCT doc) > 500 FROM b"); got != "4000|t" {
		t.Error(got)
	}
	if v := d.violated(table(t, plan, "public.b")); len(v) > 0 {
		t.Errorf("violations in %v", v)
	}
}

func TestAProverAgreesWithTheServerOnEveryDocument(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (n serial, doc jsonb)`)
	plan := d.plan(`public.t: {keep: [n], json: {doc: {keep: [k, both, both.k, 'many.*', 'mix.*.k', 'deep.*.*.k'], email: [e, c.e, 'mix.*.e'], name: [n, c.n], text: [note, 'many.*.*'], token: [key]}}}`)
	d.sql(`ALTER DATABASE "` + d.name + `" SET jit = off`)
	one := table(t, plan, "public.t")
	random := documents{rand.New(rand.NewPCG(5, 6))}
	var raw strings.Builder
	for range 2000 {
		doc, _, _ := strings.Cut(lines(t, []any{random.document(4)}), "\t")
		raw.WriteString(strings.TrimSuffix(doc, "\n") + "\n")
	}
	k := key(t, "one")
	d.load(k, "public.t (doc)", raw.String())
	d.sql(one.Trigger())
	d.load(k, "public.t (doc)", raw.String())
	said := strings.Split(d.sql("SELECT coalesce(("+one.Masked[0].ProofOfOne()+"), true) FROM t ORDER BY n"), "\n")
	docs := strings.Split(d.sql("COPY (SELECT doc FROM t ORDER BY n) TO STDOUT"), "\n")
	clean := 0
	for i, doc := range docs {
		p := one.Prover([]string{"doc"})
		fmt.Fprintf(p, "%s\n", doc)
		n, ok := p.Violations("doc")
		if !ok || (n == 0) != (said[i] == "t") {
			t.Errorf("%d violations where the server says %s: %s", n, said[i], doc)
		}
		if n == 0 {
			clean++
		}
	}
	if len(docs) != 4000 || clean <= 2000 || clean == len(docs) {
		t.Errorf("%d of %d documents are clean, which shows nothing", clean, len(docs))
	}
}

func TestHowRowsAreCutMakesNoDifferenceToAMasker(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (id int, email text, note text, doc jsonb)`)
	one := table(t, d.plan("public.t: {keep: [id, note], email: [email], json: {doc: {keep: [a]}}}"), "public.t")
	names := []string{"id", "email", "note", "doc"}
	rows := "1\tann@example.com\tx\\ty\t{\"a\": 1, \"b\": 2}\n2\t\\N\t" + strings.Repeat("long ", copytext.MaxPiece/4) + "\t\\N\n" +
		"3\t" + strings.Repeat("y", 2*copytext.MaxPiece) + "@example.com\t\t{}\n\\.\n\n\n"
	k := key(t, "one")
	want, err := maskedRows(t, one, k, names, rows, len(rows))
	if err != nil || strings.Contains(want, "example") || strings.Contains(want, `"b"`) || !strings.HasSuffix(want, "\n\\.\n\n\n") ||
		strings.Count(want, "long ") != copytext.MaxPiece/4 {
		t.Fatalf("%v, %.200q", err, want)
	}
	for _, chunk := range []int{1, 3, 1000, copytext.MaxPiece - 1, copytext.MaxPiece + 1} {
		if got, err := maskedRows(t, one, k, names, rows, chunk); err != nil || got != want {
			t.Errorf("chunks of %d: %v, %.200q", chunk, err, got)
		}
	}
}

func TestARowWithoutItsFieldsIsRefusedAndNotShown(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (id int, email text)`)
	one := table(t, d.plan("public.t: {keep: [id], email: [email]}"), "public.t")
	for _, rows := range []string{"1\n", "1\tann@example.com\tx\n", "1\tann@example.com\n\n", "ann@example.com\n1\t2\n"} {
		if got, err := maskedRows(t, one, key(t, "one"), []string{"id", "email"}, rows, 5); err == nil || strings.Contains(err.Error(), "ann") {
			t.Errorf("%q: %v, %q", rows, err, got)
		}
	}
	_, columns := one.InFlight()
	if _, err := one.Masker(key(t, "one"), columns, []string{"id"}, nil); err == nil {
		t.Error("rows without the masked column were taken")
	}
}

func TestADocumentThatIsNoneIsRefusedByTheServer(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (doc jsonb)`)
	one := table(t, d.plan("public.t: {json: {doc: {keep: [a, 'b.*']}}}"), "public.t")
	for _, doc := range []string{"", "{", `{"a"`, `{"a":`, `{"a":1`, `{"a" 1}`, `{"b":[1,`, `{"b":[1}`, `[`, `"x`, `{"a":1}}`, `{"a":1} 2`,
		`{"c":{`, `{"c":]}`, `{,}`} {
		out, err := maskedRows(t, one, key(t, "one"), []string{"doc"}, doc+"\n", 100)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.copyIn(nil, "public.t", out); err == nil {
			t.Errorf("%s became %s, which was taken", doc, out)
		}
	}
}

func TestAnExpressionSeesTheOriginalsSoTheTriggerDoesAll(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (email text, domain text)`)
	one := table(t, d.plan(`public.t: {email: [email], sql: {domain: "split_part(email, '@', 2)"}}`), "public.t")
	if rest, columns := one.InFlight(); len(columns) != 0 || len(rest.Masked) != 2 {
		t.Errorf("in flight: %d columns", len(columns))
	}
}
