package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// marker is the comment of databases that a run made and may drop again; one without it is somebody's.
const marker = "made by rehearsal; replaced or dropped by its next run"

// Incoming is the database that a restore builds beside the one in use.
func Incoming(name string) string { return name + "_incoming" }

// Previous is the database that was in use before the last reset.
func Previous(name string) string { return name + "_previous" }

// Scratch is the database that a backup is verified in.
func Scratch(name string) string { return name + "_verify" }

// Exists says whether database is there.
func Exists(ctx context.Context, conn *pgx.Conn, database string) (ok bool, err error) {
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&ok)
	return ok, err
}

// Create makes the empty database for a restore: owned by owner, closed to everybody else until Carry opens
// it, with the encoding and locale that with (the options of the dump's own CREATE DATABASE) asks for. A
// left-over of a run that was killed is dropped first; a database of that name which no run made is refused.
func (s *Server) Create(ctx context.Context, conn *pgx.Conn, database, owner, with string) error {
	if err := s.Drop(ctx, conn, database); err != nil {
		return err
	}
	name := Ident(database)
	if with == "" {
		with = "TEMPLATE = template0"
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name+" WITH OWNER = "+Ident(owner)+" "+with); err != nil {
		return s.createError(database, owner, err)
	}
	// From here on it is there: marked, or gone again. Two statements, and no cancel between them.
	ctx = context.WithoutCancel(ctx)
	_, err := conn.Exec(ctx, "COMMENT ON DATABASE "+name+" IS "+Literal(marker)+"; REVOKE ALL ON DATABASE "+name+" FROM PUBLIC")
	if err != nil {
		conn.Exec(ctx, "DROP DATABASE "+name) // what it fails with is the same lack of rights
		return s.createError(database, owner, err)
	}
	return nil
}

func (s *Server) createError(database, owner string, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return fmt.Errorf("creating database %q on %s: %w", database, s.Host.Name(), err)
	}
	hint := ""
	switch {
	case strings.Contains(pg.Message, "permission denied to create database"):
		hint = fmt.Sprintf("as superuser on %s: ALTER ROLE %s CREATEDB", s.Host.Name(), Ident(s.Spec.User))
	case strings.Contains(pg.Message, "must be member") || strings.Contains(pg.Message, "must be able to SET ROLE"):
		hint = fmt.Sprintf("as superuser on %s: GRANT %s TO %s", s.Host.Name(), Ident(owner), Ident(s.Spec.User))
	case strings.Contains(pg.Message, "does not exist"):
		hint = fmt.Sprintf("create the owner named in the inventory on %s: CREATE ROLE %s", s.Host.Name(), Ident(owner))
	case pg.Code == "53100": // disk_full
		hint = "make room on " + s.Host.Name()
	case strings.Contains(pg.Message, "locale"):
		hint = "generate that locale on " + s.Host.Name() + " (dpkg-reconfigure locales) and restart PostgreSQL"
	}
	return run.Fail(run.Unreachable, hint, "creating database %q on %s: %s (SQLSTATE %s)", database, s.Host.Name(), pg.Message, pg.Code)
}

// Drop drops database if it is there and a run made it; sessions in it are ended.
func (s *Server) Drop(ctx context.Context, conn *pgx.Conn, database string) error {
	var comment string
	err := conn.QueryRow(ctx, "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = $1", database).Scan(&comment)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for database %q on %s: %w", database, s.Host.Name(), err)
	}
	if comment != marker {
		return run.Fail(run.Unreachable, fmt.Sprintf("rename or drop it on %s, then run again", s.Host.Name()),
			"database %q on %s is in the way, and no run of ours made it", database, s.Host.Name())
	}
	if _, err := conn.Exec(ctx, "DROP DATABASE "+Ident(database)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("dropping database %q on %s: %w", database, s.Host.Name(), err)
	}
	return nil
}

// Carry gives the database to what belongs to the database from at the level of databases and would stay
// behind at a rename: CONNECT and other grants, the connection limit, ALTER DATABASE SET and ALTER ROLE IN
// DATABASE SET. Where from is not there yet, to gets PostgreSQL's defaults. What needs more rights than ours
// is returned as notes, one a statement.
func (s *Server) Carry(ctx context.Context, conn *pgx.Conn, from, to string) (notes []string, err error) {
	statements, err := carried(ctx, conn, from, to)
	if err != nil {
		return nil, fmt.Errorf("reading the grants and settings of database %q on %s: %w", from, s.Host.Name(), err)
	}
	for _, sql := range statements {
		_, err := conn.Exec(ctx, sql)
		var pg *pgconn.PgError
		if errors.As(err, &pg) {
			notes = append(notes, fmt.Sprintf("not carried over to the new database: %s (%s)", sql, pg.Message))
		} else if err != nil {
			return notes, fmt.Errorf("carrying over grants and settings on %s: %w", s.Host.Name(), err)
		}
	}
	return notes, nil
}

func carried(ctx context.Context, conn *pgx.Conn, from, to string) ([]string, error) {
	var statements []string
	name := Ident(to)
	rows, err := conn.Query(ctx, `SELECT coalesce(r.rolname, ''), a.privilege_type, a.is_grantable
		FROM (SELECT coalesce((SELECT coalesce(datacl, acldefault('d', datdba)) FROM pg_database WHERE datname = $1), acldefault('d', 10)) AS acl,
		             (SELECT datdba FROM pg_database WHERE datname = $1) AS owner) d
		CROSS JOIN aclexplode(d.acl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
		WHERE a.grantee IS DISTINCT FROM coalesce(d.owner, 10) AND (a.grantee = 0 OR r.rolname IS NOT NULL)`, from)
	if err != nil {
		return nil, err
	}
	var role, privilege string
	var grantable bool
	if _, err := pgx.ForEachRow(rows, []any{&role, &privilege, &grantable}, func() error {
		sql := "GRANT " + privilege + " ON DATABASE " + name + " TO "
		if role == "" {
			sql += "PUBLIC"
		} else {
			sql += Ident(role)
		}
		if grantable {
			sql += " WITH GRANT OPTION"
		}
		statements = append(statements, sql)
		return nil
	}); err != nil {
		return nil, err
	}
	limit := -1
	if err := conn.QueryRow(ctx, "SELECT datconnlimit FROM pg_database WHERE datname = $1", from).Scan(&limit); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	statements = append(statements, fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT %d", name, limit))
	rows, err = conn.Query(ctx, `SELECT coalesce(r.rolname, ''), c.entry FROM pg_database d JOIN pg_db_role_setting s ON s.setdatabase = d.oid
		CROSS JOIN unnest(s.setconfig) AS c(entry) LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = $1`, from)
	if err != nil {
		return nil, err
	}
	var entry string
	_, err = pgx.ForEachRow(rows, []any{&role, &entry}, func() error {
		setting, value, _ := strings.Cut(entry, "=")
		target := "ALTER DATABASE " + name
		if role != "" {
			target = "ALTER ROLE " + Ident(role) + " IN DATABASE " + name
		}
		statements = append(statements, target+" SET "+Ident(strings.Split(setting, ".")...)+" TO "+settingValue(setting, value))
		return nil
	})
	return statements, err
}

// lists are the settings that PostgreSQL stores with their elements quoted (GUC_LIST_QUOTE, the same list as
// variable_is_guc_list_quote in its dumputils.c); quoting them once more would make one element of all.
var lists = []string{"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
	"temp_tablespaces", "unix_socket_directories"}

func settingValue(setting, value string) string {
	if slices.Contains(lists, strings.ToLower(setting)) && value != "" {
		return value
	}
	return Literal(value)
}

// Rename is one step of a swap.
type Rename struct{ From, To string }

// swapPatience bounds a swap: sessions that come back faster than they are ended, or that only a superuser
// may end, must not hold the lock on the database for ever.
const swapPatience = 30 * time.Second

// Swap renames databases in one transaction on conn and ends the sessions in them through ender, another
// session. Each gets our marker, so that the next reset may drop what is previous by then. The first rename locks its database against new sessions and waits up to 5 s for the old ones
// (CountOtherDBBackends in PostgreSQL's sources), so those are ended meanwhile. All renames happen or none.
func (s *Server) Swap(ctx context.Context, conn, ender *pgx.Conn, renames []Rename) error {
	ctx, cancel := context.WithTimeout(ctx, swapPatience)
	defer cancel()
	var names []string
	for _, r := range renames {
		names = append(names, r.From)
	}
	for {
		done := make(chan error, 1)
		go func() { done <- rename(ctx, conn, renames) }()
		err := s.endSessions(ctx, ender, names, done)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "55006" && ctx.Err() == nil { // object_in_use
			continue
		}
		if err == nil {
			return nil
		}
		hint := ""
		if ctx.Err() != nil {
			hint = s.holders(names)
		}
		return run.Fail(max(run.CodeOf(err), run.Unexpected), hint, "swapping databases on %s: %w", s.Host.Name(), err)
	}
}

func rename(ctx context.Context, conn *pgx.Conn, renames []Rename) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, r := range renames {
			if _, err := tx.Exec(ctx, "ALTER DATABASE "+Ident(r.From)+" RENAME TO "+Ident(r.To)); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "COMMENT ON DATABASE "+Ident(r.To)+" IS "+Literal(marker)); err != nil {
				return err
			}
		}
		return nil
	})
}

// endSessions ends the sessions in the databases, again and again until done has the swap's result.
func (s *Server) endSessions(ctx context.Context, conn *pgx.Conn, names []string, done <-chan error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = ANY($1) AND pid <> pg_backend_pid() AND backend_type = 'client backend'
			  AND (usename = current_user OR NOT (SELECT rolsuper FROM pg_roles WHERE rolname = usename))`, names)
		if err != nil {
			if swap := <-done; swap == nil {
				return nil
			}
			return run.Fail(run.Unreachable, fmt.Sprintf("as superuser on %s: GRANT pg_signal_backend TO %s", s.Host.Name(), Ident(s.Spec.User)),
				"ending the sessions in %s: %w", strings.Join(names, ", "), err)
		}
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
	}
}

func (s *Server) holders(names []string) string {
	return fmt.Sprintf("see who holds it on %s: SELECT pid, usename, application_name FROM pg_stat_activity WHERE datname IN ('%s'); "+
		"only a superuser may end a superuser's session", s.Host.Name(), strings.Join(names, "', '"))
}

// Replaceable fails with run.Unreachable, and says what to grant, where the session's role could not replace
// the database of spec: create one for its owner, rename the one in use, end the sessions in it.
func (s *Server) Replaceable(ctx context.Context, conn *pgx.Conn, spec inventory.Server) error {
	var createdb, member, signal, owns bool
	var owner string
	err := conn.QueryRow(ctx, `SELECT r.rolcreatedb OR r.rolsuper, coalesce(pg_has_role(o.oid, 'MEMBER') AND pg_has_role(o.oid, 'USAGE'), false),
		pg_has_role('pg_signal_backend', 'MEMBER'), coalesce(pg_has_role(d.datdba, 'USAGE'), true), coalesce(pg_get_userbyid(d.datdba)::text, '')
		FROM pg_roles r LEFT JOIN pg_roles o ON o.rolname = $1 LEFT JOIN pg_database d ON d.datname = $2 WHERE r.rolname = current_user`,
		spec.Owner, spec.Name).Scan(&createdb, &member, &signal, &owns, &owner)
	if err != nil {
		return fmt.Errorf("asking for the rights of %s on %s: %w", spec.User, s.Host.Name(), err)
	}
	role := Ident(spec.User)
	var grants []string
	for _, g := range []struct {
		ok  bool
		sql string
	}{
		{createdb, "ALTER ROLE " + role + " CREATEDB"},
		{member, "GRANT " + Ident(spec.Owner) + " TO " + role + "; ALTER ROLE " + role + " INHERIT"},
		{signal, "GRANT pg_signal_backend TO " + role},
		{owns || owner == spec.Owner, "ALTER DATABASE " + Ident(spec.Name) + " OWNER TO " + Ident(spec.Owner)},
	} {
		if !g.ok {
			grants = append(grants, g.sql)
		}
	}
	if len(grants) == 0 {
		return nil
	}
	return run.Fail(run.Unreachable, fmt.Sprintf("as superuser on %s (the role %s must exist there): %s", s.Host.Name(), spec.Owner, strings.Join(grants, "; ")),
		"the role %s on %s lacks rights to replace database %q", spec.User, s.Host.Name(), spec.Name)
}

// Ours fails with run.Unreachable where one of the databases exists and no run made it, or is not ours to rename.
func (s *Server) Ours(ctx context.Context, conn *pgx.Conn, databases ...string) error {
	var foreign string
	err := conn.QueryRow(ctx, `SELECT coalesce(string_agg(quote_ident(datname), ', '), '') FROM pg_database WHERE datname = ANY ($1)
		AND (shobj_description(oid, 'pg_database') IS DISTINCT FROM $2 OR NOT pg_has_role(datdba, 'USAGE'))`, databases, marker).Scan(&foreign)
	if err != nil {
		return fmt.Errorf("looking for databases on %s: %w", s.Host.Name(), err)
	}
	if foreign != "" {
		return run.Fail(run.Unreachable, "rename it on "+s.Host.Name()+", then run again", "%s on %s is in the way, and no run of ours made it", foreign, s.Host.Name())
	}
	return nil
}

// LogsNoRows says whether the session's errors stay out of the server's log, where CONTEXT and DETAIL would
// quote rows. Only a superuser can set that, for the role.
func LogsNoRows(ctx context.Context, conn *pgx.Conn) bool {
	var level string
	err := conn.QueryRow(ctx, "SELECT current_setting('log_min_messages')").Scan(&level)
	return err == nil && (level == "panic" || level == "fatal" || level == "log") // in this order, all above error
}
