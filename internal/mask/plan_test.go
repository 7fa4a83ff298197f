package mask

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file of testdata.
func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; -update writes it anew. Got:\n%s\nwant:\n%s", path, got, want)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// shop is the schema that testdata/accepted.yaml settles.
func shop() []postgres.Table {
	column := func(name, kind, base string, category byte) postgres.Column {
		return postgres.Column{Name: name, Type: kind, Base: base, Category: category}
	}
	words := func(name string) postgres.Column { return column(name, "text", "text", 'S') }
	varchar := func(name, kind string, n int) postgres.Column {
		c := column(name, kind, "varchar", 'S')
		c.TypeMod = n
		return c
	}
	required := func(c postgres.Column) postgres.Column { c.NotNull = true; return c }
	id := required(column("id", "bigint", "int8", 'N'))
	initials := varchar("initials", "character varying(3)", 3)
	initials.Generated = true
	at := required(column("at", "timestamp with time zone", "timestamptz", 'D'))
	at.Partition = true
	return []postgres.Table{
		{Schema: "Billing Dept", Name: "Invoice #", Kind: 'r', Root: `"Billing Dept"."Invoice #"`,
			Columns: []postgres.Column{column("Invoice #", "integer", "int4", 'N'), words("Größe")}},
		{Schema: "public", Name: "elsewhere", Kind: 'f', Root: "public.elsewhere", Columns: []postgres.Column{id}},
		{Schema: "public", Name: "events", Kind: 'p', Root: "public.events", Columns: []postgres.Column{at, words("email")}},
		{Schema: "public", Name: "events_2026", Kind: 'r', Root: "public.events", Columns: []postgres.Column{words("email"), at}},
		{Schema: "public", Name: "nothing", Kind: 'r', Root: "public.nothing"},
		{Schema: "public", Name: "orders", Kind: 'r', Root: "public.orders",
			Columns: []postgres.Column{id, required(column("user_id", "bigint", "int8", 'N')), words("user_email"),
				column("session_id", "uuid", "uuid", 'U'), required(column("payload", "jsonb", "jsonb", 'U'))},
			Unique: []postgres.UniqueIndex{{Name: "orders_pkey", Columns: []string{"id"}}},
			ForeignKeys: []postgres.ForeignKey{
				{Name: "orders_user_email_fkey", Columns: []string{"user_email"}, Table: "public.users", References: []string{"email"}},
				{Name: "orders_user_id_fkey", Columns: []string{"user_id"}, Table: "public.users", References: []string{"id"}},
				{Name: "orders_session_id_fkey", Columns: []string{"session_id"}, Table: "public.sessions", References: []string{"id"}}}},
		{Schema: "public", Name: "sessions", Kind: 'r', Root: "public.sessions",
			Columns: []postgres.Column{required(column("id", "uuid", "uuid", 'U'))},
			Unique:  []postgres.UniqueIndex{{Name: "sessions_pkey", Columns: []string{"id"}}}},
		{Schema: "public", Name: "users", Kind: 'r', Root: "public.users",
			Columns: []postgres.Column{id, required(words("email")), words("full_name"), varchar("mobile", "character varying(20)", 20),
				required(words("bio")), varchar("api_token", "character varying(64)", 64), words("reset_token"),
				column("age", "integer", "int4", 'N'), column("home", "home", "public.home", 'C'), varchar("locale", "character varying(5)", 5),
				required(column("mood", "mood", "public.mood", 'E')), initials, column("search_doc", "tsvector", "tsvector", 'U'),
				words("null"), words("1.10")},
			Unique: []postgres.UniqueIndex{{Name: "users_pkey", Columns: []string{"id"}},
				{Name: "users_email_lower", Expression: []string{"email"}},
				{Name: "users_api_token_key", Columns: []string{"api_token"}},
				{Name: "users_reset_token", Columns: []string{"reset_token"}, Predicate: "(reset_token IS NOT NULL)"}}},
	}
}

// refusal is the message of a file that Parse or Plan refuses.
func refusal(t *testing.T, file string) string {
	t.Helper()
	rules, err := Parse("columns.yaml", read(t, file))
	if err == nil {
		_, err = rules.Plan(shop())
	}
	if err == nil {
		t.Fatalf("%s was accepted", file)
	}
	if run.CodeOf(err) != run.Unclean || run.HintOf(err) == "" {
		t.Errorf("%s: exit code %d, hint %q", file, run.CodeOf(err), run.HintOf(err))
	}
	return err.Error() + "\n"
}

func TestEveryMistakeIsRefusedWithItsPlaceAndTheLineToWrite(t *testing.T) {
	files, err := filepath.Glob("testdata/refused/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			golden(t, "refused/"+name+".txt", refusal(t, "refused/"+name+".yaml"))
		})
	}
}

func accepted(t *testing.T) *Plan {
	t.Helper()
	rules, err := Parse("columns.yaml", read(t, "accepted.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := rules.Plan(shop())
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestASettledSchemaIsPlanned(t *testing.T) {
	var got strings.Builder
	for _, table := range accepted(t).Tables {
		got.WriteString(table.Qualified())
		if table.Truncate {
			got.WriteString(" truncate")
		}
		for _, c := range table.Masked {
			got.WriteString(" " + c.Verb.Name + ":" + c.Name)
		}
		got.WriteString("\n")
	}
	golden(t, "accepted.txt", got.String())
}

func TestTheGeneratedSQLIsReviewed(t *testing.T) {
	var got strings.Builder
	for _, table := range accepted(t).Tables {
		if table.Name == "orders" || table.Name == "users" {
			got.WriteString(table.Trigger() + "\n" + table.Proof() + ";\n\n" + table.DropTrigger() + "\n")
		}
	}
	// The lists of invented names are 5 kB each.
	short := strings.NewReplacer(array(givenNames), "GIVEN", array(familyNames), "FAMILY", array(openings), "OPENINGS", filler, "FILLER")
	golden(t, "accepted.sql", short.Replace(got.String()))
}

func TestTheKeyIsInNoSQL(t *testing.T) {
	t.Setenv(KeyVariable, "sesame")
	key, err := LoadKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range accepted(t).Tables {
		for _, pad := range key.Settings() {
			if strings.Contains(table.Trigger()+table.Proof()+table.DropTrigger(), pad) {
				t.Errorf("%s: the SQL holds the key", table.Qualified())
			}
		}
	}
}

func TestANullUnderAUniqueIndexIsNoRepetition(t *testing.T) {
	for name, test := range map[string]struct {
		index postgres.UniqueIndex
		fine  bool
	}{
		"plain":             {postgres.UniqueIndex{Columns: []string{"a"}}, true},
		"not null rows":     {postgres.UniqueIndex{Columns: []string{"a"}, Predicate: "(a IS NOT NULL)"}, true},
		"null rows":         {postgres.UniqueIndex{Columns: []string{"b"}, Predicate: "(a IS NULL)"}, false},
		"nulls are equal":   {postgres.UniqueIndex{Columns: []string{"a"}, NullsEqual: true}, false},
		"null in other col": {postgres.UniqueIndex{Columns: []string{"b"}, Predicate: "(ba IS NULL)"}, true},
	} {
		if got := !repeats(test.index, postgres.Column{Name: "a"}, clearVerb); got != test.fine {
			t.Errorf("%s: clear is fine: %t, want %t", name, got, test.fine)
		}
	}
}

func TestAForeignKeyToATruncatedTableMustBecomeNull(t *testing.T) {
	schema := func(matchFull bool) []postgres.Table {
		id := postgres.Column{Name: "id", Type: "integer", Base: "int4", Category: 'N'}
		other := id
		other.Name = "other"
		return []postgres.Table{
			{Schema: "s", Name: "child", Kind: 'r', Root: "s.child", Columns: []postgres.Column{id, other},
				ForeignKeys: []postgres.ForeignKey{{Name: "k", Columns: []string{"id", "other"}, Table: "s.gone", References: []string{"id", "other"}, MatchFull: matchFull}}},
			{Schema: "s", Name: "gone", Kind: 'r', Root: "s.gone", Columns: []postgres.Column{id, other}},
		}
	}
	for _, test := range []struct {
		child     string
		matchFull bool
		fine      bool
	}{
		{"{keep: [id, other]}", false, false},
		{"{keep: [id], clear: [other]}", false, true},
		{"{keep: [id], clear: [other]}", true, false},
		{"{clear: [id, other]}", true, true},
		{"truncate", true, true},
	} {
		rules, err := Parse("columns.yaml", []byte("s.gone: truncate\ns.child: "+test.child))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rules.Plan(schema(test.matchFull)); (err == nil) != test.fine {
			t.Errorf("%s, match full %t: %v", test.child, test.matchFull, err)
		}
	}
}

func TestTheZeroRulesAreRefusedForEverySchemaWithATable(t *testing.T) {
	rules, err := Parse("columns.yaml", []byte("# nothing yet\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rules.Plan(shop()); run.CodeOf(err) != run.Unclean {
		t.Errorf("no rules at all: %v", err)
	}
}

func TestLargeObjectsAreSpokenOfOnPurpose(t *testing.T) {
	for text, want := range map[string]string{"large_objects: keep": "keep", "large_objects: drop\npublic.t: truncate": "drop", "public.t: truncate": "", "": ""} {
		rules, err := Parse("columns.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if verb, ok := rules.LargeObjects(); verb != want || ok != (want != "") {
			t.Errorf("%q: %q, %t", text, verb, ok)
		}
	}
}

func TestTheYearOfADateCanBeSpeltOut(t *testing.T) {
	born := postgres.Column{Name: "born", Type: "date", Base: "date", Category: 'D'}
	schema := []postgres.Table{{Schema: "s", Name: "t", Kind: 'r', Root: "s.t", Columns: []postgres.Column{born}}}
	for _, text := range []string{"s.t: {date: [born]}", "s.t: {date: {year: [born]}}", "s.t:\n  date:\n    year: [born]\n"} {
		rules, err := Parse("columns.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if plan, err := rules.Plan(schema); err != nil || len(plan.Tables[0].Masked) != 1 || plan.Tables[0].Masked[0].Verb != dateVerb {
			t.Errorf("%q: %v", text, err)
		}
	}
}
