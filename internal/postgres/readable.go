package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Unreadable is what keeps pg_dump from a complete dump by the session's role. Names are as Qualify spells them.
type Unreadable struct {
	Denied       []string // tables and sequences without SELECT, or in a schema without USAGE
	Hidden       []string // tables with a policy of row security that applies to the role
	LargeObjects int64    // without SELECT; pg_read_all_data does not cover them
}

// FindUnreadable looks through the session's database. Of an extension only the tables count that it marked for dumping
// (pg_extension_config_dump); foreign tables and materialized views do not: their rows are not dumped. Row security is
// asked of the server, which knows about owners, FORCE and BYPASSRLS; that of a partitioned table does not count, since
// pg_dump reads its partitions.
func FindUnreadable(ctx context.Context, conn *pgx.Conn) (u Unreadable, err error) {
	rows, err := conn.Query(ctx, `SELECT n.nspname, c.relname,
			NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')), c.relkind = 'r' AND row_security_active(c.oid)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
			AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
				WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
				AND c.oid <> ALL (coalesce(e.extconfig, '{}')))
		ORDER BY 1, 2`)
	if err != nil {
		return u, fmt.Errorf("asking what the role may read: %w", err)
	}
	var schema, name string
	var denied, hidden bool
	_, err = pgx.ForEachRow(rows, []any{&schema, &name, &denied, &hidden}, func() error {
		switch {
		case denied:
			u.Denied = append(u.Denied, Qualify(schema, name))
		case hidden:
			u.Hidden = append(u.Hidden, Qualify(schema, name))
		}
		return nil
	})
	if err != nil {
		return u, fmt.Errorf("asking what the role may read: %w", err)
	}
	err = conn.QueryRow(ctx, `SELECT count(*) FROM pg_largeobject_metadata m JOIN pg_roles r ON r.rolname = current_user
		WHERE NOT r.rolsuper AND NOT current_setting('lo_compat_privileges')::bool AND NOT pg_has_role(m.lomowner, 'USAGE')
		AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a
			WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))`).Scan(&u.LargeObjects)
	if err != nil {
		return u, fmt.Errorf("asking which large objects the role may read: %w", err)
	}
	return u, nil
}
