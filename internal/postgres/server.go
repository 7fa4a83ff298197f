package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgpassfile"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// maintenance is the database for work on databases themselves; initdb makes it on every cluster.
const maintenance = "postgres"

// Server is one PostgreSQL cluster on a host, and the database of it that the inventory names.
type Server struct {
	Host *host.Host
	Spec inventory.Server

	password struct {
		sync.Mutex
		known bool
		text  string
	}
}

// Connect opens a session in database. It fails with run.Unreachable where the server does not answer or
// does not let us in. A cancelled context cancels the statement on the server too; the session stays usable.
func (s *Server) Connect(ctx context.Context, database string) (*pgx.Conn, error) {
	password, err := s.findPassword(ctx)
	if err != nil {
		return nil, err
	}
	config, err := s.config(database, password)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, s.refused(ctx, database, err)
	}
	return conn, nil
}

// ConnectMaintenance opens a session in the database that work on databases themselves is done from.
func (s *Server) ConnectMaintenance(ctx context.Context) (*pgx.Conn, error) {
	return s.Connect(ctx, maintenance)
}

func (s *Server) config(database, password string) (*pgx.ConnConfig, error) {
	ignoreEnvironment()
	config, err := pgx.ParseConfig("sslmode=disable host=localhost user=nobody dbname=postgres passfile=''")
	if err != nil {
		return nil, fmt.Errorf("preparing a connection to %s: %w", s.where(), err)
	}
	config.Host, config.Port = s.address(), uint16(s.Spec.Port)
	config.User, config.Database, config.Password = s.Spec.User, database, password
	// One round trip a statement: nothing here runs often enough to prepare.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.ConnectTimeout = 15 * time.Second
	// A server's time-outs for applications must not end a count, or the session that holds the lock.
	config.RuntimeParams = map[string]string{"application_name": "rehearsal", "statement_timeout": "0", "lock_timeout": "0",
		"idle_in_transaction_session_timeout": "0"}
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		_, err := conn.Exec(ctx, youngTimeouts).ReadAll()
		return err
	}
	config.LookupFunc = func(_ context.Context, name string) ([]string, error) { return []string{name}, nil }
	network, address := s.endpoint()
	// pgx dials RemoteAddr for a cancel request, which a tunnel does not know: always dial the endpoint.
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return s.Host.DialContext(ctx, network, address)
	}
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: 3 * time.Second}
	}
	return config, nil
}

// ignoreEnvironment removes the PG* variables that ParseConfig would silently prefer to nothing: a
// developer's PGSERVICE must never decide which server is reset. Passwords that the inventory asks for by
// name are read by findPassword before.
func ignoreEnvironment() {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "PG") && name != "PGPASSWORD" {
			os.Unsetenv(name)
		}
	}
}

// youngTimeouts are those that not every server we meet knows: they came with PostgreSQL 14 and 17.
const youngTimeouts = `SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('idle_session_timeout', 'transaction_timeout')`

func (s *Server) address() string {
	if s.Spec.Socket != "" {
		return s.Spec.Socket
	}
	return s.Spec.Address
}

// endpoint is what the tunnel dials on the host.
func (s *Server) endpoint() (network, address string) {
	return pgconn.NetworkAddress(s.address(), uint16(s.Spec.Port))
}

func (s *Server) where() string {
	return fmt.Sprintf("PostgreSQL at %s port %d on %s", s.address(), s.Spec.Port, s.Host.Name())
}

// findPassword returns the password, or "" where peer authentication or the host itself answers for us:
// first the variable that the inventory names, then, over TCP, the host's own ~/.pgpass.
func (s *Server) findPassword(ctx context.Context) (string, error) {
	p := &s.password
	p.Lock()
	defer p.Unlock()
	if p.known {
		return p.text, nil
	}
	if name := s.Spec.PasswordEnv; name != "" {
		p.text = os.Getenv(name)
		if p.text == "" {
			return "", run.Fail(run.Usage, "export "+name+" before running, or remove password_env from the inventory",
				"the password of %s is to come from the environment variable %s, which is empty", s.where(), name)
		}
	} else if s.Spec.Socket == "" {
		text, err := s.Host.Output(ctx, host.Cmd{Script: `cat "$HOME/.pgpass" 2>/dev/null || :`})
		if err != nil {
			return "", fmt.Errorf("reading .pgpass on %s: %w", s.Host.Name(), err)
		}
		file, err := pgpassfile.ParsePassfile(strings.NewReader(text))
		if err != nil {
			return "", fmt.Errorf("reading .pgpass on %s: %w", s.Host.Name(), err)
		}
		p.text = file.FindPassword(s.Spec.Address, fmt.Sprint(s.Spec.Port), s.Spec.Name, s.Spec.User)
	}
	p.known = true
	return p.text, nil
}

// refused turns a failed connection into an error with the next step.
func (s *Server) refused(ctx context.Context, database string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		if unreachable := (*run.Error)(nil); errors.As(err, &unreachable) && unreachable.Code == run.Unreachable {
			return fmt.Errorf("connecting to %s: %w", s.where(), unreachable) // without pgx's wrapping: the tunnel's error names the socket
		}
		if errors.Is(err, host.ErrRefused) {
			err = host.ErrRefused // pgx and the tunnel have wrapped it in the socket's name, three times over
		}
		return run.Fail(run.Unreachable, "is PostgreSQL running on "+s.Host.Name()+"? compare socket and port in the inventory with "+
			"`SHOW unix_socket_directories` and `SHOW port`", "connecting to %s: %w", s.where(), err)
	}
	hint := ""
	switch pg.Code {
	case "28000", "28P01":
		hint = fmt.Sprintf("let the system user of %s become the role %s: a line in pg_ident.conf for peer, or a password in .pgpass or password_env",
			s.Host.Name(), s.Spec.User)
	case "3D000":
		hint = "compare the database's name in the inventory with `psql -l` on " + s.Host.Name()
	case "53300":
		hint = "all connection slots are taken: end idle sessions or raise max_connections"
	case "57P03":
		hint = "the server is starting up or shutting down: wait and try again"
	}
	return run.Fail(run.Unreachable, hint, "connecting to database %q as %s, %s: %s (SQLSTATE %s)", database, s.Spec.User, s.where(), pg.Message, pg.Code)
}
