package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rehearsal/internal/host"
)

// Identity says which server answers: what a backup's manifest keeps of its source, and what a target is
// compared with.
type Identity struct {
	SystemIdentifier string
	ServerVersion    string // e.g. "15.18 (Debian 15.18-0+deb12u1)"
	Major            int
	DataDirectory    string // "" where the role may not see it (pg_read_all_settings)
	StartedAt        time.Time
	LSN              string
	InRecovery       bool
}

// Identify reads the identity of the server behind conn. Any login role may.
func Identify(ctx context.Context, conn *pgx.Conn) (Identity, error) {
	var id Identity
	var number int
	err := conn.QueryRow(ctx, `SELECT system_identifier::text, current_setting('server_version'),
		current_setting('server_version_num')::int, pg_is_in_recovery(), pg_postmaster_start_time(),
		CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text,
		coalesce((SELECT setting FROM pg_settings WHERE name = 'data_directory'), '')
		FROM pg_control_system()`).
		Scan(&id.SystemIdentifier, &id.ServerVersion, &number, &id.InRecovery, &id.StartedAt, &id.LSN, &id.DataDirectory)
	if err != nil {
		return id, fmt.Errorf("asking the server who it is: %w", err)
	}
	id.Major = number / 10000
	return id, nil
}

// FreeDisk returns the free bytes of the file system that holds the server's data directory, and that
// directory. Where the role may not see data_directory and the inventory does not name it, the server's
// own command line tells it: the parent of our backend is the postmaster.
func (s *Server) FreeDisk(ctx context.Context, conn *pgx.Conn, id Identity) (free int64, dir string, err error) {
	dir = id.DataDirectory
	if dir == "" {
		dir = s.Spec.DataDirectory
	}
	if dir == "" {
		if dir, err = s.postmasterDirectory(ctx, conn); err != nil {
			return 0, "", err
		}
	}
	free, err = FreeAt(ctx, s.Host, dir)
	return free, dir, err
}

// FreeAt returns the free bytes, for ordinary users, of the file system that holds dir on h. A directory
// that we may not enter is looked at through its nearest parent that we may.
func FreeAt(ctx context.Context, h *host.Host, dir string) (int64, error) {
	out, err := h.Output(ctx, host.Cmd{
		Script: `d=$1; until df -Pk "$d" 2>/dev/null; do p=${d%/*}; [ "$p" != "$d" ] || exit 1; d=${p:-/}; done`,
		Args:   []string{dir}, Env: map[string]string{"LC_ALL": "C"}})
	if err != nil {
		return 0, fmt.Errorf("looking at the free disk at %s on %s: %w", dir, h.Name(), err)
	}
	before, _, _ := strings.Cut(out[strings.Index(out, "\n")+1:], "%") // device size used available capacity%
	fields := strings.Fields(before)
	var kib int64
	if len(fields) < 5 {
		return 0, fmt.Errorf("looking at the free disk at %s on %s: df answers %q", dir, h.Name(), out)
	}
	if _, err := fmt.Sscan(fields[len(fields)-2], &kib); err != nil {
		return 0, fmt.Errorf("looking at the free disk at %s on %s: df answers %q", dir, h.Name(), out)
	}
	return kib << 10, nil
}

func (s *Server) postmasterDirectory(ctx context.Context, conn *pgx.Conn) (string, error) {
	var pid int
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return "", err
	}
	out, err := s.Host.Output(ctx, host.Cmd{
		Script: `ps -o args= -p "$(ps -o ppid= -p "$1" | tr -d ' ')"`, Args: []string{fmt.Sprint(pid)}})
	if err == nil {
		args := strings.Fields(out)
		for i, a := range args {
			if a == "-D" && i+1 < len(args) {
				return args[i+1], nil
			}
			if strings.HasPrefix(a, "-D") && len(a) > 2 {
				return a[2:], nil
			}
		}
	}
	return "", fmt.Errorf("the data directory of %s is not visible to the role %s", s.where(), s.Spec.User)
}
