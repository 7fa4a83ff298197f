package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Tuning is what decides how fast a server restores and where its WAL goes, as the session's role has it.
type Tuning struct {
	MaxWAL             int64 // max_wal_size in bytes
	MaintenanceWorkMem int64 // in bytes
	Archives           bool  // archive_mode is on or always
}

// Tune reads the settings; nothing is changed.
func Tune(ctx context.Context, conn *pgx.Conn) (t Tuning, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_size_bytes(current_setting('max_wal_size')), pg_size_bytes(current_setting('maintenance_work_mem')),
		current_setting('archive_mode') <> 'off'`).Scan(&t.MaxWAL, &t.MaintenanceWorkMem, &t.Archives)
	if err != nil {
		err = fmt.Errorf("reading the server's settings: %w", err)
	}
	return t, err
}
