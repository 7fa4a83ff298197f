package mask

import (
	"fmt"
	"strings"

	"rehearsal/internal/postgres"
)

// Proof returns a query of one scan and one row: the number of rows in the table, then for each column of
// Masked, in order, the number of rows that its verb cannot have made. That number is NULL for the verb sql,
// which proves nothing. A masked table is clean where all the others are 0.
//
// The query is empty for tables that hold no rows themselves: partitioned and foreign ones.
func (t Table) Proof() string {
	if !t.holdsRows() {
		return ""
	}
	var b strings.Builder
	b.WriteString("SELECT pg_catalog.count(*)")
	for _, c := range t.Masked {
		b.WriteString(",\n\t" + c.violations())
	}
	// ONLY: the rows of inheriting tables belong to those.
	fmt.Fprintf(&b, "\n\tFROM ONLY %s", t.ident())
	return b.String()
}

// violations counts the rows in which the column is not what its verb makes. Not IS NOT NULL: for a composite
// value that asks for all its fields.
func (c Column) violations() string {
	if c.Verb.proof == nil {
		return "NULL::pg_catalog.int8"
	}
	return fmt.Sprintf("pg_catalog.count(*) FILTER (WHERE NOT (%s IS NULL) AND (%s) IS NOT TRUE)",
		postgres.Ident(c.Name), c.Verb.proof(c))
}

func (t Table) holdsRows() bool { return t.Kind == 'r' }
