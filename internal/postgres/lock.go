package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"rehearsal/internal/run"
)

// Lock is an advisory lock in the server's maintenance database, held by a session of its own. It ends with
// that session, so a run that was killed leaves no lock behind. Work that must not happen without the lock
// (the swap) is done in that session.
type Lock struct {
	Conn *pgx.Conn
}

// Lock takes the lock for work on database, or fails with run.Locked and says who holds it, from where and
// since when: the holder's application_name and the age of its session tell.
func (s *Server) Lock(ctx context.Context, database, target string) (*Lock, error) {
	conn, err := s.ConnectMaintenance(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.lock(ctx, conn, database, target); err != nil {
		conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return &Lock{Conn: conn}, nil
}

func (s *Server) lock(ctx context.Context, conn *pgx.Conn, database, target string) error {
	// application_name keeps 63 bytes of ASCII; the server cuts the rest.
	if _, err := conn.Exec(ctx, "SELECT set_config('application_name', $1, false)", "rehearsal "+target+" "+run.User()); err != nil {
		return fmt.Errorf("locking %s: %w", s.where(), err)
	}
	var ours bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", "rehearsal:"+database).Scan(&ours); err != nil {
		return fmt.Errorf("locking %s: %w", s.where(), err)
	}
	if ours {
		return nil
	}
	h, err := LockHolder(ctx, conn, database)
	if err != nil {
		return err
	}
	if h == nil {
		return run.Fail(run.Locked, "try again", "another run held the lock for %s on %s and has just ended", database, s.Host.Name())
	}
	return run.Fail(run.Locked, fmt.Sprintf("wait for it, or end it on %s: SELECT pg_terminate_backend(%d)", s.Host.Name(), h.PID),
		"another run holds the lock for %s on %s: %s, since %s (%s)", database, s.Host.Name(), h.Who,
		h.Since.Format(time.DateTime), run.Age(time.Since(h.Since)))
}

// Release gives the lock back by ending its session.
func (l *Lock) Release(ctx context.Context) error { return l.Conn.Close(ctx) }

// Holder is the session that holds a lock.
type Holder struct {
	PID   int
	Who   string // its application_name; empty where our role may not see it
	Since time.Time
}

// LockHolder returns who holds the Lock for work on database, or nil. It needs a session in the maintenance database
// and never takes the lock, not even for a moment: a run that starts just then must not be refused.
func LockHolder(ctx context.Context, conn *pgx.Conn, database string) (*Holder, error) {
	var h Holder
	err := conn.QueryRow(ctx, `SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.backend_start, now())
		FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
		  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended($1, 0)`, "rehearsal:"+database).Scan(&h.PID, &h.Who, &h.Since)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking who holds the lock for %s: %w", database, err)
	}
	return &h, nil
}
