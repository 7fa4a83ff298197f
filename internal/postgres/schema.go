package postgres

// Table is one table of a database as pg_catalog describes it, with what a mask must know about it.
type Table struct {
	Schema, Name string
	Kind         byte   // pg_class.relkind: 'r' table, 'p' partitioned table, 'f' foreign table
	Root         string // Qualified name of the topmost partitioned parent; the table's own where it is no partition
	Columns      []Column
	Unique       []UniqueIndex
	ForeignKeys  []ForeignKey
}

// Column is one live column.
type Column struct {
	Name      string
	Type      string // format_type() of the column, e.g. "character varying(40)", "citext", "text[]"
	Base      string // pg_type.typname below domains: varchar, citext, _text…; Qualified where neither PostgreSQL nor an extension made it
	Element   string // of an array: the Base of its elements
	Category  byte   // pg_type.typcategory of Base: 'S' string, 'N' number, 'D' date/time, 'U' user, 'E' enum, 'A' array…
	Kind      byte   // pg_type.typtype of Base: 'b' base, 'c' composite, 'e' enum, 'r' range, 'm' multirange
	TypeMod   int    // n of varchar(n), char(n), bit(n) or varbit(n), also below a domain or in an array; 0: no limit
	NotNull   bool   // also where the domain says so
	Generated bool   // GENERATED ALWAYS AS (…) STORED
	Partition bool   // part of a partition key of this table or a parent
}

// UniqueIndex is a unique or primary-key index, or that of an exclusion constraint, that the table has of its own,
// not from a partitioned parent.
type UniqueIndex struct {
	Name       string
	Columns    []string // its plain key columns
	Expression []string // where it has expressions: the other columns that these or the predicate mention
	Predicate  string   // of a partial index, as pg_get_expr spells it
	NullsEqual bool     // NULLS NOT DISTINCT
	Exclusion  bool     // EXCLUDE: its operators need not be equality
}

// ForeignKey pairs columns of the table with those of the referenced table.
type ForeignKey struct {
	Name       string
	Columns    []string
	Table      string // Qualified name of the referenced table's Root
	References []string
	MatchFull  bool // MATCH FULL: NULL in one column and a value in another is an error
}

// Qualified returns schema.table in the spelling of columns.yaml and of manifests: bare where both names
// are plain lower-case identifiers, else both quoted as in SQL.
func (t Table) Qualified() string { return Qualify(t.Schema, t.Name) }
