package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rehearsal/internal/run"
)

// TableRows is the exact number of rows of one table.
type TableRows struct {
	Name string `json:"name"` // as Qualify spells it
	Rows int64  `json:"rows"`
	Root string `json:"root,omitempty"` // of a partition: its topmost parent
}

// countChunk is how many tables one statement counts: few round trips, and no statement of megabytes.
const countChunk = 200

// Count counts the rows of every table that holds rows of its own: partitions yes, their parents no, nor
// foreign tables, whose rows pg_dump leaves out as well. Within a transaction it sees that snapshot.
func Count(ctx context.Context, conn *pgx.Conn, tables []Table) ([]TableRows, error) {
	var counts []TableRows
	var parts []string
	for _, t := range tables {
		if t.Kind != 'r' {
			continue
		}
		parts = append(parts, fmt.Sprintf("SELECT %d, count(*) FROM ONLY %s", len(counts), Ident(t.Schema, t.Name)))
		c := TableRows{Name: t.Qualified()}
		if t.Root != c.Name {
			c.Root = t.Root
		}
		counts = append(counts, c)
	}
	for len(parts) > 0 {
		n := min(countChunk, len(parts))
		rows, err := conn.Query(ctx, strings.Join(parts[:n], " UNION ALL "))
		if err != nil {
			return nil, fmt.Errorf("counting rows: %w", err)
		}
		var i int
		var count int64
		_, err = pgx.ForEachRow(rows, []any{&i, &count}, func() error { counts[i].Rows = count; return nil })
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "42501" { // insufficient_privilege
			role := Ident(conn.Config().User)
			return nil, run.Fail(run.Incomplete, fmt.Sprintf("as superuser: GRANT pg_read_all_data TO %s, or for row-level security: ALTER ROLE %[1]s BYPASSRLS", role),
				"counting rows: %s", pg.Message)
		}
		if err != nil {
			return nil, fmt.Errorf("counting rows: %w", err)
		}
		parts = parts[n:]
	}
	return counts, nil
}

// Snapshot opens a read-only transaction on conn and exports its snapshot; the transaction must stay open
// while pg_dump starts its workers. Row security is off, so that a policy fails the count instead of hiding rows.
func Snapshot(ctx context.Context, conn *pgx.Conn) (tx pgx.Tx, id string, err error) {
	if _, err := conn.Exec(ctx, "SET row_security = off"); err != nil {
		return nil, "", fmt.Errorf("opening the snapshot: %w", err)
	}
	tx, err = conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, "", fmt.Errorf("opening the snapshot: %w", err)
	}
	if err := tx.QueryRow(ctx, "SELECT pg_export_snapshot()").Scan(&id); err != nil {
		tx.Rollback(context.WithoutCancel(ctx))
		return nil, "", fmt.Errorf("exporting the snapshot: %w", err)
	}
	return tx, id, nil
}

// DatabaseBytes is the size of the session's database on disk, indexes and dead rows included.
func DatabaseBytes(ctx context.Context, conn *pgx.Conn) (bytes int64, err error) {
	err = conn.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&bytes)
	return bytes, err
}
