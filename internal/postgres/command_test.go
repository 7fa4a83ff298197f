package postgres

import (
	"strings"
	"testing"

	"rehearsal/internal/inventory"
)

var weird = inventory.Server{Host: &inventory.Host{PostgresBin: "/usr/lib/postgresql/15/bin"}, Socket: "/var/run/postgresql", Port: 5433,
	Name: `we"ird $HOME sh'op\`, User: "backup_reader", Owner: "shop"}

func TestCommandLines(t *testing.T) {
	local := inventory.Server{Address: "127.0.0.1", Port: 5432, Name: "a=b", User: "u", Owner: "o"}
	for want, args := range map[string][]string{
		`/usr/lib/postgresql/15/bin/pg_dump
--no-password
--format=directory
--jobs=2
--snapshot=00000003-1
--file=/spool $x
--dbname=host='/var/run/postgresql' port=5433 user='backup_reader' dbname='we"ird $HOME sh\'op\\' application_name=rehearsal`: DumpArgs(weird, "/spool $x", "00000003-1", 2),
		`pg_restore
--no-password
--exit-on-error
--no-owner
--role=o
--no-privileges
--no-publications
--no-subscriptions
--no-tablespaces
--no-security-labels
--dbname=host='127.0.0.1' port=5432 user='u' dbname='a=b_incoming' application_name=rehearsal
--section=pre-data
/dir`: RestoreArgs(local, "a=b_incoming", "/dir", "--section=pre-data"),
		`psql
--no-password
--no-psqlrc
--quiet
--set=ON_ERROR_STOP=1
--set=VERBOSITY=sqlstate
--dbname=host='127.0.0.1' port=5432 user='u' dbname='x' application_name=rehearsal
--command=SET ROLE "o"
--command=SET row_security = off
--command=` + untimed + `
--command=SET client_encoding = 'UTF8';
--command=COPY public.t (a) FROM stdin;`: CopyArgs(local, "x", []string{"SET client_encoding = 'UTF8';"}, "COPY public.t (a) FROM stdin;"),
		`psql
--no-password
--no-psqlrc
--quiet
--set=ON_ERROR_STOP=1
--single-transaction
--csv
--tuples-only
--dbname=host='127.0.0.1' port=5432 user='u' dbname='x' application_name=rehearsal
--file=-`: ScriptArgs(local, "x"),
	} {
		if got := strings.Join(args, "\n"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

func TestOptionsAreEscapedForPGOPTIONS(t *testing.T) {
	got := Options(map[string]string{"b.key": `\x36 36`, "a": "1"})
	if want := `-c a=1 -c b.key=\\x36\ 36`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNamesAndTextsAreQuotedForSQL(t *testing.T) {
	for got, want := range map[string]string{
		Ident(`Invoice "#"`):                         `"Invoice ""#"""`,
		Ident("a", "b c"):                            `"a"."b c"`,
		Literal(`it's`):                              `'it''s'`,
		Literal(`back\slash`):                        `E'back\\slash'`,
		Qualify("public", "users"):                   `public.users`,
		Qualify("Billing Dept", "Invoice #"):         `"Billing Dept"."Invoice #"`,
		settingValue("search_path", `"$user", shop`): `"$user", shop`,
		settingValue("TimeZone", "Europe/Berlin"):    `'Europe/Berlin'`,
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
