package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"rehearsal/internal/lab"
	"rehearsal/internal/postgres"
)

const catalogSchema = `
CREATE EXTENSION citext SCHEMA public;
CREATE EXTENSION hstore SCHEMA public;
CREATE SCHEMA "Billing Dept";
CREATE SCHEMA other;
CREATE DOMAIN short AS varchar(20);
CREATE DOMAIN shorter AS short NOT NULL;
CREATE DOMAIN plain AS text;
CREATE DOMAIN shorts AS varchar(7)[] NOT NULL;
CREATE TYPE mood AS ENUM ('sad');
CREATE TYPE other.text AS (a int);
CREATE TABLE public.types (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text, b varchar(10) NOT NULL, gone int, c char(3), d short, e shorter, f plain NOT NULL,
	g citext, h text[], i varchar(5)[], j jsonb, k mood, l int4range, m other.text, n hstore, o bit(4), p name, q char,
	r text GENERATED ALWAYS AS (upper(a)) STORED, s numeric(10,2), t "char", u timestamp(3) with time zone, v mood[],
	w short[], x shorts, y int4multirange, z other.text[][], EXCLUDE USING gist (l WITH &&) WHERE (a IS NULL)
);
ALTER TABLE types DROP COLUMN gone;
CREATE UNIQUE INDEX types_ab ON types (b, a) INCLUDE (c);
CREATE UNIQUE INDEX types_expr ON types (lower(d), p) WHERE e IS NULL;
CREATE UNIQUE INDEX types_part ON types (g) WHERE (f IS NOT NULL);
CREATE UNIQUE INDEX types_nulls ON types (d) NULLS NOT DISTINCT;
CREATE INDEX types_plain ON types (h);
CREATE TABLE "Billing Dept"."Invoice #" ("Id" int PRIMARY KEY, type_id bigint REFERENCES types MATCH FULL, "b""b" varchar(10), x text);
ALTER TABLE types ADD CONSTRAINT types_b_a_key UNIQUE (b, a);
ALTER TABLE "Billing Dept"."Invoice #" ADD CONSTRAINT both_fkey FOREIGN KEY (x, "b""b") REFERENCES types (a, b);
CREATE TABLE visits (at date NOT NULL, mail text, id int, PRIMARY KEY (id, at, mail)) PARTITION BY RANGE (at);
CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2026-02-01') PARTITION BY LIST (id);
CREATE TABLE other.visits_1a PARTITION OF visits_1 FOR VALUES IN (1);
CREATE UNIQUE INDEX own ON other.visits_1a (mail);
CREATE TABLE hashed (mail text, x int) PARTITION BY LIST (lower(mail));
CREATE TABLE to_part (id int, at date, mail text, FOREIGN KEY (id, at, mail) REFERENCES visits);
CREATE TABLE parent (id int); CREATE TABLE child (y int) INHERITS (parent);
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE far (id int) SERVER s;
CREATE UNLOGGED TABLE fast (); CREATE TEMP TABLE passing (id int);
CREATE VIEW seen AS SELECT * FROM parent; CREATE MATERIALIZED VIEW kept AS SELECT * FROM parent;
CREATE TABLE member (id int); ALTER EXTENSION hstore ADD TABLE member;
`

// describe writes a schema down, one fact a line.
func describe(schema []postgres.Table) string {
	var b strings.Builder
	for _, t := range schema {
		fmt.Fprintf(&b, "%s %c", t.Qualified(), t.Kind)
		if t.Root != t.Qualified() {
			b.WriteString(" of " + t.Root)
		}
		b.WriteString("\n")
		for _, c := range t.Columns {
			fmt.Fprintf(&b, "  %s %s = %s %c%c %d", c.Name, c.Type, c.Base, c.Category, c.Kind, c.TypeMod)
			if c.Element != "" {
				b.WriteString(" of " + c.Element)
			}
			for _, flag := range []struct {
				word string
				set  bool
			}{{" not-null", c.NotNull}, {" generated", c.Generated}, {" partition", c.Partition}} {
				if flag.set {
					b.WriteString(flag.word)
				}
			}
			b.WriteString("\n")
		}
		for _, u := range t.Unique {
			fmt.Fprintf(&b, "  unique %s %q %q %q %t %t\n", u.Name, u.Columns, u.Expression, u.Predicate, u.NullsEqual, u.Exclusion)
		}
		for _, k := range t.ForeignKeys {
			fmt.Fprintf(&b, "  key %s %q -> %s %q %t\n", k.Name, k.Columns, k.Table, k.References, k.MatchFull)
		}
	}
	return b.String()
}

const catalogWant = `"Billing Dept"."Invoice #" r
  Id integer = int4 Nb 0 not-null
  type_id bigint = int8 Nb 0
  b"b character varying(10) = varchar Sb 10
  x text = text Sb 0
  unique Invoice #_pkey ["Id"] [] "" false false
  key Invoice #_type_id_fkey ["type_id"] -> public.types ["id"] true
  key both_fkey ["x" "b\"b"] -> public.types ["a" "b"] false
other.visits_1a r of public.visits
  at date = date Db 0 not-null partition
  mail text = text Sb 0 not-null
  id integer = int4 Nb 0 not-null partition
  unique own ["mail"] [] "" false false
public.child r
  id integer = int4 Nb 0
  y integer = int4 Nb 0
public.far f
  id integer = int4 Nb 0
public.fast r
public.hashed p
  mail text = text Sb 0 partition
  x integer = int4 Nb 0
public.parent r
  id integer = int4 Nb 0
public.to_part r
  id integer = int4 Nb 0
  at date = date Db 0
  mail text = text Sb 0
  key to_part_id_at_mail_fkey ["id" "at" "mail"] -> public.visits ["id" "at" "mail"] false
public.types r
  id bigint = int8 Nb 0 not-null
  a text = text Sb 0
  b character varying(10) = varchar Sb 10 not-null
  c character(3) = bpchar Sb 3
  d short = varchar Sb 20
  e shorter = varchar Sb 20 not-null
  f plain = text Sb 0 not-null
  g citext = citext Sb 0
  h text[] = _text Ab 0 of text
  i character varying(5)[] = _varchar Ab 5 of varchar
  j jsonb = jsonb Ub 0
  k mood = public.mood Ee 0
  l int4range = int4range Rr 0
  m other.text = other.text Cc 0
  n hstore = hstore Ub 0
  o bit(4) = bit Vb 4
  p name = name Sb 0
  q character(1) = bpchar Sb 1
  r text = text Sb 0 generated
  s numeric(10,2) = numeric Nb 0
  t "char" = char Zb 0
  u timestamp(3) with time zone = timestamptz Db 0
  v mood[] = public._mood Ab 0 of public.mood
  w short[] = public._short Ab 20 of varchar
  x shorts = _varchar Ab 7 of varchar not-null
  y int4multirange = int4multirange Rm 0
  z other.text[] = other._text Ab 0 of other.text
  unique types_ab ["b" "a"] [] "" false false
  unique types_b_a_key ["b" "a"] [] "" false false
  unique types_expr ["p"] ["d" "e"] "(e IS NULL)" false false
  unique types_l_excl ["l"] [] "(a IS NULL)" false true
  unique types_nulls ["d"] [] "" true false
  unique types_part ["g"] [] "(f IS NOT NULL)" false false
  unique types_pkey ["id"] [] "" false false
public.visits p
  at date = date Db 0 not-null partition
  mail text = text Sb 0 not-null
  id integer = int4 Nb 0 not-null
  unique visits_pkey ["id" "at" "mail"] [] "" false false
public.visits_1 p of public.visits
  at date = date Db 0 not-null partition
  mail text = text Sb 0 not-null
  id integer = int4 Nb 0 not-null partition
`

func TestSchemaReadsEveryTableThatADumpHolds(t *testing.T) {
	c, err := lab.StartCluster(t.Context(), "catalog", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", c.Socket, c.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), catalogSchema); err != nil {
		t.Fatal(err)
	}
	schema, err := postgres.Schema(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(describe(schema), "\n")
	want := strings.Split(catalogWant, "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("line %d differs; got:\n%s", i+1, strings.Join(got[min(i, len(got)):], "\n"))
		}
	}
}
