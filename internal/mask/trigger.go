package mask

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"rehearsal/internal/postgres"
)

// Trigger returns the SQL that makes every row masked before it reaches the table's heap or the WAL: a
// function and a BEFORE INSERT trigger, which COPY fires. It is empty where no row would change.
//
// Without the settings of Key the first statement fails before it reads a row. Expressions of the verb sql
// are tried out on no row, so that a mistake in one shows before any data is there. Several statements: they
// need the simple query protocol or psql.
func (t Table) Trigger() string {
	if !t.changes() {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql AS %s;\n", t.function(), dollarQuote(t.body()))
	// ALWAYS: it fires whatever session_replication_role says.
	fmt.Fprintf(&b, "CREATE TRIGGER %s BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION %s();\n", rowTrigger, t.ident(), t.function())
	fmt.Fprintf(&b, "ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %s;\n", t.ident(), rowTrigger)
	if t.hashes() {
		// An error of the row trigger would come with the raw row in its CONTEXT; this one comes before any row.
		fmt.Fprintf(&b, "CREATE TRIGGER %s BEFORE INSERT ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s();\n", keyTrigger, t.ident(), t.function())
		fmt.Fprintf(&b, "ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %s;\n", t.ident(), keyTrigger)
	}
	b.WriteString(t.tryout())
	return b.String()
}

// DropTrigger returns the SQL that removes what Trigger made; empty where that is empty.
func (t Table) DropTrigger() string {
	if !t.changes() {
		return ""
	}
	drop := fmt.Sprintf("DROP TRIGGER %s ON %s;\n", rowTrigger, t.ident())
	if t.hashes() {
		drop += fmt.Sprintf("DROP TRIGGER %s ON %s;\n", keyTrigger, t.ident())
	}
	return drop + fmt.Sprintf("DROP FUNCTION %s();\n", t.function())
}

const (
	rowTrigger = `"rehearsal_mask"`
	keyTrigger = `"rehearsal_mask_key"`
)

// changes tells whether rows arrive in this very table, not in a partition, and leave the trigger changed.
func (t Table) changes() bool { return t.holdsRows() && !t.Truncate && len(t.Masked) > 0 }

// hashes tells whether the trigger needs the key.
func (t Table) hashes() bool {
	for _, c := range t.Masked {
		if c.Verb.keyed || c.paths.hashes() {
			return true
		}
	}
	return false
}

func (t Table) ident() string { return postgres.Ident(t.Schema, t.Name) }

// function names the trigger's function. Names end after 63 bytes, so the table's own has no room in it.
func (t Table) function() string {
	sum := sha256.Sum256([]byte(t.Qualified()))
	return postgres.Ident(t.Schema, "rehearsal_mask_"+hex.EncodeToString(sum[:6]))
}

// body is the trigger's function. It assigns simple expressions: a query costs three times as much a row.
// Every function and type is written with its schema, so search_path decides nothing.
func (t Table) body() string {
	var declare, begin, assign, end strings.Builder
	if t.hashes() {
		declare.WriteString(declareKey)
		begin.WriteString(checkKey)
	}
	if l, ok := t.deepest(); ok {
		declare.WriteString(l.declare())
	}
	if t.parts() {
		declare.WriteString(declareParts)
	}
	if sql := t.expressions(); len(sql) > 0 {
		declare.WriteString("\trehearsal_sql record;\n")
		fmt.Fprintf(&begin, "\tSELECT %s INTO rehearsal_sql FROM (SELECT NEW.*) AS original;\n", selectList(sql))
		for i, c := range sql {
			fmt.Fprintf(&end, "\tNEW.%s := rehearsal_sql.v%d;\n", ident(c.Name), i+1)
		}
	}
	for _, c := range t.Masked {
		if c.Verb.assign != nil {
			assign.WriteString(tabbed(c.Verb.assign(c)) + "\n")
		}
	}
	return restoreNewlines("\n#variable_conflict use_column\nDECLARE\n" + declare.String() + "BEGIN\n" + begin.String() +
		assign.String() + end.String() + "\tRETURN NEW;\nEND\n")
}

// The settings are hex without \x: PGOPTIONS takes a backslash for itself.
const (
	declareKey = "\t" + ipadVar + " pg_catalog.bytea := pg_catalog.decode(pg_catalog.current_setting('" + ipadSetting + "', true), 'hex');\n" +
		"\t" + opadVar + " pg_catalog.bytea := pg_catalog.decode(pg_catalog.current_setting('" + opadSetting + "', true), 'hex');\n" +
		"\t" + hashVar + " pg_catalog.bytea;\n"
	checkKey = "\tIF pg_catalog.length(" + ipadVar + ") IS DISTINCT FROM 64 OR pg_catalog.length(" + opadVar + ") IS DISTINCT FROM 64 THEN\n" +
		"\t\tRAISE EXCEPTION 'this session has no masking key: " + ipadSetting + " or " + opadSetting + " is not set';\n\tEND IF;\n" +
		"\tIF TG_LEVEL = 'STATEMENT' THEN\n\t\tRETURN NULL;\n\tEND IF;\n"
)

// parts tells whether the trigger masks parts of a value: elements of an array, or what stands in a document.
func (t Table) parts() bool {
	return slices.ContainsFunc(t.Masked, func(c Column) bool { return c.paths != nil || c.Element != "" && c.Verb.pseudonym != nil })
}

const declareParts = "\t" + textVar + " pg_catalog.text; " + elementsVar + " pg_catalog.text[];\n"

// deepest is the deepest level of the table's documents, if it has any.
func (t Table) deepest() (deepest level, any bool) {
	for _, c := range t.Masked {
		if c.paths != nil {
			deepest, any = max(deepest, level(c.paths.depth())), true
		}
	}
	return deepest, any
}

// expressions are the columns of the verb sql.
func (t Table) expressions() []Column {
	var found []Column
	for _, c := range t.Masked {
		if c.Verb == sqlVerb {
			found = append(found, c)
		}
	}
	return found
}

// selectList ends each expression with a new line, in case it ends in a comment.
func selectList(columns []Column) string {
	items := make([]string, len(columns))
	for i, c := range columns {
		items[i] = fmt.Sprintf("(%s\n) AS v%d", c.expression, i+1)
	}
	return strings.Join(items, ", ")
}

// tryout evaluates the expressions on no row, under the search_path that pg_restore sets.
func (t Table) tryout() string {
	sql := t.expressions()
	if len(sql) == 0 {
		return ""
	}
	return fmt.Sprintf("DO %s;\n", dollarQuote(fmt.Sprintf(
		"\nBEGIN\n\tPERFORM pg_catalog.set_config('search_path', '', true);\n\tPERFORM %s FROM ONLY %s AS original LIMIT 0;\nEND\n",
		selectList(sql), t.ident())))
}

// dollarQuote quotes a function's body with a tag that it does not hold.
func dollarQuote(body string) string {
	tag := "$mask$"
	for n := 1; strings.Contains(body, tag); n++ {
		tag = fmt.Sprintf("$mask%d$", n)
	}
	return tag + body + tag
}

// A new line inside a quoted name or literal must survive tabbed: in statements that are still to be
// indented it stands as a NUL, which neither PostgreSQL's names nor its texts can hold.

func ident(name string) string   { return strings.ReplaceAll(postgres.Ident(name), "\n", "\x00") }
func literal(text string) string { return strings.ReplaceAll(postgres.Literal(text), "\n", "\x00") }

func restoreNewlines(statements string) string { return strings.ReplaceAll(statements, "\x00", "\n") }
