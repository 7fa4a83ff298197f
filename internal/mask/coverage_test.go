package mask_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"rehearsal/internal/mask"
	"rehearsal/internal/run"
)

const everyRelation = `
CREATE EXTENSION hstore;
CREATE SCHEMA app;
CREATE TABLE app.parent (id int PRIMARY KEY, email text, gone text); ALTER TABLE app.parent DROP COLUMN gone;
CREATE TABLE app.child (note text) INHERITS (app.parent);
CREATE UNLOGGED TABLE app.unlogged (email text);
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE app.elsewhere (email text) SERVER s;
CREATE TABLE app.generated (id int GENERATED ALWAYS AS IDENTITY, email text, upper text GENERATED ALWAYS AS (upper(email)) STORED);
CREATE TABLE app.filled (email text, domain text);
CREATE FUNCTION app.fill() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.domain := split_part(NEW.email, '@', 2); RETURN NEW; END$$;
CREATE TABLE app.visits (at date, email text) PARTITION BY RANGE (at);
CREATE TABLE app.visits_1 PARTITION OF app.visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE VIEW app.seen AS SELECT email FROM app.parent;
CREATE MATERIALIZED VIEW app.kept AS SELECT email FROM app.parent;
CREATE TEMP TABLE passing (email text);
CREATE TABLE app.member (email text); ALTER EXTENSION hstore ADD TABLE app.member;
CREATE TYPE app.composite AS (email text);
CREATE SEQUENCE app.counter;
`

func TestEveryColumnOfEveryTableOfADumpIsAskedForAndNoOther(t *testing.T) {
	d := newDatabase(t, everyRelation)
	rules, err := mask.Parse("columns.yaml", []byte("app.parent: {}\napp.child: {}\napp.unlogged: {}\napp.elsewhere: {}\napp.generated: {}\napp.filled: {}\napp.visits: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = rules.Plan(d.schema())
	if run.CodeOf(err) != run.Unclean {
		t.Fatal(err)
	}
	var asked []string
	for _, m := range regexp.MustCompile(`columns.yaml:\d+:\d+: app\.(\S+)`).FindAllStringSubmatch(err.Error(), -1) {
		asked = append(asked, m[1])
	}
	slices.Sort(asked)
	want := "child.email child.id child.note elsewhere filled.domain filled.email generated.email generated.id generated.upper " +
		"parent.email parent.id unlogged.email visits.at visits.email"
	if got := strings.Join(asked, " "); got != want {
		t.Errorf("asked for\n%s\nwant\n%s\n%v", got, want, err)
	}
	for _, stranger := range []string{"seen", "kept", "member", "composite", "counter", "visits_1"} {
		rules, _ := mask.Parse("columns.yaml", []byte("app."+stranger+": truncate"))
		if _, err := rules.Plan(d.schema()); err == nil || !strings.Contains(err.Error(), ": app."+stranger+" is ") {
			t.Errorf("app.%s: %v", stranger, err)
		}
	}
}

func TestAColumnThatATriggerOfTheApplicationFillsIsMaskedLikeAnyOther(t *testing.T) {
	d := newDatabase(t, everyRelation)
	rules := `
app.parent: {keep: [id], email: [email]}
app.child: {keep: [id], email: [email], clear: [note]}
app.unlogged: {email: [email]}
app.elsewhere: truncate
app.generated: {keep: [id, upper], email: [email]}
app.filled: {email: [email], sql: {domain: "'masked.invalid'"}}
app.visits: {keep: [at], email: [email]}`
	plan := d.plan(rules)
	d.install(plan)
	k := key(t, "one")
	d.load(k, "app.filled", "raw@example.com\texample.com\n")
	d.load(k, "app.unlogged", "raw@example.com\n")
	for _, one := range plan.Tables {
		d.sql(one.DropTrigger())
	}
	d.sql("CREATE TRIGGER fill BEFORE INSERT OR UPDATE ON app.filled FOR EACH ROW EXECUTE FUNCTION app.fill(); UPDATE app.filled SET email = email")
	if got := d.sql("SELECT domain, f.email = u.email, f.email LIKE '%.invalid' FROM app.filled f, app.unlogged u"); got != "masked.invalid|t|t" {
		t.Error(got)
	}
}

func TestAnExclusionConstraintTakesNoVerbThatRepeatsValues(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (room text, during tsrange, name text, EXCLUDE USING gist (during WITH &&), EXCLUDE USING btree (room WITH =))`)
	for rules, want := range map[string]string{
		"token: [room], clear: [during], keep: [name]":                   "",
		"name: [room], keep: [during, name]":                             "name can repeat values, which the exclusion constraint t_room_excl forbids",
		"text: [room], clear: [during], phone: [name]":                   "text can repeat values, which the exclusion constraint t_room_excl forbids",
		"clear: [room, during, name]":                                    "",
		"sql: {during: \"'empty'\"}, keep: [room, name]":                 "",
		"name: [name], clear: [room], keep: [during]":                    "",
		"email: [room], clear: [during], date: {year: []}, keep: [name]": "",
	} {
		parsed, err := mask.Parse("columns.yaml", []byte("public.t: {"+rules+"}"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = parsed.Plan(d.schema())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", rules, err)
		}
	}
}

func TestALossyVerbOnBothSidesOfAForeignKeyBreaksTheReferencedIndex(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE p (n text UNIQUE, d date UNIQUE, e text UNIQUE); CREATE TABLE c (n text REFERENCES p (n), d date REFERENCES p (d), e text REFERENCES p (e))`)
	for verbs, want := range map[string]string{
		"name: [n], keep: [d], email: [e]":  "public.p.n: name can repeat values, which the unique index p_n_key forbids",
		"token: [n], date: [d], email: [e]": "public.p.d: date can repeat values, which the unique index p_d_key forbids",
		"token: [n], keep: [d], email: [e]": "",
	} {
		rules, err := mask.Parse("columns.yaml", []byte("public.p: {"+verbs+"}\npublic.c: {"+verbs+"}"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = rules.Plan(d.schema())
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "public.c.")) {
			t.Errorf("%s: %v", verbs, err)
		}
	}
}

func TestAUniqueIndexOverAnExpressionTakesNoVerbThatRepeatsValues(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (a text, b text, at timestamptz); CREATE UNIQUE INDEX i ON t (lower(a)); CREATE UNIQUE INDEX j ON t (b, (at IS NULL)) WHERE b <> ''`)
	for rules, want := range map[string]string{
		"email: [a], token: [b], keep: [at]": "",
		"text: [a], token: [b], keep: [at]":  "public.t.a: text can repeat values, which the unique index i forbids",
		"email: [a], phone: [b], keep: [at]": "public.t.b: phone can repeat values, which the unique index j forbids",
		"email: [a], token: [b], date: [at]": "public.t.at: date can repeat values, which the unique index j forbids",
		"clear: [a, b], keep: [at]":          "",
	} {
		parsed, err := mask.Parse("columns.yaml", []byte("public.t: {"+rules+"}"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = parsed.Plan(d.schema())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", rules, err)
		}
	}
}
