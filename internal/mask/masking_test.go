package mask_test

import (
	"fmt"
	"strings"
	"testing"
)

const everyVerb = `
CREATE EXTENSION citext;
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN address AS text CHECK (value LIKE '%@%');
CREATE DOMAIN required AS varchar(40) NOT NULL;
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TYPE home AS (street text, city text);
CREATE TABLE person (
	id int PRIMARY KEY,
	e_text text, e_varchar varchar(40), e_char char(60), e_citext citext, e_name name, e_domain address, e_required required, e_nocase text COLLATE nocase,
	n_text text, n_varchar varchar(20), n_char char(30), n_citext citext, n_name name, n_nocase text COLLATE nocase,
	p_text text, p_varchar varchar(13), p_char char(20), p_citext citext, p_name name,
	t_text text, t_varchar varchar(6), t_varchar40 varchar(40), t_char16 char(16), t_char17 char(17), t_citext citext, t_name name,
	k_text text, k_varchar varchar(31), k_char char(32), k_citext citext, k_name name, k_uuid uuid, k_bytea bytea,
	c_text text NOT NULL, c_int int NOT NULL, c_numeric numeric(8,2) NOT NULL, c_float float8 NOT NULL, c_bool bool NOT NULL,
	c_date date NOT NULL, c_ts timestamp NOT NULL, c_tstz timestamptz NOT NULL, c_time time NOT NULL, c_timetz timetz NOT NULL,
	c_interval interval NOT NULL, c_inet inet NOT NULL, c_cidr cidr NOT NULL, c_mac macaddr NOT NULL, c_uuid uuid NOT NULL,
	c_bytea bytea NOT NULL, c_json json NOT NULL, c_jsonb jsonb NOT NULL, c_array text[] NOT NULL, c_ints int[] NOT NULL,
	c_tsv tsvector NOT NULL, c_money money NOT NULL, c_mood mood, c_home home, c_null text, c_domain required,
	s_text text, s_len int, s_doc tsvector NOT NULL, "s odd $mask$ ""q"" 'x'" text,
	g_upper text GENERATED ALWAYS AS (upper(e_text)) STORED
);
`

const everyVerbRules = `
public.person:
  keep: [id, g_upper]
  email: [e_text, e_varchar, e_char, e_citext, e_name, e_domain, e_required, e_nocase]
  name: [n_text, n_varchar, n_char, n_citext, n_name, n_nocase]
  phone: [p_text, p_varchar, p_char, p_citext, p_name]
  text: [t_text, t_varchar, t_varchar40, t_char16, t_char17, t_citext, t_name]
  token: [k_text, k_varchar, k_char, k_citext, k_name, k_uuid, k_bytea]
  clear: [c_text, c_int, c_numeric, c_float, c_bool, c_date, c_ts, c_tstz, c_time, c_timetz, c_interval, c_inet, c_cidr, c_mac,
    c_uuid, c_bytea, c_json, c_jsonb, c_array, c_ints, c_tsv, c_money, c_mood, c_home, c_null, c_domain]
  sql:
    s_text: "upper(e_text) || original.n_text -- the originals"
    s_len: length(n_text)
    s_doc: "to_tsvector('simple', '')"
    "s odd $mask$ \"q\" 'x'": "'$mask$' || \"s odd $mask$ \"\"q\"\" 'x'\""
`

// person is a row of the table above. Every value that could leak holds RAW, or 77.
func person(id string) string {
	return strings.Join(append([]string{id,
		"Raw77@example.com", "raw77@example.com", "raw77@example.com", "RAW77@example.com", "raw77@example.com", "raw77@example.com", "raw77@example.com", "RAW77@example.com",
		"RAW Seventyseven", "RAW Sevenseven", "RAW Seventyseven", "RAW Seventyseven", "RAW Seventyseven", "RAW Seventyseven",
		"+49 77 7777777", "+497777777", "+49 77 7777777", "+49 77 7777777", "+49 77 7777777",
		"RAW text with `quotes' and ünïcode", "RAW 77", "RAW text of some length", "RAW text", "RAW text", "RAW text", "RAW text",
		"RAW token", "RAW token", "RAW token", "RAW token", "RAW token", "77777777-7777-4777-8777-777777777777", `\\x77ff00`},
		strings.Split("RAW;77;77.77;77.7;true;1977-07-07;1977-07-07 07:07;1977-07-07 07:07+00;07:07;07:07+07;77 days;77.77.77.77;"+
			"77.77.77.0/24;77:77:77:77:77:77;77777777-7777-4777-8777-777777777777;\\\\x77;{\"RAW\":77};{\"RAW\":77};{RAW};{77};RAW;77;happy;(RAW,);RAW;RAW;"+
			"RAW;77;RAW;RAW", ";")...), "\t") + "\n"
}

const personColumns = "public.person"

func TestEveryVerbMasksEveryTypeItTakesAndTheProofHolds(t *testing.T) {
	d := newDatabase(t, everyVerb)
	plan := d.plan(everyVerbRules)
	people := table(t, plan, "public.person")
	d.install(plan)
	d.sql("ALTER DATABASE " + d.name + " SET timezone = 'Asia/Tokyo'") // for the load; the proof runs in UTC
	d.load(key(t, "one"), personColumns, person("1")+person("2"))

	original := d.sql("SELECT s_text, s_len, s_doc, \"s odd $mask$ \"\"q\"\" 'x'\" FROM person WHERE id = 1")
	if want := "RAW77@EXAMPLE.COMRAW Seventyseven|16||$mask$RAW"; original != want {
		t.Errorf("expressions saw %q, want the original columns: %q", original, want)
	}
	d.sql(`UPDATE person SET s_text = '', s_len = 0, "s odd $mask$ ""q"" 'x'" = ''`)
	row := d.sql("SELECT p::text FROM person p WHERE id = 1")
	for _, raw := range []string{"RAW", "raw", "77,", "77.7", "Raw", "1977", "7777"} {
		if strings.Contains(row, raw) {
			t.Errorf("%q is still in the row: %s", raw, row)
		}
	}
	if v := d.violated(people); len(v) > 0 {
		t.Errorf("the proof finds violations in %v of a masked row: %s", v, row)
	}
	if got := d.sql("SELECT count(*) FROM person WHERE g_upper = upper(e_text)"); got != "2" {
		t.Error("a generated column was not computed from the masked one")
	}
	if got := d.sql("SELECT count(DISTINCT p) FROM (SELECT e_text, n_text, p_text, t_text, k_uuid FROM person) p"); got != "1" {
		t.Error("equal rows were masked differently")
	}
	t.Log(row)
}

func TestNullAndEmptyTextStayAsTheyAre(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (e text, n text, p text, t varchar(30), k text, u uuid, b bytea, c text, j jsonb)`)
	plan := d.plan(`public.t: {email: [e], name: [n], phone: [p], text: [t], token: [k, u, b], clear: [c], json: {j: {keep: [a]}}}`)
	d.install(plan)
	k := key(t, "one")
	d.load(k, "public.t", strings.Repeat(`\N	`, 8)+`\N`+"\n")
	if got := d.sql("SELECT * FROM t"); strings.Trim(got, "|") != "" {
		t.Errorf("NULLs became %q", got)
	}
	d.sql("TRUNCATE t")
	d.load(k, "public.t", "\t\t\t\t\t\\N\t\t\t{}\n")
	if got := d.sql("SELECT e = '', n = '', p = '', t = '', k = '', u IS NULL, b = '', c IS NULL, j = '{}' FROM t"); got != "t|t|t|t|t|t|t|t|t" {
		t.Errorf("empty values did not stay empty: %s", got)
	}
	if v := d.violated(table(t, plan, "public.t")); len(v) > 0 {
		t.Errorf("the proof finds violations in %v", v)
	}
}

func TestOneInputHasOneOutputInEveryTableAndTypeUnderOneKeyOnly(t *testing.T) {
	d := newDatabase(t, `CREATE EXTENSION citext;
		CREATE TABLE a (email text, phone text); CREATE TABLE b (email citext, phone char(30)); CREATE TABLE c (email text, note text, tok text)`)
	plan := d.plan(`
public.a: {email: [email], phone: [phone]}
public.b: {email: [email], phone: [phone]}
public.c: {email: [email], text: [note], token: [tok]}`)
	d.install(plan)
	one := key(t, "one")
	d.load(one, "public.a", "  Ann@Example.com \t+49 (151) 7-7\n")
	d.load(one, "public.b", "ann@EXAMPLE.com\t+49151 77\n")
	d.load(one, "public.c", "ann@example.com\tann@example.com\tann@example.com\n")
	d.load(key(t, "two"), "public.c", "ann@example.com\tann@example.com\tann@example.com\n")
	if got := d.sql("SELECT a.email = b.email, a.phone = b.phone FROM a, b"); got != "t|t" {
		t.Errorf("spellings of one value got different pseudonyms: %s", got)
	}
	if got := d.sql("SELECT count(*), count(DISTINCT c.email), count(DISTINCT note), count(DISTINCT tok), count(a) FROM c LEFT JOIN a USING (email)"); got != "2|2|2|2|1" {
		t.Errorf("two keys gave the same pseudonym: %s", got)
	}
	if got := d.sql("SELECT count(*) FROM c WHERE substr(email, 2, 24) = substr(tok, 8)"); got != "0" {
		t.Error("two verbs share their hashes: a token betrays an address")
	}
}

func TestTheKeyMasksAnAddressInGoExactlyAsInSQL(t *testing.T) {
	d := newDatabase(t, `CREATE EXTENSION citext; CREATE TABLE t (id int, e text, c citext, j jsonb)`)
	d.install(d.plan(`public.t: {keep: [id], email: [e, c], json: {j: {email: [e]}}}`))
	for _, secret := range []string{"short", strings.Repeat("a key longer than one block ", 4), "schlüssel"} {
		d.sql("TRUNCATE t")
		k := key(t, secret)
		for _, address := range []string{"dev@example.com", "  Dev.ELOPER@Example.COM ", "ÄÖÜ.É@exämple.com", "İ@x.y", "a'b\"c@d", "", " "} {
			document := strings.ReplaceAll(`{"e": "`+strings.ReplaceAll(address, `"`, `\"`)+`"}`, `\`, `\\`)
			d.load(k, "public.t", "1\t"+address+"\t"+address+"\t"+document+"\n")
			if got, want := d.sql("SELECT e, c, j->>'e' FROM t"), k.Email(address); got != want+"|"+want+"|"+want {
				t.Errorf("%q under %q: SQL makes %s, Go %s", address, secret, got, want)
			}
			d.sql("TRUNCATE t")
		}
	}
}

func TestUniqueVerbsStayUniqueAndNamesAreReadable(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (email text UNIQUE, token uuid UNIQUE, tok varchar(32) UNIQUE, name text, phone text)`)
	raw := d.sql(`COPY (SELECT 'user' || i || '@example.com', md5(i::text)::uuid, md5(i::text), CASE WHEN i % 2 = 0 THEN 'Anna Smith' ELSE 'Anna' END || i, '0151' || i FROM generate_series(1, 20000) i) TO STDOUT`) + "\n"
	d.install(d.plan(`public.t: {email: [email], token: [token, tok], name: [name], phone: [phone]}`))
	d.load(key(t, "one"), "public.t", raw)
	if got := d.sql("SELECT count(*), count(DISTINCT name) > 5000, count(DISTINCT phone) FROM t"); got != "20000|t|1000" {
		t.Errorf("rows, varied names, phones: %s", got)
	}
	if got := d.sql(`SELECT count(*) FROM t WHERE name !~ '^[A-Z][a-z]+( [A-Z][a-z]+)?$'`); got != "0" {
		t.Errorf("%s names are not readable", got)
	}
}

func TestWithoutItsSettingsATriggerLetsNoRowIn(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (e text); CREATE TABLE parent (id int, e text) PARTITION BY RANGE (id);
		CREATE TABLE leaf PARTITION OF parent FOR VALUES FROM (0) TO (100)`)
	d.install(d.plan("public.t: {email: [e]}\npublic.parent: {keep: [id], email: [e]}"))
	good := key(t, "one").Settings()
	for name, settings := range map[string]map[string]string{
		"none":       {},
		"one":        {"rehearsal.ipad": good["rehearsal.ipad"]},
		"empty":      {"rehearsal.ipad": "", "rehearsal.opad": ""},
		"short":      {"rehearsal.ipad": "3636", "rehearsal.opad": "5c5c"},
		"replica":    {"session_replication_role": "replica"},
		"other name": {"rehearsal_ipad.x": good["rehearsal.ipad"], "rehearsal.opad": good["rehearsal.opad"]},
	} {
		for table, row := range map[string]string{"public.t": "secret@example.com\n", "public.leaf": "1\tsecret@example.com\n", "public.parent": "1\tsecret@example.com\n"} {
			err := d.copyIn(settings, table, row)
			if err == nil || !strings.Contains(err.Error(), "this session has no masking key") {
				t.Errorf("settings %s, %s: %v", name, table, err)
			} else if strings.Contains(err.Error(), "secret@") && table != "public.parent" {
				t.Errorf("settings %s, %s: the error shows a row: %v", name, table, err)
			}
		}
	}
	if got := d.sql("SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM parent)"); got != "0" {
		t.Errorf("%s rows got in", got)
	}
}

func TestAReplicationRoleDoesNotSwitchMaskingOff(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (e text)`)
	d.install(d.plan("public.t: {email: [e]}"))
	settings := key(t, "one").Settings()
	settings["session_replication_role"] = "replica"
	if err := d.copyIn(settings, "public.t", "secret@example.com\n"); err != nil {
		t.Fatal(err)
	}
	if got := d.sql("SELECT e FROM t"); !strings.HasSuffix(got, ".invalid") {
		t.Errorf("a raw row got in: %s", got)
	}
}

func TestTheProofCountsEveryRawValueSmuggledPastTheTriggers(t *testing.T) {
	d := newDatabase(t, everyVerb)
	plan := d.plan(everyVerbRules)
	people := table(t, plan, "public.person")
	d.install(plan)
	d.load(key(t, "one"), personColumns, person("1"))
	d.sql(people.DropTrigger())
	d.load(key(t, "one"), personColumns, person("2"))
	rows, violations := d.prove(people)
	if rows != 2 {
		t.Errorf("counted %d rows of 2", rows)
	}
	for i, c := range people.Masked {
		switch n := violations[i]; {
		case c.Verb.Name == "sql" && n != nil:
			t.Errorf("%s: the verb sql proves nothing, yet %d were counted", c.Name, *n)
		case c.Verb.Name != "sql" && (n == nil || *n != 1):
			t.Errorf("%s (%s, %s): a raw value was not counted", c.Name, c.Verb.Name, c.Type)
		}
	}
	if got := d.sql("SELECT count(*) FROM pg_proc WHERE proname LIKE 'rehearsal%'"); got != "0" {
		t.Errorf("%s functions were left behind", got)
	}
}

func TestPartitionsAndInheritingTablesAreMaskedEachOnItsOwn(t *testing.T) {
	d := newDatabase(t, `
		CREATE TABLE visits (at date NOT NULL, email text, ip inet) PARTITION BY RANGE (at);
		CREATE TABLE visits_1 (ip inet, gone int, at date NOT NULL, email text);
		ALTER TABLE visits_1 DROP COLUMN gone;
		ALTER TABLE visits ATTACH PARTITION visits_1 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
		CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY RANGE (at);
		CREATE TABLE visits_2a PARTITION OF visits_2 FOR VALUES FROM ('2026-02-01') TO ('2026-02-15');
		CREATE TABLE base (id int, email text); CREATE TABLE child (note text) INHERITS (base);`)
	plan := d.plan("public.visits: {keep: [at], email: [email], clear: [ip]}\n" +
		"public.base: {keep: [id], email: [email]}\npublic.child: {keep: [id], email: [email], text: [note]}")
	d.install(plan)
	k := key(t, "one")
	d.load(k, "public.visits_1 (at, email, ip)", "2026-01-05\traw@example.com\t10.1.1.1\n")
	d.load(k, "public.visits", "2026-02-05\traw@example.com\t10.1.1.1\n")
	d.load(k, "public.base", "1\traw@example.com\n")
	d.load(k, "public.child", "1\traw@example.com\traw\n")
	if got := d.sql("SELECT count(*), count(DISTINCT email), count(ip), count(*) FILTER (WHERE email LIKE '%.invalid') FROM visits"); got != "2|1|0|2" {
		t.Errorf("visits, addresses, ips, masked: %s", got)
	}
	for name, want := range map[string]int64{"public.visits_1": 1, "public.visits_2a": 1, "public.base": 1, "public.child": 1} {
		one := table(t, plan, name)
		if rows, _ := d.prove(one); rows != want {
			t.Errorf("%s: the proof counted %d rows, want its own %d", name, rows, want)
		}
		if v := d.violated(one); len(v) > 0 {
			t.Errorf("%s: violations in %v", name, v)
		}
	}
	for _, name := range []string{"public.visits", "public.visits_2"} {
		if one := table(t, plan, name); one.Trigger() != "" || one.Proof() != "" || len(one.Masked) != 2 {
			t.Errorf("%s: a partitioned table holds no rows, so it needs no trigger and no proof", name)
		}
	}
}

func TestNamesThatSQLMustQuoteAreMasked(t *testing.T) {
	d := newDatabase(t, `CREATE SCHEMA "Billing Dept";
		CREATE TABLE "Billing Dept"."Invoice #" ("Größe" text, "a ""b"" $x$ 'c'" text, "new" text, "rehearsal_hash" text, "with
newline" text, "key" jsonb, "value" jsonb);`)
	plan := d.plan(`'"Billing Dept"."Invoice #"': {email: [Größe, "a \"b\" $x$ 'c'", new, "with\nnewline"], sql: {rehearsal_hash: rehearsal_hash || 'x'},
  json: {key: {keep: ["a\nb", "it's"], email: ["*.\"x.y\""]}, value: {keep: ["*.a"]}}}`)
	d.install(plan)
	d.load(key(t, "one"), `"Billing Dept"."Invoice #"`, "a@b\ta@b\ta@b\tq\ta@b\t{\"a\\\\nb\":1,\"it's\":2,\"o\":{\"x.y\":\"a@b\",\"z\":1}}\t[{\"a\":1,\"b\":2}]\n")
	if got := d.sql(`SELECT count(*) FROM "Billing Dept"."Invoice #" WHERE "Größe" LIKE '%.invalid' AND "Größe" = "a ""b"" $x$ 'c'" AND "new" = "Größe" AND rehearsal_hash = 'qx'
		AND key = jsonb_build_object(E'a\nb', 1, 'it''s', 2, 'o', jsonb_build_object('x.y', "new")) AND value = '[{"a": 1}]'`); got != "1" {
		t.Error(d.sql(`SELECT * FROM "Billing Dept"."Invoice #"`))
	}
	if v := d.violated(table(t, plan, `"Billing Dept"."Invoice #"`)); len(v) > 0 {
		t.Errorf("violations in %q", v)
	}
}

func TestAMistakeInAnExpressionShowsBeforeAnyRowIsThere(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (a text, b text); CREATE FUNCTION f(text) RETURNS text LANGUAGE sql AS 'SELECT $1'`)
	for expression, want := range map[string]string{
		"upper(nowhere)": "nowhere",
		"upper(a":        "unexpected end",
		"f(a)":           "f(text) does not exist", // as under pg_restore, which has no search_path
	} {
		one := table(t, d.plan("public.t: {keep: [a], sql: {b: "+expression+"}}"), "public.t")
		if _, err := d.cluster.SQL(t.Context(), d.name, "BEGIN; "+one.Trigger()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", expression, err)
		}
	}
	d.sql("BEGIN; " + table(t, d.plan("public.t: {keep: [a], sql: {b: public.f(a)}}"), "public.t").Trigger())
}

func TestMaskedTextFitsColumnsOfEveryLength(t *testing.T) {
	var schema, names, rows []string
	for n := 1; n <= 40; n++ {
		schema = append(schema, fmt.Sprintf("v%d varchar(%[1]d), c%[1]d char(%[1]d)", n))
		names = append(names, fmt.Sprintf("v%d, c%[1]d", n))
	}
	for i := range 100 {
		rows = append(rows, strings.Repeat("\t"+string(rune('A'+i%26)), 2*len(names))[1:])
	}
	d := newDatabase(t, "CREATE TABLE t ("+strings.Join(schema, ", ")+", long text)")
	plan := d.plan("public.t: {text: [" + strings.Join(names, ", ") + ", long]}")
	d.install(plan)
	for i := range rows {
		rows[i] += "\t" + fmt.Sprintf("%03d ", i) + strings.Repeat("RÄW ", i*i)
	}
	d.load(key(t, "one"), "public.t", strings.Join(rows, "\n")+"\n")
	if v := d.violated(table(t, plan, "public.t")); len(v) > 0 {
		t.Errorf("the proof finds violations in %v", v)
	}
	if got := d.sql("SELECT count(*), max(length(long)) - min(length(long)), count(DISTINCT left(long, 16)) > 5 FROM t WHERE long !~ 'R'"); got != "100|39200|t" {
		t.Errorf("rows, difference of lengths, varied: %s", got)
	}
}

func TestSpellingsOfOneValueGetOnePseudonym(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (e text, n text, p text)`)
	d.install(d.plan(`public.t: {email: [e], name: [n], phone: [p]}`))
	k := key(t, "one")
	d.load(k, "public.t", "ann@example.com\tAnn Lee\t+49 (30) 77-7\n ANN@Example.com \tANN  LEE\t0049.30/777\nann@example.com\t ann lee \t4930777\n")
	if got := d.sql("SELECT count(*), count(DISTINCT e), count(DISTINCT n), count(DISTINCT p) FROM t"); got != "3|1|1|1" {
		t.Errorf("rows, addresses, names, numbers: %s", got)
	}
	d.load(k, "public.t", "ben@example.com\tBen Lee\t+49 30 778\n")
	if got := d.sql("SELECT count(DISTINCT e), count(DISTINCT n), count(DISTINCT p) FROM t"); got != "2|2|2" {
		t.Errorf("two of each became %s", got)
	}
}

func TestNamesOfAnyShapeComeOutSensibly(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (n text)`)
	plan := d.plan(`public.t: {name: [n]}`)
	d.install(plan)
	k := key(t, "one")
	for name, words := range map[string]string{
		"Dr. Anna Maria Müller-Lüdenscheidt": "^[A-Z][a-z]+ [A-Z][a-z]+$",
		"Madonna":                            "^[A-Z][a-z]+$", " Madonna ": "^[A-Z][a-z]+$",
		"O'Neil": "^[A-Z][a-z]+$", "山田 太郎": "^[A-Z][a-z]+ [A-Z][a-z]+$",
		"Lee, Ann": "^[A-Z][a-z]+ [A-Z][a-z]+$", ".": "^[A-Z][a-z]+$", " ": "^[A-Z][a-z]+$",
	} {
		d.sql("TRUNCATE t")
		d.load(k, "public.t", name+"\n")
		if got := d.sql("SELECT n FROM t WHERE n ~ '" + words + "'"); got == "" {
			t.Errorf("%q became %q", name, d.sql("SELECT n FROM t"))
		}
		if v := d.violated(table(t, plan, "public.t")); len(v) > 0 {
			t.Errorf("%q: the proof finds a violation", name)
		}
	}
}
