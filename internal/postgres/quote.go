package postgres

import (
	"regexp"
	"strings"
)

var plain = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// Qualify spells schema and table as columns.yaml and manifests do: public.users, or
// "Billing Dept"."Invoice #" (both quoted) where either needs quotes.
func Qualify(schema, table string) string {
	if plain.MatchString(schema) && plain.MatchString(table) {
		return schema + "." + table
	}
	return Ident(schema, table)
}

// Ident quotes names as SQL identifiers and joins them with dots.
func Ident(names ...string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = `"` + strings.ReplaceAll(n, `"`, `""`) + `"`
	}
	return strings.Join(quoted, ".")
}

// Literal quotes s as an SQL string that means the same whatever standard_conforming_strings says.
func Literal(s string) string {
	quoted := `'` + strings.ReplaceAll(s, `'`, `''`) + `'`
	if strings.Contains(s, `\`) {
		return `E` + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
