package lab

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"rehearsal/sql"
)

// shopFile is a file of sql/shop.
func shopFile(t *testing.T, name string) string {
	t.Helper()
	text, err := sql.Files.ReadFile("shop/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The mask package has the full rules; this keeps the example and the seed in step.
func TestColumnsYAMLNamesEveryColumnOfTheShopOnce(t *testing.T) {
	var tables map[string]any
	if err := yaml.Unmarshal([]byte(shopFile(t, "columns.yaml")), &tables); err != nil {
		t.Fatal(err)
	}
	var listed []string
	for table, verbs := range tables {
		if verbs == "truncate" {
			continue
		}
		for verb, columns := range verbs.(map[string]any) {
			switch columns := columns.(type) {
			case []any:
				for _, column := range columns {
					listed = append(listed, fmt.Sprint(table, " ", column))
				}
			case map[string]any:
				for column := range columns {
					listed = append(listed, fmt.Sprint(table, " ", column))
				}
			default:
				t.Errorf("%s: %s: %T", table, verb, columns)
			}
		}
	}
	slices.Sort(listed)
	real := strings.Split(ask(t, theLab(t).Production, "shop", `
		select case when n.nspname || c.relname ~ '^[a-z_]+$' then n.nspname || '.' || c.relname
		            else format('"%s"."%s"', n.nspname, c.relname) end || ' ' || a.attname
		from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p') and not c.relispartition and a.attnum > 0 and not a.attisdropped
		and n.nspname in ('public', 'Billing Dept') and c.relname not in ('audit_log', 'sessions');`), "\n")
	slices.Sort(real)
	for _, column := range real {
		if !slices.Contains(listed, column) {
			t.Errorf("not in columns.yaml: %s", column)
		}
	}
	for i, column := range listed {
		if !slices.Contains(real, column) || i > 0 && listed[i-1] == column {
			t.Errorf("not in the shop, or twice: %s", column)
		}
	}
}

// try runs a script on production's shop and rolls it back.
func try(t *testing.T, script string) string {
	t.Helper()
	return ask(t, theLab(t).Production, "shop", "begin; set local role shop;\n"+script+"\nrollback;")
}

func TestEveryCheckIsContentWithTheShopAndNoticesWhatItIsFor(t *testing.T) {
	damage := map[string][]string{
		"customers.sql":    {`alter table customers drop constraint customers_email_check; update customers set email = 'nobody' where id = 3;`},
		"invoices.sql":     {`update invoices set payload = payload - 'lines' where order_id = 4;`},
		"newest_event.sql": {`insert into events (at, what) values (now() + interval '1 day', 'signed in');`, "truncate events;"},
		"order_totals.sql": {`delete from order_items where order_id = 7 and line = 1;`},
	}
	entries, err := sql.Files.ReadDir("shop/checks")
	if err != nil || len(entries) != len(damage) {
		t.Fatalf("%d checks, %v", len(entries), err)
	}
	for _, entry := range entries {
		text := shopFile(t, "checks/"+entry.Name())
		if !strings.HasPrefix(text, "-- ") {
			t.Errorf("%s does not begin with its name", entry.Name())
		}
		rows := "\nselect count(*) from (" + strings.TrimRight(strings.TrimSpace(text), ";") + ") c;"
		if got := try(t, rows); got != "0" {
			t.Errorf("%s: finds %s in the seed", entry.Name(), got)
		}
		for _, script := range damage[entry.Name()] {
			if got := try(t, script+rows); got == "0" {
				t.Errorf("%s: does not notice %s", entry.Name(), script)
			}
		}
	}
}

func TestEventsAreNewestFirstAndNameNobody(t *testing.T) {
	query := strings.TrimRight(strings.TrimSpace(shopFile(t, "events.sql")), ";")
	if got := try(t, "select count(*), bool_and(at <= before) from (select at, lag(at) over () as before from ("+query+") e offset 1) f;"); got != "2029|t" {
		t.Errorf("count and order: %s", got)
	}
	if got := try(t, "select count(*) from ("+query+") e where what ~ '@' or what ~ '[A-Z]' or pg_typeof(at) <> 'timestamptz'::regtype;"); got != "0" {
		t.Errorf("%s events name somebody", got)
	}
}

func TestAccountsArePromotedAndCreatedAndTheMissingAreNeither(t *testing.T) {
	got := try(t, `
		update staff set email = 'masked-' || id || '@x.invalid', name = 'Masked';
		create temp table rehearsal_accounts (email text, masked_email text, name text, role text);
		insert into rehearsal_accounts values
		  ('jana.novakova@shop.example', 'masked-1@x.invalid', 'Jana Nováková', 'developer'),
		  ('mei.tanaka@shop.example', 'masked-99@x.invalid', 'Mei Tanaka', 'tester');
		`+shopFile(t, "accounts.sql")+`
		select id, email, name, role, is_admin, password_hash = '' from staff where email not like '%.invalid' order by id;`)
	want := "jana.novakova@shop.example|promoted\nmei.tanaka@shop.example|created\n" +
		"1|jana.novakova@shop.example|Jana Nováková|developer|t|f\n21|mei.tanaka@shop.example|Mei Tanaka|tester|t|t"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestANeutralizedShopReachesNobody(t *testing.T) {
	neutralize := shopFile(t, "neutralize.sql")
	for query, want := range map[string]string{
		"select string_agg(smtp_host, ',') from mail_settings where smtp_host not like '%.invalid' or enabled": "",
		"select count(*) > 0 from mail_settings":                                       "t",
		"select count(*) from webhooks where active or url not like '%.invalid/%'":     "0",
		"select count(*) from api_tokens where revoked_at is null":                     "0",
		"select count(*) from payment_keys where mode = 'live' or secret_key ~ 'live'": "0",
		"select count(*) from jobs where finished_at is null":                          "0",
		"select count(*) from scheduled_messages where sent_at is null":                "0",
		"select base_url ~ 'staging', banner ~ 'STAGING' from site_settings":           "t|t",
		"select string_agg(name, ',') from feature_flags where enabled":                "staging_banner",
	} {
		if got := try(t, neutralize+query+";"); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
		if got := try(t, query+";"); got == want && !strings.HasPrefix(query, "select count(*) > 0") {
			t.Errorf("%s: %q before as well: it proves nothing", query, got)
		}
	}
}

func TestTheLabsCopyOfTheShopIsTheExample(t *testing.T) {
	got, err := os.ReadFile(theLab(t).file("sql/shop/columns.yaml"))
	if err != nil || string(got) != shopFile(t, "columns.yaml") {
		t.Errorf("it differs (%v)", err)
	}
}
