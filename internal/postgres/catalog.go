package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Schema returns every table of the database conn is connected to, in the order of schema and name: tables,
// partitioned tables with their partitions, and foreign tables. PostgreSQL's own tables, temporary ones and
// those of extensions are not among them. It needs PostgreSQL 12.
//
// Unique indexes and foreign keys are in a dump's post-data section: a database built from pre-data alone
// has none.
func Schema(ctx context.Context, conn *pgx.Conn) ([]Table, error) {
	relations, err := collect[relation](ctx, conn, relationQuery)
	if err != nil {
		return nil, fmt.Errorf("reading the tables of %s: %w", conn.Config().Database, err)
	}
	c := newCatalog(relations)
	for _, part := range []struct {
		name string
		read func(context.Context, *pgx.Conn) error
	}{
		{"columns", c.readColumns},
		{"partition keys", c.readPartitionKeys},
		{"unique indexes", c.readUnique},
		{"foreign keys", c.readForeignKeys},
	} {
		if err := part.read(ctx, conn); err != nil {
			return nil, fmt.Errorf("reading the %s of %s: %w", part.name, conn.Config().Database, err)
		}
	}
	return c.tables, nil
}

// catalog is a schema being read. Tables keep the order of relationQuery.
type catalog struct {
	tables []Table
	index  map[uint32]int    // oid to index in tables
	parent map[uint32]uint32 // oid of a partition to that of its parent
}

func newCatalog(relations []relation) *catalog {
	c := &catalog{tables: make([]Table, len(relations)), index: map[uint32]int{}, parent: map[uint32]uint32{}}
	for i, r := range relations {
		c.tables[i] = Table{Schema: r.Schema, Name: r.Name, Kind: r.Kind[0]}
		c.index[r.OID] = i
		if r.Parent != 0 {
			c.parent[r.OID] = r.Parent
		}
	}
	for _, r := range relations {
		c.tables[c.index[r.OID]].Root = c.root(r.OID)
	}
	return c
}

// root returns the qualified name of oid's topmost partitioned parent, or of oid itself.
func (c *catalog) root(oid uint32) string {
	for c.parent[oid] != 0 {
		oid = c.parent[oid]
	}
	return c.tables[c.index[oid]].Qualified()
}

type relation struct {
	OID          uint32
	Schema, Name string
	Kind         string
	Parent       uint32
}

// Classic inheritance (pg_inherits without relispartition) makes tables of their own: pg_dump dumps them so.
const relationQuery = `
SELECT c.oid, n.nspname, c.relname, c.relkind::text, coalesce(i.inhparent, 0)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
 WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                      AND d.deptype = 'e')
 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`

type attribute struct {
	Table              uint32
	Name, Type, Base   string
	Element            string
	Category, Kind     string
	TypeMod            int
	NotNull, Generated bool
}

// A domain over a domain has no type modifier of its own, so the last one met on the way down counts; an array
// has that of its elements. The modifier of varchar and char counts 4 bytes of header.
const columnQuery = `
WITH RECURSIVE domain(start, type, typmod, required) AS (
	SELECT oid, typbasetype, typtypmod, typnotnull FROM pg_catalog.pg_type WHERE typtype = 'd'
	UNION ALL
	SELECT d.start, t.typbasetype, CASE WHEN t.typtypmod < 0 THEN d.typmod ELSE t.typtypmod END, d.required OR t.typnotnull
	  FROM domain d JOIN pg_catalog.pg_type t ON t.oid = d.type AND t.typtype = 'd'
), base AS (
	SELECT d.* FROM domain d JOIN pg_catalog.pg_type t ON t.oid = d.type AND t.typtype <> 'd'
), type AS (
	SELECT t.oid, t.typname, t.typcategory, t.typtype, CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END AS typelem,
	       CASE WHEN n.nspname = 'pg_catalog' OR x.objid IS NOT NULL THEN t.typname::text
	            ELSE pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname) END AS name
	  FROM pg_catalog.pg_type t
	  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
	  LEFT JOIN pg_catalog.pg_depend x
	       ON x.classid = 'pg_catalog.pg_type'::regclass AND x.objid = t.oid AND x.objsubid = 0 AND x.deptype = 'e'
)
SELECT a.attrelid, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), t.name, coalesce(e.name, ''),
       t.typcategory::text, t.typtype::text,
       CASE WHEN m.typmod < 0 THEN 0 WHEN m.typname IN ('varchar', 'bpchar') THEN m.typmod - 4
            WHEN m.typname IN ('bit', 'varbit') THEN m.typmod ELSE 0 END,
       a.attnotnull OR coalesce(d.required, false), a.attgenerated <> ''
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'f')
  LEFT JOIN base d ON d.start = a.atttypid
  JOIN type t ON t.oid = coalesce(d.type, a.atttypid)
  LEFT JOIN base de ON de.start = t.typelem
  LEFT JOIN type e ON e.oid = coalesce(de.type, t.typelem)
 CROSS JOIN LATERAL (SELECT coalesce(de.typmod, d.typmod, a.atttypmod), coalesce(e.typname, t.typname)) m(typmod, typname)
 WHERE a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum`

func (c *catalog) readColumns(ctx context.Context, conn *pgx.Conn) error {
	rows, err := collect[attribute](ctx, conn, columnQuery)
	for _, r := range rows {
		if i, ok := c.index[r.Table]; ok {
			c.tables[i].Columns = append(c.tables[i].Columns, Column{Name: r.Name, Type: r.Type, Base: r.Base,
				Element: r.Element, Category: r.Category[0], Kind: r.Kind[0], TypeMod: r.TypeMod, NotNull: r.NotNull, Generated: r.Generated})
		}
	}
	return err
}

type partitionKey struct {
	Table   uint32
	Columns []string
}

// Every column of a partition key, also one that only an expression mentions, depends internally on its table.
const partitionKeyQuery = `
SELECT p.partrelid, array_agg(a.attname::text)
  FROM pg_catalog.pg_partitioned_table p
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = p.partrelid AND d.objsubid > 0
       AND d.refclassid = d.classid AND d.refobjid = d.objid AND d.refobjsubid = 0 AND d.deptype = 'i'
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.objid AND a.attnum = d.objsubid
 GROUP BY p.partrelid`

func (c *catalog) readPartitionKeys(ctx context.Context, conn *pgx.Conn) error {
	rows, err := collect[partitionKey](ctx, conn, partitionKeyQuery)
	keys := map[uint32][]string{}
	for _, r := range rows {
		keys[r.Table] = r.Columns
	}
	for oid, i := range c.index {
		for up := oid; up != 0; up = c.parent[up] {
			for j := range c.tables[i].Columns {
				col := &c.tables[i].Columns[j]
				col.Partition = col.Partition || slices.Contains(keys[up], col.Name)
			}
		}
	}
	return err
}

type uniqueIndex struct {
	Table               uint32
	Name                string
	Columns, Expression []string
	Predicate           string
	NullsEqual          bool
	Exclusion           bool
}

// indnullsnotdistinct is there from PostgreSQL 15 on. An index with expressions depends on every column that
// these and its predicate mention.
const uniqueQuery = `
SELECT i.indrelid, x.relname,
       ARRAY(SELECT a.attname::text
               FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY k(attnum, n)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
              WHERE k.n <= i.indnkeyatts ORDER BY k.n),
       ARRAY(SELECT a.attname::text
               FROM pg_catalog.pg_attribute a
              WHERE i.indexprs IS NOT NULL AND a.attrelid = i.indrelid AND a.attnum > 0 AND a.attnum <> ALL (i.indkey)
                AND EXISTS (SELECT FROM pg_catalog.pg_depend d
                             WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = i.indexrelid
                               AND d.refclassid = d.classid AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)
              ORDER BY a.attnum),
       coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), ''),
       coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false), i.indisexclusion
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
 WHERE (i.indisunique OR i.indisexclusion) AND NOT x.relispartition
 ORDER BY x.relname COLLATE "C"`

func (c *catalog) readUnique(ctx context.Context, conn *pgx.Conn) error {
	rows, err := collect[uniqueIndex](ctx, conn, uniqueQuery)
	for _, r := range rows {
		if i, ok := c.index[r.Table]; ok {
			c.tables[i].Unique = append(c.tables[i].Unique, UniqueIndex{Name: r.Name, Columns: r.Columns,
				Expression: r.Expression, Predicate: r.Predicate, NullsEqual: r.NullsEqual, Exclusion: r.Exclusion})
		}
	}
	return err
}

type foreignKey struct {
	Table      uint32
	Name       string
	Columns    []string
	Referenced uint32
	References []string
	MatchFull  bool
}

// A constraint with a parent is the copy that partitioning made of one that is listed itself.
const foreignKeyQuery = `
SELECT k.conrelid, k.conname,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY u(attnum, n)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY u.n),
       k.confrelid,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY u(attnum, n)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum ORDER BY u.n),
       k.confmatchtype = 'f'
  FROM pg_catalog.pg_constraint k
 WHERE k.contype = 'f' AND k.conparentid = 0
 ORDER BY k.conname COLLATE "C"`

func (c *catalog) readForeignKeys(ctx context.Context, conn *pgx.Conn) error {
	rows, err := collect[foreignKey](ctx, conn, foreignKeyQuery)
	for _, r := range rows {
		i, ok := c.index[r.Table]
		if _, known := c.index[r.Referenced]; ok && known {
			c.tables[i].ForeignKeys = append(c.tables[i].ForeignKeys, ForeignKey{Name: r.Name, Columns: r.Columns,
				Table: c.root(r.Referenced), References: r.References, MatchFull: r.MatchFull})
		}
	}
	return err
}

func collect[T any](ctx context.Context, conn *pgx.Conn, query string) ([]T, error) {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}
