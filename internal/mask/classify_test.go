package mask

import (
	"strings"
	"testing"

	"rehearsal/internal/postgres"
)

func TestClassifySuggestsALineForEverythingNewAndNeverToKeepIt(t *testing.T) {
	for _, name := range []string{"nothing", "unclassified"} {
		rules := &Rules{}
		if name != "nothing" {
			var err error
			if rules, err = Parse("columns.yaml", read(t, "refused/"+name+".yaml")); err != nil {
				t.Fatal(err)
			}
		}
		got := Classify(shop(), rules)
		golden(t, "classify-"+name+".txt", got)
		if strings.Contains(strings.ReplaceAll(got, "{keep: []}", ""), "keep:") {
			t.Errorf("it suggests to keep something:\n%s", got)
		}
	}
}

func TestClassifyIsSilentWhereEverythingIsSettled(t *testing.T) {
	rules, err := Parse("columns.yaml", read(t, "accepted.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := Classify(shop(), rules); got != "" {
		t.Errorf("it suggests:\n%s", got)
	}
}

func TestWhatClassifyPrintsCanBePasted(t *testing.T) {
	schema := shop()
	printed := Classify(schema, &Rules{})
	rules, err := Parse("columns.yaml", []byte(printed))
	if err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	again := Classify(schema, rules)
	for _, line := range strings.Split(strings.TrimSpace(again), "\n") {
		if !strings.HasPrefix(line, "  # decide: ") && !strings.Contains(line, ":   # line ") {
			t.Errorf("pasted, and yet asked for again: %s", line)
		}
	}
	_, err = rules.Plan(schema)
	for _, line := range strings.Split(err.Error(), "\n") {
		if strings.HasPrefix(line, "columns.yaml:") && !strings.Contains(line, "is in the backup, but not here") {
			t.Errorf("a suggestion is refused: %s", line)
		}
	}
}

func TestClassifyGoesByNameAndTypeAndIsSafe(t *testing.T) {
	type column = postgres.Column
	may := func(name, base string) column {
		return column{Name: name, Type: base, Base: base, Category: 'S', Kind: 'b'}
	}
	must := func(name, base string) column { c := may(name, base); c.NotNull = true; return c }
	schema := []postgres.Table{{Schema: "s", Name: "t", Kind: 'r', Root: "s.t", Columns: []column{
		may("contact_email", "text"), may("work_phone", "text"), may("lastName", "text"), may("about", "text"),
		may("birth_date", "date"), may("birthplace", "text"), may("dob", "text"), may("dob_at", "timestamptz"),
		may("iban", "text"), may("card_number", "text"), may("ssn", "text"), may("passport_no", "text"), may("tax_id", "int8"), must("driving_license", "text"),
		may("ip_address", "text"), must("last_ip", "inet"), may("lat", "float8"), must("geo", "point"), may("avatar_url", "text"),
		may("api_token", "text"), must("api_key", "text"), must("password_hash", "text"), must("session_token", "uuid"), may("webhook_secret", "bytea"),
		may("payload", "jsonb"), must("settings", "json"), may("created_at", "timestamptz"), may("locale", "text"), must("mood", "s.mood"),
	}}}
	want := `s.t:   # or s.t: truncate
  email: [contact_email]
  name: [lastName]
  phone: [work_phone]
  text: [about]
  token: [api_key, session_token]
  date: [birth_date, dob_at]
  clear: [birthplace, dob, iban, card_number, ssn, passport_no, tax_id, driving_license, ip_address, last_ip, lat, geo, avatar_url, api_token, password_hash, webhook_secret, created_at, locale]
  json: {payload: {keep: []}, settings: {keep: []}}
  # decide: mood (s.mood): clear cannot take s.mood: it knows no empty value of this type, and the column is NOT NULL; s.mood can be under sql or keep
`
	if got := Classify(schema, &Rules{}); got != want {
		t.Errorf("it prints\n%s\nwant\n%s", got, want)
	}
}

func TestClassifyAddsADocumentToATableThatHasOne(t *testing.T) {
	document := func(name string) postgres.Column {
		return postgres.Column{Name: name, Type: "jsonb", Base: "jsonb", Category: 'U'}
	}
	schema := []postgres.Table{{Schema: "s", Name: "t", Kind: 'r', Root: "s.t", Columns: []postgres.Column{document("old"), document("new")}}}
	rules, err := Parse("columns.yaml", []byte("s.t: {json: {old: {keep: [a]}}}"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Classify(schema, rules), "s.t:   # line 1\n  clear: [new]\n"; got != want {
		t.Errorf("it prints %q, want %q", got, want)
	}
}
