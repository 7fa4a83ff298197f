package scenarios

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// leaks are values of production where no rule looks for them, or rules that let one through. The rules of all but the
// last two cover every column: only a search of what staging would hold finds these.
var leaks = []struct {
	name   string
	source string // changes production
	rules  func(columns string) string
	says   string
}{
	{"an address in a text that is kept",
		`UPDATE products SET name = 'ask ' || (SELECT email FROM customers WHERE id = 7) WHERE sku = (SELECT min(sku) FROM products)`, nil,
		`public\.products\.name.*e-mail|e-mail.*public\.products\.name`},
	{"a name in a text that is kept",
		`UPDATE products SET name = 'made for ' || (SELECT full_name FROM customers WHERE full_name LIKE '% %' ORDER BY length(full_name) DESC, id LIMIT 1) WHERE sku = (SELECT min(sku) FROM products)`, nil,
		`public\.products\.name[\s\S]*public\.customers\.full_name`},
	{"an address under a path that is kept",
		`UPDATE invoices SET payload = jsonb_set(payload, '{currency}', payload #> '{customer,email}') WHERE id = (SELECT min(id) FROM invoices)`, nil,
		`public\.invoices\.payload`},
	{"an address in an array that is kept",
		`UPDATE customers SET tags = ARRAY['wholesale', email::text] WHERE id = 7`, nil, `public\.customers\.tags`},
	{"an address in a comment", `COMMENT ON COLUMN products.price IS 'ask anna.schmidt@example.org first'`, nil, `the schema`},
	{"an address in a default", `ALTER TABLE products ALTER name SET DEFAULT 'someone@example.org'`, nil, `the schema`},
	{"an address in a function", `CREATE FUNCTION boss() RETURNS text LANGUAGE sql AS $$ SELECT 'the.boss@example.org' $$`, nil, `the schema`},
	{"a column that a trigger fills", "", func(columns string) string {
		columns = strings.Replace(columns, "keep:  [id, tags,", "keep:  [id, search_doc, tags,", 1)
		return regexp.MustCompile(`(?m)^  sql: .*search_doc.*\n`).ReplaceAllString(columns, "")
	}, `public\.customers\.search_doc`},
	{"a card in what an expression makes", "", func(columns string) string {
		return strings.Replace(columns, `sql:   {search_doc: "to_tsvector('simple', '')"}`, `sql:   {search_doc: "to_tsvector('simple', '4111111111111111')"}`, 1)
	}, `card.*public\.customers\.search_doc|public\.customers\.search_doc.*card`},
}

func TestWhatTheRulesMissIsFoundBeforeTheSwap(t *testing.T) {
	before := staged(t)
	for _, leak := range leaks {
		t.Run(leak.name, func(t *testing.T) {
			s := newSpecimen(t)
			databases := stagingDatabases(t)
			if leak.source != "" {
				source(leak.source)(s, t)
				s.try(t, try{target: "backup:create", verdict: "sealed"})
			}
			if leak.rules != nil {
				file := filepath.Join(s.dir, "sql", "shop", "columns.yaml")
				text, err := os.ReadFile(file)
				changed := leak.rules(string(text))
				if err != nil || changed == string(text) {
					t.Fatalf("the rules are as they were (%v)", err)
				}
				if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := s.try(t, try{target: "staging:reset", code: 4, says: `staging would hold values of production:[\s\S]*` + leak.says})
			for _, value := range []string{"@example", "Schmidt", "4111"} {
				if strings.Contains(got.text(), value) {
					t.Errorf("the error shows a value: %s", got.text())
				}
			}
			checkNothingIsLeft(t, databases)
		})
	}
	if diff := gocmp.Diff(before, staged(t)); diff != "" {
		t.Errorf("staging is not what it was: %s", diff)
	}
}

func TestWhoIsAllowedOnStagingMayBeThere(t *testing.T) {
	s := newSpecimen(t)
	source(`UPDATE products SET name = 'ask jana.novakova@shop.example or Mei Tanaka' WHERE sku = (SELECT min(sku) FROM products)`)(s, t)
	s.try(t, try{target: "backup:create", verdict: "sealed"})
	s.try(t, try{target: "staging:reset", warns: "^roles of the backup that staging lacks"})
}
