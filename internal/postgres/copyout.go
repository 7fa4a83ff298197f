package postgres

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
)

// CopyOut writes every row of a table or materialized view to w in COPY's text format, all columns in the table's order,
// those that are generated too. Rows of inheriting tables belong to those.
func CopyOut(ctx context.Context, conn *pgx.Conn, t Table, w io.Writer) error {
	var columns []string
	direct := t.Kind == 'r'
	for _, c := range t.Columns {
		columns = append(columns, Ident(c.Name))
		direct = direct && !c.Generated
	}
	source := fmt.Sprintf("%s (%s)", Ident(t.Schema, t.Name), strings.Join(columns, ", "))
	if !direct {
		source = fmt.Sprintf("(SELECT %s FROM ONLY %s)", strings.Join(columns, ", "), Ident(t.Schema, t.Name))
	}
	_, err := conn.PgConn().CopyTo(ctx, w, "COPY "+source+" TO STDOUT")
	return err
}

// MaterializedViews returns the materialized views that hold rows, with their columns. PostgreSQL's own and those of
// extensions are not among them.
func MaterializedViews(ctx context.Context, conn *pgx.Conn) ([]Table, error) {
	type column struct {
		Schema, Name, Column, Base string
		Category                   string
	}
	columns, err := collect[column](ctx, conn, `
		SELECT n.nspname, c.relname, a.attname, t.typname, t.typcategory::text
		  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
		 WHERE c.relkind = 'm' AND c.relispopulated AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname !~ '^pg_'
		   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
		 ORDER BY 1, 2, a.attnum`)
	if err != nil {
		return nil, fmt.Errorf("reading the materialized views of %s: %w", conn.Config().Database, err)
	}
	var views []Table
	for _, c := range columns {
		if n := len(views); n == 0 || views[n-1].Schema != c.Schema || views[n-1].Name != c.Name {
			views = append(views, Table{Schema: c.Schema, Name: c.Name, Kind: 'm'})
		}
		v := &views[len(views)-1]
		v.Columns = append(v.Columns, Column{Name: c.Column, Base: c.Base, Category: c.Category[0]})
	}
	return views, nil
}

// TableSizes returns the bytes on disk of the tables and materialized views of conn's database, with what is out of line
// and without indexes, by their Qualified names.
func TableSizes(ctx context.Context, conn *pgx.Conn) (map[string]int64, error) {
	type table struct {
		Schema, Name string
		Bytes        int64
	}
	tables, err := collect[table](ctx, conn, `
		SELECT n.nspname, c.relname, pg_table_size(c.oid)
		  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		 WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_'`)
	if err != nil {
		return nil, fmt.Errorf("reading the sizes of tables of %s: %w", conn.Config().Database, err)
	}
	sizes := map[string]int64{}
	for _, t := range tables {
		sizes[Qualify(t.Schema, t.Name)] = t.Bytes
	}
	return sizes, nil
}
