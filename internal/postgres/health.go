package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Health is what a server says of itself and of one of its databases, beside its Identity.
type Health struct {
	HasDatabase bool     // the server has the database asked for
	Backend     int      // our session's process, as the server's PID namespace counts
	Session     string   // the session's role and database, as its process title spells them
	Port        int      // the server's own: behind a container's port mapping not the one that was dialled
	Listen      []string // listen_addresses
	Sockets     []string // unix_socket_directories; nil where the role may not see them
	ReadsFiles  bool     // the role may pg_read_file

	Checksums        bool
	ChecksumFailures int64     // in the database and in what all databases share, since the statistics were reset
	LastFailure      time.Time // of a checksum

	// What pg_control has on disk, and where this server itself stands: its next WAL record begins at Insert,
	// and XidsLeft transactions were begun since the one that pg_control names as the next.
	Checkpoint, Insert string
	CheckpointAhead    bool // pg_control's checkpoint is not before Insert, hence not one of this server's
	XidsLeft           int

	// The version of the database's collation: as its indexes were built with, and as it is now. Both empty
	// before PostgreSQL 15, and for C and its like.
	CollationRecorded, CollationActual string
}

// Health asks the server behind conn, in one round trip. Any login role may; id is the server's Identity.
//
// pg_control is read before the server's own position, in one row: what a server writes there it has itself
// passed. age counts from the next transaction to be begun where ours has no number (GetStableLatestTransactionId).
func (s *Server) Health(ctx context.Context, conn *pgx.Conn, id Identity) (Health, error) {
	recorded, actual := "NULL::text", "NULL::text"
	if id.Major >= 15 {
		recorded, actual = "d.datcollversion", "pg_database_collation_actual_version(d.oid)"
	}
	var h Health
	var listen string
	var sockets *string
	var last *time.Time
	err := conn.QueryRow(ctx, `SELECT d.oid IS NOT NULL, pg_backend_pid(), current_user || ' ' || current_database(),
			current_setting('port')::int, current_setting('listen_addresses'),
			(SELECT setting FROM pg_settings WHERE name = 'unix_socket_directories'),
			has_function_privilege('pg_read_file(text)', 'EXECUTE'), current_setting('data_checksums') = 'on',
			coalesce(f.failures, 0), f.last, c.checkpoint_lsn::text, coalesce(i.lsn::text, ''),
			coalesce(c.checkpoint_lsn >= i.lsn, false), age(split_part(c.next_xid, ':', 2)::xid),
			coalesce(`+recorded+`, ''), coalesce(`+actual+`, '')
		FROM pg_control_checkpoint() c
		LEFT JOIN pg_database d ON d.datname = $1
		LEFT JOIN LATERAL (SELECT CASE WHEN NOT pg_is_in_recovery() AND c.checkpoint_lsn IS NOT NULL
			THEN pg_current_wal_insert_lsn() END AS lsn OFFSET 0) i ON true
		LEFT JOIN LATERAL (SELECT sum(checksum_failures)::bigint AS failures, max(checksum_last_failure) AS last
			FROM pg_stat_database WHERE datid IN (0, d.oid)) f ON true`, s.Spec.Name).
		Scan(&h.HasDatabase, &h.Backend, &h.Session, &h.Port, &listen, &sockets, &h.ReadsFiles, &h.Checksums,
			&h.ChecksumFailures, &last, &h.Checkpoint, &h.Insert, &h.CheckpointAhead, &h.XidsLeft,
			&h.CollationRecorded, &h.CollationActual)
	if err != nil {
		return h, fmt.Errorf("asking %s how it is: %w", s.where(), err)
	}
	h.Listen = listed(listen)
	if sockets != nil {
		h.Sockets = append([]string{}, listed(*sockets)...)
	}
	if last != nil {
		h.LastFailure = *last
	}
	return h, nil
}

// listed reads a list as SHOW spells it; names with blanks or commas are quoted as identifiers are.
func listed(setting string) (words []string) {
	for rest := strings.TrimSpace(setting); rest != ""; {
		var word string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			word, rest, _ = strings.Cut(strings.ReplaceAll(quoted, `""`, "\x00"), `"`)
			word, rest = strings.ReplaceAll(word, "\x00", `"`), strings.ReplaceAll(rest, "\x00", `""`)
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			word, rest, _ = strings.Cut(rest, ",")
		}
		words = append(words, strings.TrimSpace(word))
		rest = strings.TrimSpace(rest)
	}
	return words
}

// PostmasterPID is the text of the server's postmaster.pid, by SQL; it needs Health.ReadsFiles.
func PostmasterPID(ctx context.Context, conn *pgx.Conn) (text string, err error) {
	err = conn.QueryRow(ctx, "SELECT coalesce(pg_read_file('postmaster.pid'), '')").Scan(&text)
	return text, err
}

// Other is the same server's inventory entry by another address: a folder of sockets, or a TCP address.
func (s *Server) Other(address string) *Server {
	o := &Server{Host: s.Host, Spec: s.Spec}
	o.Spec.Socket, o.Spec.Address = "", address
	if strings.HasPrefix(address, "/") {
		o.Spec.Socket, o.Spec.Address = address, ""
	}
	return o
}

// Endpoint is what Connect dials on the host.
func (s *Server) Endpoint() (network, address string) { return s.endpoint() }
