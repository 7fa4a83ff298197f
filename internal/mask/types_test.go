package mask_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rehearsal/internal/mask"
)

const typesSchema = `
CREATE EXTENSION citext; CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('sad', 'RAW'); CREATE TYPE home AS (street text, city text);
CREATE DOMAIN handle AS varchar(40); CREATE DOMAIN handles AS handle[]; CREATE DOMAIN born AS date;`

// takes says under which verbs a column of each type can be. Clear is everywhere, except that with clear- it needs a
// column that may be NULL; sql and keep are everywhere.
var takes = []struct{ kind, raw, verbs string }{
	{"text", "RAW", "email name phone text token clear"},
	{"varchar(40)", "RAW", "email name phone text token clear"},
	{"varchar(39)", "RAW", "name phone text token clear"},
	{"varchar(19)", "RAW", "phone text clear"},
	{"varchar(12)", "RAW", "text clear"},
	{"char(40)", "RAW", "email name phone text token clear"},
	{"citext", "RAW", "email name phone text token clear"},
	{"name", "RAW", "email name phone text token clear"},
	{"handle", "RAW", "email name phone text token clear"},
	{"text[]", "{RAW}", "email name phone text token clear"},
	{"varchar(39)[]", "{RAW}", "name phone text token clear"},
	{"citext[]", "{RAW}", "email name phone text token clear"},
	{"handle[]", "{RAW}", "email name phone text token clear"},
	{"handles", "{RAW}", "email name phone text token clear"},
	{"uuid", "77777777-7777-4777-8777-777777777777", "token clear"},
	{"uuid[]", "{77777777-7777-4777-8777-777777777777}", "token clear"},
	{"bytea", "RAW", "token clear"},
	{"bytea[]", "{RAW}", "token clear"},
	{"date", "1977-07-07", "date clear"},
	{"born", "1977-07-07", "date clear"},
	{"timestamp", "1977-07-07 07:07", "date clear"},
	{"timestamptz", "1977-07-07 07:07+00", "date clear"},
	{"timestamptz(0)", "1977-07-07 07:07+00", "date clear"},
	{"date[]", "{1977-07-07}", "clear"},
	{"daterange", "[1977-07-07,1977-07-08)", "clear"},
	{"datemultirange", "{[1977-07-07,1977-07-08)}", "clear"},
	{"time", "07:07", "clear"},
	{"interval", "77 days", "clear"},
	{"numeric", "77.77", "clear"},
	{"int8", "77", "clear"},
	{"bool", "true", "clear"},
	{"inet", "77.77.77.77", "clear"},
	{"inet[]", "{77.77.77.77}", "clear"},
	{"point", "(77,77)", "clear"},
	{"jsonb", `{"RAW": 77}`, "json clear"},
	{"json", `{"RAW": 77}`, "json clear"},
	{"jsonb[]", `{"{}"}`, "clear"},
	{"hstore", "RAW=>77", "clear"},
	{"xml", "<RAW/>", "clear"},
	{"tsvector", "'RAW':7", "clear"},
	{"mood", "RAW", "clear-"},
	{"mood[]", "{RAW}", "clear"},
	{"home", "(RAW,RAW)", "clear-"},
	{"home[]", `{"(RAW,RAW)"}`, "clear"},
	{"polygon", "((7,7),(7,8))", "clear-"},
}

// under writes a rule for one column.
func under(verb, column string) string {
	if verb == "json" {
		return "json: {" + column + ": {keep: []}}"
	}
	return verb + ": [" + column + "]"
}

func TestEveryVerbTakesTheTypesItIsMeantForAndRefusesTheOthers(t *testing.T) {
	d := newDatabase(t, typesSchema)
	for _, one := range takes {
		d.sql(`DROP TABLE IF EXISTS t; CREATE TABLE t (may ` + one.kind + `, must ` + one.kind + ` NOT NULL)`)
		schema := d.schema()
		shown := schema[0].Columns[0].Type
		for column, other := range map[string]string{"may": "must", "must": "may"} {
			want := strings.Fields(one.verbs)
			if column == "must" {
				want = slices.DeleteFunc(want, func(v string) bool { return v == "clear-" })
			}
			for i, v := range want {
				want[i] = strings.TrimSuffix(v, "-")
			}
			for _, v := range mask.Verbs {
				if v.Name == "keep" || v.Name == "sql" {
					continue
				}
				rules, err := mask.Parse("columns.yaml", []byte("public.t: {keep: ["+other+"], "+under(v.Name, column)+"}"))
				if err != nil {
					t.Fatal(err)
				}
				_, err = rules.Plan(schema)
				if taken := err == nil; taken != slices.Contains(want, v.Name) {
					t.Errorf("%s takes %s (%s): %t", v.Name, one.kind, column, taken)
				}
				if err != nil && !strings.Contains(err.Error(), shown+" can be under ") {
					t.Errorf("the refusal does not say what %s can be under: %v", shown, err)
				}
			}
		}
	}
}

func TestARowOfEveryTypeIsMaskedUnderEveryVerbThatTakesIt(t *testing.T) {
	var columns, values []string
	lists := map[string][]string{}
	for i, one := range takes {
		for _, verb := range strings.Fields(one.verbs) {
			for _, null := range []string{"", " NOT NULL"} {
				if verb == "clear-" && null != "" {
					continue
				}
				name := fmt.Sprintf("c%d", len(columns))
				columns = append(columns, name+" "+one.kind+null)
				values = append(values, takes[i].raw)
				verb := strings.TrimSuffix(verb, "-")
				if verb == "json" {
					name += ": {keep: []}"
				}
				lists[verb] = append(lists[verb], name)
			}
		}
	}
	rules := ""
	for verb, names := range lists {
		brackets := "[]"
		if verb == "json" {
			brackets = "{}"
		}
		rules += fmt.Sprintf("  %s: %c%s%c\n", verb, brackets[0], strings.Join(names, ", "), brackets[1])
	}
	d := newDatabase(t, typesSchema+"CREATE TABLE t ("+strings.Join(columns, ", ")+")")
	plan := d.plan("public.t:\n" + rules)
	d.install(plan)
	d.load(key(t, "one"), "public.t", strings.Join(values, "\t")+"\n")
	row := d.sql("SELECT t::text FROM t")
	for _, raw := range []string{"RAW", "7777", "77.", "1977-07-0", "07:07"} {
		if strings.Contains(row, raw) {
			t.Errorf("%q is still in the row: %s", raw, row)
		}
	}
	if v := d.violated(table(t, plan, "public.t")); len(v) > 0 {
		t.Errorf("the proof finds violations in %v: %s", v, row)
	}
}
