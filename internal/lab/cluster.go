package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"rehearsal/internal/run"
)

// Cluster is one PostgreSQL server of the lab, on a loopback port and a Unix socket.
type Cluster struct {
	Name   string
	Dir    string // holds Data and Socket
	Data   string // the data directory; log/postgresql.log below it is the server's log
	Socket string // folder of the Unix socket
	Port   int
	Bin    string // folder of initdb, pg_ctl and psql
	User   string // OS user the server runs as
	Owned  bool   // Dir was made by StartCluster and goes with Stop
}

// StartCluster makes a new cluster below dir and returns when it accepts connections. As root the server
// runs as the OS user postgres, or nobody, who must be able to enter dir (t.TempDir() is closed to them);
// an empty dir means a new TempDir, which Stop removes. On error nothing is left.
//
// Whoever runs the lab may connect over the socket, without a password, as postgres, backup_reader,
// rehearsal and shop; over TCP everybody needs one. Durability is off: this is a lab.
func StartCluster(ctx context.Context, name, dir string) (*Cluster, error) {
	c, err := newCluster(name, dir)
	if err != nil {
		return nil, fmt.Errorf("starting PostgreSQL %s: %w", name, err)
	}
	if err = c.init(ctx); err == nil {
		err = c.Start(ctx)
	}
	// Between our look at a free port and the server's bind another process may take it.
	for tries := 0; tries < 3 && err != nil && strings.Contains(err.Error(), "could not bind"); tries++ {
		if c.Port, err = freePort(); err == nil {
			err = c.Start(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting PostgreSQL %s: %w", name, err), c.Stop())
	}
	return c, nil
}

// Start starts the server again, after Halt, on the same port.
func (c *Cluster) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// pg_ctl is never killed half-way: a server it has just forked would be nobody's.
	options := fmt.Sprintf("-p %d -k %s", c.Port, c.Socket)
	log := filepath.Join(c.Data, "log", "postgresql.log")
	_, err := c.server(context.WithoutCancel(ctx), "pg_ctl", "start", "-D", c.Data, "-w", "-t", "60", "-s", "-l", log, "-o", options)
	if err == nil {
		return ctx.Err()
	}
	if text, _ := os.ReadFile(log); len(text) > 0 {
		return fmt.Errorf("%w; the end of its log:\n%s", err, tail(text, 2048))
	}
	return err
}

// Halt stops the server and keeps its data. A server that does not run is fine.
func (c *Cluster) Halt() error { return c.stop("fast") }

// Stop stops the server and removes its data. A server that does not run is fine.
func (c *Cluster) Stop() error {
	if err := c.stop("immediate"); err != nil {
		return err
	}
	if c.Owned {
		return removeAll(c.Dir)
	}
	return errors.Join(removeAll(c.Data), removeAll(c.Socket))
}

func (c *Cluster) stop(mode string) error {
	if !c.Running() {
		return nil
	}
	_, err := c.server(context.Background(), "pg_ctl", "stop", "-D", c.Data, "-w", "-t", "60", "-s", "-m", mode)
	if err != nil && c.Running() {
		return fmt.Errorf("stopping PostgreSQL %s: %w", c.Name, err)
	}
	return nil
}

// Running reports whether the cluster's postmaster lives. A stale postmaster.pid, whose number another
// process has by now, does not count.
func (c *Cluster) Running() bool {
	text, err := os.ReadFile(filepath.Join(c.Data, "postmaster.pid"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	return err == nil && runsIn(pid, c.Data)
}

// SQL runs a psql script as the superuser postgres and returns what it printed: unaligned, tuples only.
// The first error ends the script.
func (c *Cluster) SQL(ctx context.Context, database, script string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.Bin, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-At",
		"-h", c.Socket, "-p", strconv.Itoa(c.Port), "-U", "postgres", "-d", database)
	cmd.Env = withoutLibpq(os.Environ())
	cmd.Stdin = strings.NewReader(script)
	out, err := output(cmd)
	if err != nil {
		return out, fmt.Errorf("running SQL on %s/%s: %w", c.Name, database, err)
	}
	return strings.TrimSuffix(out, "\n"), nil
}

const tempPrefix = "rehearsal-lab-"

// TempDir makes a new folder that PostgreSQL's OS user can enter, with a path short enough for a Unix
// socket: sun_path holds 107 bytes, and $TMPDIR may be long or private, so it is not asked.
func TempDir() (string, error) {
	dir, err := os.MkdirTemp("/tmp", tempPrefix)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

func newCluster(name, dir string) (*Cluster, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	server, err := serverUser()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Name: name, Dir: dir, Port: port, Bin: bin, User: server.Username}
	if dir == "" {
		if c.Dir, err = TempDir(); err != nil {
			return nil, err
		}
		c.Owned = true
	}
	c.Data, c.Socket = filepath.Join(c.Dir, "data"), filepath.Join(c.Dir, "socket")
	if len(c.Socket) > 85 { // sun_path's 107 bytes less /.s.PGSQL.65535.lock
		return nil, fmt.Errorf("%s is too long a path for a Unix socket", c.Socket)
	}
	return c, nil
}

// init makes the data directory. Only the owner of a cluster may read it, so both folders belong to the
// server's user.
func (c *Cluster) init(ctx context.Context) error {
	if _, err := os.Stat(c.Data); err == nil {
		return fmt.Errorf("%s exists already", c.Data)
	}
	if err := makeFolder(c.Dir, 0o755); err != nil {
		return err
	}
	for folder, mode := range map[string]os.FileMode{c.Data: 0o700, c.Socket: 0o755} {
		if err := c.mkdir(folder, mode); err != nil {
			return err
		}
	}
	_, err := c.server(ctx, "initdb", "-D", c.Data, "-U", "postgres", "--locale=C.UTF-8", "-E", "UTF8",
		"--data-checksums", "--no-sync", "--auth=peer")
	if err != nil {
		return err
	}
	return c.configure()
}

func (c *Cluster) configure() error {
	if err := c.mkdir(filepath.Join(c.Data, "log"), 0o700); err != nil {
		return err
	}
	me, err := user.Current()
	if err != nil {
		return err
	}
	var ident strings.Builder
	for _, role := range []string{"postgres", "backup_reader", "rehearsal", "shop"} {
		fmt.Fprintf(&ident, "lab %q %s\n", me.Username, role)
	}
	// Port and socket folder are given to pg_ctl. log_statement and log_min_messages keep their defaults,
	// as on the servers that people forget to configure: what leaks into a log there leaks here.
	conf := strings.Join([]string{
		"listen_addresses = '127.0.0.1'", "max_connections = 60", "shared_buffers = 96MB", "max_wal_size = 2GB",
		"wal_level = replica", "fsync = off", "synchronous_commit = off", "full_page_writes = off",
		"logging_collector = off", "log_statement = none", "timezone = 'UTC'", "",
	}, "\n")
	return errors.Join(
		appendTo(filepath.Join(c.Data, "postgresql.conf"), conf),
		appendTo(filepath.Join(c.Data, "pg_ident.conf"), ident.String()),
		os.WriteFile(filepath.Join(c.Data, "pg_hba.conf"),
			[]byte("local all all peer map=lab\nhost all all 127.0.0.1/32 scram-sha-256\n"), 0o600))
}

// server runs one of PostgreSQL's programs as the server's user, in a process group of its own: a Ctrl-C
// in the terminal is ours to handle.
func (c *Cluster) server(ctx context.Context, program string, args ...string) (string, error) {
	owner, err := serverUser()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.Bin, program), args...)
	cmd.Dir = c.Dir // the working directory may be closed to the server's user
	cmd.Env = withoutLibpq(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		uid, gid := ids(owner)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return output(cmd)
}

func (c *Cluster) mkdir(folder string, mode os.FileMode) error {
	if err := makeFolder(folder, mode); err != nil || os.Geteuid() != 0 {
		return err
	}
	owner, err := serverUser()
	if err != nil {
		return err
	}
	uid, gid := ids(owner)
	return os.Chown(folder, uid, gid)
}

// makeFolder makes a folder and its parents, and gives it that mode whatever the umask says.
func makeFolder(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// serverUser is who the server runs as: PostgreSQL refuses to run as root.
func serverUser() (*user.User, error) {
	if os.Geteuid() != 0 {
		return user.Current()
	}
	if u, err := user.Lookup("postgres"); err == nil {
		return u, nil
	}
	return user.Lookup("nobody")
}

func ids(u *user.User) (uid, gid int) {
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid
}

// Postgres names the environment variable with the folder of initdb, pg_dump and all the others of the PostgreSQL that the
// lab and the tests use, where that is not to be the newest one installed.
const Postgres = "REHEARSAL_TEST_POSTGRES"

// postgresBin finds the folder of the newest server's programs. Debian and Red Hat keep them out of PATH.
func postgresBin() (string, error) {
	if bin := os.Getenv(Postgres); bin != "" {
		_, err := os.Stat(filepath.Join(bin, "initdb"))
		if err != nil {
			err = run.Fail(run.Usage, "it names the folder of initdb and all the others", "%s: %w", Postgres, err)
		}
		return bin, err
	}
	var found []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb"} {
		matches, _ := filepath.Glob(pattern)
		found = append(found, matches...)
	}
	if len(found) > 0 {
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return major(a) - major(b) })), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", run.Fail(run.Usage, installHint([]string{"postgresql"}), "PostgreSQL's server programs are not installed: %w", err)
	}
	path, err = filepath.EvalSymlinks(path) // pg_ctl and the others stand beside the real file
	return filepath.Dir(path), err
}

// major is the version in /usr/lib/postgresql/15/bin/initdb or /usr/pgsql-15/bin/initdb.
func major(path string) int {
	version := filepath.Base(filepath.Dir(filepath.Dir(path)))
	n, _ := strconv.Atoi(strings.TrimPrefix(version, "pgsql-"))
	return n
}

// withoutLibpq drops PGHOST, PGDATA and their like: they would overrule what the lab says.
func withoutLibpq(env []string) []string {
	return slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, "PG") })
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// output runs cmd and returns its stdout; the end of its stderr is in the error.
func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, tail(stderr.Bytes(), 2048))
	}
	return stdout.String(), nil
}

func tail(text []byte, n int) string {
	return string(bytes.TrimSpace(text[max(0, len(text)-n):]))
}
