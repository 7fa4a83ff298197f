package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Integrity lists what is wrong with a restored database though every row is there: sequences that would hand out a
// number that is taken, indexes that are not valid, collations of another version than the library's. readable are
// the columns whose values are the source's own; a masked or emptied one says nothing about its sequence.
func Integrity(ctx context.Context, conn *pgx.Conn, readable func(table, column string) bool) (problems []string, err error) {
	if problems, err = behind(ctx, conn, readable); err != nil {
		return nil, fmt.Errorf("comparing sequences with their columns: %w", err)
	}
	for _, sql := range []string{invalidIndexes, otherCollations} {
		rows, err := conn.Query(ctx, sql)
		if err != nil {
			return nil, fmt.Errorf("looking at indexes and collations: %w", err)
		}
		more, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, fmt.Errorf("looking at indexes and collations: %w", err)
		}
		problems = append(problems, more...)
	}
	return problems, nil
}

const invalidIndexes = `
SELECT 'index ' || i.indexrelid::regclass || ' of ' || i.indrelid::regclass || ' is not valid'
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT (i.indisvalid AND i.indisready) AND n.nspname !~ '^pg_'
 ORDER BY 1`

// otherCollations names collations that indexes may be sorted by and that the operating system sorts otherwise by now.
const otherCollations = `
SELECT 'collation ' || c.oid::regcollation || ' is of version ' || c.collversion || ', the system has ' || pg_collation_actual_version(c.oid)
  FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
 WHERE n.nspname !~ '^pg_' AND c.collversion <> pg_collation_actual_version(c.oid)
 ORDER BY 1`

// owned are the sequences that fill a column, by DEFAULT nextval() of a serial or as an identity. One that cycles may
// well hand out numbers again.
const owned = `
SELECT n.nspname, t.relname, a.attname, s.oid::regclass::text, q.seqincrement
  FROM pg_sequence q
  JOIN pg_class s ON s.oid = q.seqrelid
  JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.objsubid = 0
       AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
  JOIN pg_class t ON t.oid = d.refobjid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
 WHERE NOT q.seqcycle
 ORDER BY s.oid::regclass::text`

// behind lists sequences whose last value their column is beyond. (pg_sequences.last_value is NULL before the first use.)
func behind(ctx context.Context, conn *pgx.Conn, readable func(table, column string) bool) (problems []string, err error) {
	type sequence struct {
		Schema, Table, Column, Name string
		Increment                   int64
	}
	sequences, err := collect[sequence](ctx, conn, owned)
	if err != nil {
		return nil, err
	}
	for _, s := range sequences {
		if !readable(Qualify(s.Schema, s.Table), s.Column) {
			continue
		}
		extreme, beyond := "max", ">"
		if s.Increment < 0 {
			extreme, beyond = "min", "<"
		}
		var reached, last *string
		var isBehind bool
		sql := fmt.Sprintf(`SELECT m.v::text, l.v::text, m.v IS NOT NULL AND (l.v IS NULL OR m.v %s l.v)
			FROM (SELECT %s(%s)::numeric AS v FROM %s) m, (SELECT pg_sequence_last_value(%s::regclass)::numeric AS v) l`,
			beyond, extreme, Ident(s.Column), Ident(s.Schema, s.Table), Literal(s.Name))
		if err := conn.QueryRow(ctx, sql).Scan(&reached, &last, &isBehind); err != nil {
			return nil, err
		}
		if isBehind {
			problems = append(problems, fmt.Sprintf("sequence %s stands at %s, %s.%s at %s: the next insert fails or overwrites", s.Name, orNever(last),
				Qualify(s.Schema, s.Table), s.Column, *reached))
		}
	}
	return problems, nil
}

func orNever(value *string) string {
	if value == nil {
		return "its start"
	}
	return *value
}
