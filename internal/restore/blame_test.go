package restore

import (
	"testing"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

func TestAConstraintOverUnmaskedColumnsThatFailsIsTheBackupsFault(t *testing.T) {
	email := mask.Column{Column: postgres.Column{Name: "email"}}
	users := mask.Table{Table: postgres.Table{Schema: "public", Name: "users", Unique: []postgres.UniqueIndex{
		{Name: "users_pkey", Columns: []string{"id"}}, {Name: "users_email_key", Columns: []string{"email"}},
		{Name: "users_lower", Expression: []string{"email"}}}}, Masked: []mask.Column{email}}
	orders := mask.Table{Table: postgres.Table{Schema: "public", Name: "orders", ForeignKeys: []postgres.ForeignKey{
		{Name: "orders_user_fkey", Columns: []string{"user_id"}, Table: "public.users", References: []string{"id"}},
		{Name: "orders_mail_fkey", Columns: []string{"mail"}, Table: "public.users", References: []string{"email"}},
		{Name: "orders_log_fkey", Columns: []string{"log_id"}, Table: "public.log", References: []string{"id"}}}}}
	log := mask.Table{Table: postgres.Table{Schema: "public", Name: "log"}, Truncate: true}
	r := &Restore{Backup: &archive.Backup{ID: "x"}, Plan: &mask.Plan{Tables: []mask.Table{users, orders, log}}}
	for stderr, want := range map[string]run.Code{
		`pg_restore: error: could not execute query: ERROR:  could not create unique index "users_pkey"`:                                            run.Unfit,
		`pg_restore: error: could not execute query: ERROR:  could not create unique index "users_email_key"`:                                       run.Unclean,
		`pg_restore: error: could not execute query: ERROR:  could not create unique index "users_lower"`:                                           run.Unclean,
		`pg_restore: error: could not execute query: ERROR:  could not create unique index "unknown"`:                                               run.Unclean,
		`pg_restore: error: could not execute query: ERROR:  insert or update on table "orders" violates foreign key constraint "orders_user_fkey"`: run.Unfit,
		`pg_restore: error: could not execute query: ERROR:  insert or update on table "orders" violates foreign key constraint "orders_mail_fkey"`: run.Unclean,
		`pg_restore: error: could not execute query: ERROR:  insert or update on table "orders" violates foreign key constraint "orders_log_fkey"`:  run.Unclean,
		`pg_restore: error: could not execute query: ERROR:  could not extend file: No space left on device`:                                        run.Unreachable,
	} {
		err := r.blame(restoreError(postData, &host.ExitError{Host: "staging", Stderr: stderr}))
		if run.CodeOf(err) != want {
			t.Errorf("%s: exit code %d, want %d", stderr, run.CodeOf(err), want)
		}
	}
	if err := r.blame(nil); err != nil {
		t.Error(err)
	}
}

func TestALineOfPgRestoreThatNobodyKnowsIsNoSuccess(t *testing.T) {
	for line, unknown := range map[string]bool{
		"": false,
		"bash: warning: setlocale: LC_ALL: cannot change locale (de_DE.UTF-8)":                                                                                                                  false,
		`WARNING:  database "shop_verify" has a collation version mismatch`:                                                                                                                     false,
		"DETAIL:  The database was created using collation version 2.31, but the operating system provides version 2.36.":                                                                       false,
		"HINT:  Rebuild all objects in this database that use the default collation and run ALTER DATABASE shop REFRESH COLLATION VERSION, or build PostgreSQL with the right library version.": false,
		"pg_restore: warning: errors ignored on restore: 1":                                                                                                                                     true,
		"pg_restore: warning: restoring tables WITH OIDS is not supported anymore":                                                                                                              true,
		`WARNING:  hash indexes are not WAL-logged`:                                                                                                                                             true,
	} {
		if got := len(unknownLines(line+"\n")) > 0; got != unknown {
			t.Errorf("%q: unknown %t, want %t", line, got, unknown)
		}
	}
}
