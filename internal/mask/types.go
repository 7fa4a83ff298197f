package mask

import (
	"slices"

	"rehearsal/internal/postgres"
)

// kind groups the types that verbs treat alike.
type kind int

const (
	other kind = iota // a verb can only empty it, or an expression replace it
	text
	uuid
	bytea
	document
	date
)

func (k kind) String() string {
	return [...]string{"other types", "text types", "uuid", "bytea", "json and jsonb", "date, timestamp and timestamptz"}[k]
}

// emptyValues is what clear writes where a column is NOT NULL, for each type that has an obvious empty value.
// Types that are not comparable with = are proven by their text.
var emptyValues = []struct {
	types      []string
	kind       kind
	value      string
	comparable bool
}{
	{[]string{"text", "varchar", "bpchar", "name", "citext"}, text, "", false},
	{[]string{"uuid"}, uuid, "00000000-0000-0000-0000-000000000000", true},
	{[]string{"bytea"}, bytea, "", true},
	{[]string{"json", "jsonb"}, document, "{}", false},
	{[]string{"int2", "int4", "int8", "numeric", "float4", "float8", "money", "oid", "interval"}, other, "0", true},
	{[]string{"bool"}, other, "false", true},
	{[]string{"date", "timestamp", "timestamptz"}, date, "epoch", true}, // in UTC whatever TimeZone says
	{[]string{"time"}, other, "00:00:00", true},
	{[]string{"timetz"}, other, "00:00:00+00", true},
	{[]string{"inet", "cidr"}, other, "0.0.0.0", true},
	{[]string{"macaddr"}, other, "00:00:00:00:00:00", true},
	{[]string{"macaddr8"}, other, "00:00:00:00:00:00:00:00", true},
	{[]string{"tsvector", "hstore", "ltree", "xml", "char"}, other, "", false},
	{[]string{"varbit"}, other, "", true},
	{[]string{"point"}, other, "(0,0)", false},
}

func kindOf(c postgres.Column) kind {
	for _, e := range emptyValues {
		if slices.Contains(e.types, c.Base) {
			return e.kind
		}
	}
	return other
}

// empty returns the text of the empty value of c's type, an SQL condition that holds for value where it has that value,
// and whether the type has one at all.
func empty(c postgres.Column, value string) (text, condition string, ok bool) {
	for _, e := range emptyValues {
		if !slices.Contains(e.types, c.Base) {
			continue
		}
		if e.comparable {
			return e.value, value + " = " + postgres.Literal(e.value) + "::pg_catalog." + postgres.Ident(c.Base), true
		}
		return e.value, value + `::pg_catalog.text COLLATE "C" = ` + postgres.Literal(e.value), true
	}
	switch {
	case c.Category == 'A':
		return "{}", value + "::pg_catalog.text = '{}'", true
	case c.Kind == 'r':
		return "empty", "pg_catalog.isempty(" + value + ")", true
	case c.Kind == 'm':
		return "{}", "pg_catalog.isempty(" + value + ")", true
	}
	return "", "", false
}

// element is a column of the type of an array's elements; of any other type, the column itself.
func element(c postgres.Column) postgres.Column {
	if c.Element != "" {
		c.Base, c.Element = c.Element, ""
	}
	return c
}

// limit is the number of characters that c can hold; 0: as many as one likes.
func limit(c postgres.Column) int {
	if c.Base == "name" {
		return 63 // NAMEDATALEN - 1
	}
	return c.TypeMod
}
