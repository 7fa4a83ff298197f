package postgres

import (
	"context"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
)

// The builders below make command lines and run nothing; command adds what only a live host knows.

// Conninfo spells a connection for libpq's tools. A bare database name would not do: libpq takes a name
// with "=" or "://" in it for a connection string of its own.
func Conninfo(spec inventory.Server, database string) string {
	where := spec.Socket
	if where == "" {
		where = spec.Address
	}
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s application_name=rehearsal",
		conninfoValue(where), spec.Port, conninfoValue(spec.User), conninfoValue(database))
}

func conninfoValue(s string) string {
	return `'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + `'`
}

// DumpArgs is pg_dump into the folder dir, in the snapshot that another session exported.
func DumpArgs(spec inventory.Server, dir, snapshot string, jobs int, options ...string) []string {
	args := []string{tool(spec, "pg_dump"), "--no-password", "--format=directory", fmt.Sprintf("--jobs=%d", jobs),
		"--snapshot=" + snapshot, "--file=" + dir, "--dbname=" + Conninfo(spec, spec.Name)}
	return append(args, options...)
}

// SchemaArgs is pg_dump of the schema of a database as its owner, to stdout.
func SchemaArgs(spec inventory.Server, database string) []string {
	return []string{tool(spec, "pg_dump"), "--no-password", "--schema-only", "--role=" + spec.Owner, "--dbname=" + Conninfo(spec, database)}
}

// RestoreArgs is pg_restore of (parts of) the folder dir into database. Objects belong to the inventory's
// owner; grants are left out, since roles that staging lacks would fail them (Grants applies them one by
// one); publications and subscriptions too: a staging that subscribes would talk to production.
func RestoreArgs(spec inventory.Server, database, dir string, options ...string) []string {
	args := []string{tool(spec, "pg_restore"), "--no-password", "--exit-on-error", "--no-owner", "--role=" + spec.Owner,
		"--no-privileges", "--no-publications", "--no-subscriptions", "--no-tablespaces", "--no-security-labels",
		"--dbname=" + Conninfo(spec, database)}
	return append(append(args, options...), dir)
}

// untimed lifts the limits that an administrator may have set to a statement or a transaction; the latter came with
// PostgreSQL 17. pg_dump and pg_restore do the same for their own sessions.
const untimed = `DO 'BEGIN PERFORM pg_catalog.set_config(name, ''0'', false) FROM pg_catalog.pg_settings WHERE name IN (''statement_timeout'', ''transaction_timeout''); END'`

// CopyArgs is psql for one COPY FROM stdin into database as the owner, after the statements in session, however long it
// takes. Errors come as their SQLSTATE alone: the messages of a failed COPY quote rows.
func CopyArgs(spec inventory.Server, database string, session []string, copyFrom string) []string {
	args := []string{tool(spec, "psql"), "--no-password", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--set=VERBOSITY=sqlstate",
		"--dbname=" + Conninfo(spec, database), "--command=SET ROLE " + Ident(spec.Owner), "--command=SET row_security = off", "--command=" + untimed}
	for _, sql := range append(session, copyFrom) {
		args = append(args, "--command="+sql)
	}
	return args
}

// FreezeArgs is CopyArgs into a table that is empty: truncated in the same transaction, so that its rows are frozen as they
// come. Nobody else can see the table yet; indexes are built, and rows are counted and searched, without a first visit to
// each that marks it as committed.
func FreezeArgs(spec inventory.Server, database string, session []string, copyFrom, table string) []string {
	copyFrom = strings.TrimRight(strings.TrimSpace(copyFrom), ";") + " WITH (FREEZE)"
	args := CopyArgs(spec, database, append(session, "TRUNCATE ONLY "+table), copyFrom)
	return slices.Insert(args, 1, "--single-transaction")
}

// LoadArgs is psql for what pg_restore --file=- prints of an archive's rows, into database as the owner. Errors as with
// CopyArgs.
func LoadArgs(spec inventory.Server, database string) []string {
	return append(CopyArgs(spec, database, nil, "SET client_min_messages = error"), "--file=-")
}

// ScriptArgs is psql reading a script from stdin in one transaction that ends at the first error; rows come
// out as CSV without headers. Without ON_ERROR_STOP psql exits 0 after errors.
func ScriptArgs(spec inventory.Server, database string) []string {
	return []string{tool(spec, "psql"), "--no-password", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction",
		"--csv", "--tuples-only", "--dbname=" + Conninfo(spec, database), "--file=-"}
}

// Options spells session settings for PGOPTIONS, where blanks and backslashes need a backslash.
func Options(settings map[string]string) string {
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("-c " + name + "=" + strings.NewReplacer(`\`, `\\`, ` `, `\ `).Replace(settings[name]))
	}
	return b.String()
}

func tool(spec inventory.Server, name string) string {
	if spec.Host == nil || spec.Host.PostgresBin == "" {
		return name
	}
	return path.Join(spec.Host.PostgresBin, name)
}

// Command makes one of the command lines above ready to run on the server's host: with the password, if
// one is needed, and the settings for its sessions, both kept out of the process list.
func (s *Server) Command(ctx context.Context, args []string, settings map[string]string) (host.Cmd, error) {
	// Messages are read by their English words.
	c := host.Cmd{Args: s.resolve(args), Env: map[string]string{"LC_MESSAGES": "C"}, Secret: map[string]string{}}
	password, err := s.findPassword(ctx)
	if err != nil {
		return c, err
	}
	if password != "" {
		c.Secret["PGPASSWORD"] = password
	}
	if len(settings) > 0 {
		c.Secret["PGOPTIONS"] = Options(settings)
	}
	return c, nil
}

// Tool is the path of a client tool on the server's host.
func (s *Server) Tool(name string) string { return s.resolve([]string{tool(s.Spec, name)})[0] }

// resolve makes a program below the remote home absolute; nothing else would expand "~/".
func (s *Server) resolve(args []string) []string {
	if strings.HasPrefix(args[0], "~/") {
		args = append([]string{s.Host.Path(args[0])}, args[1:]...)
	}
	return args
}

// Version returns the version that a client tool of the server's host reports, e.g. "15.18", and its major
// version number.
func (s *Server) Version(ctx context.Context, name string) (version string, major int, err error) {
	out, err := s.Host.Output(ctx, host.Cmd{Args: s.resolve([]string{tool(s.Spec, name), "--version"}), Env: map[string]string{"LC_ALL": "C"}})
	if err != nil {
		return "", 0, err
	}
	fields := strings.Fields(out) // pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
	if len(fields) < 3 {
		return "", 0, fmt.Errorf("%s --version on %s answers %q", name, s.Host.Name(), strings.TrimSpace(out))
	}
	if _, err := fmt.Sscanf(fields[2], "%d", &major); err != nil {
		return "", 0, fmt.Errorf("%s --version on %s answers %q", name, s.Host.Name(), strings.TrimSpace(out))
	}
	return fields[2], major, nil
}
