package mask

import (
	"fmt"
	"maps"
	"slices"

	"rehearsal/internal/postgres"
)

// ProofByQueries is a second proof of the verb json, which the first is held against: it walks a document with a
// query for each object and array. It is simpler, and keeps a scan from running in parallel.
func (c Column) ProofByQueries() string {
	value := postgres.Ident(c.Name) + "::pg_catalog.jsonb"
	return fmt.Sprintf("(%s = 'null' OR NOT %s)", value, c.paths.violates(value, 0))
}

// ProofOfOne is the verb's own proof.
func (c Column) ProofOfOne() string { return c.Verb.proof(c) }

// violates returns an SQL condition: does the document hold anything that the branch does not allow?
func (b *branch) violates(value string, l level) string {
	scalar := "true"
	switch {
	case b.verb == keepVerb:
		scalar = "false"
	case b.verb != nil:
		text := "(" + value + " #>> '{}')"
		scalar = fmt.Sprintf("%s <> 'null' AND NOT (pg_catalog.jsonb_typeof(%[1]s) = 'string' AND (%s = '' OR %s))",
			value, text, b.verb.pseudonym.matches(text, 0))
	}
	return fmt.Sprintf("CASE pg_catalog.jsonb_typeof(%s) WHEN 'object' THEN %s WHEN 'array' THEN %s ELSE %s END",
		value, b.objectViolates(value, l), b.arrayViolates(value, l), scalar)
}

func (b *branch) objectViolates(value string, l level) string {
	if b.named == nil && b.every == nil {
		return "true"
	}
	member := fmt.Sprintf("m%d", int(l))
	unnamed := "true"
	if b.every != nil {
		unnamed = b.every.violates(member+".value", l+1)
	}
	cases := ""
	for _, name := range slices.Sorted(maps.Keys(b.named)) {
		cases += fmt.Sprintf(" WHEN %s.key = %s THEN %s", member, postgres.Literal(name), b.named[name].violates(member+".value", l+1))
	}
	if cases != "" {
		unnamed = "CASE" + cases + " ELSE " + unnamed + " END"
	}
	return fmt.Sprintf("EXISTS (SELECT FROM pg_catalog.jsonb_each(%s) AS %s WHERE %s)", value, member, unnamed)
}

func (b *branch) arrayViolates(value string, l level) string {
	switch {
	case b.every != nil:
		element := fmt.Sprintf("m%d", int(l))
		return fmt.Sprintf("EXISTS (SELECT FROM pg_catalog.jsonb_array_elements(%s) AS %s(value) WHERE %s)",
			value, element, b.every.violates(element+".value", l+1))
	case b.named != nil:
		return value + " <> '[]'"
	}
	return "true"
}
