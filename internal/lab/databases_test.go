package lab

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// ask returns the answer of production's shop, or of any other database.
func ask(t *testing.T, c *Cluster, database, query string) string {
	t.Helper()
	out, err := c.SQL(t.Context(), database, query)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestProductionHoldsTheShop(t *testing.T) {
	c := theLab(t).Production
	for query, want := range map[string]string{
		"select count(*) from orders":                     "2000",
		"select count(*) from customers":                  "200",
		"select count(*) from order_items":                "4001",
		"select count(*) from invoices":                   "1000",
		"select count(*) from page_views":                 "2000",
		`select count(*) from "Billing Dept"."Invoice #"`: "200",
		"select count(*) from staff where not is_admin and email in ('jana.novakova@shop.example','sean.obrien@shop.example')":                              "2",
		"select count(*) from staff where email = 'mei.tanaka@shop.example'":                                                                                "0",
		"select count(distinct tableoid) from page_views":                                                                                                   "4",
		"select count(*) from page_views_rest":                                                                                                              "0",
		"select count(*) from vip_customers":                                                                                                                "4",
		"select count(*) from customer_domains":                                                                                                             "5",
		"select now() - max(at) < '5 minutes' and max(at) <= now() from events":                                                                             "t",
		"select count(*) from customers where search_doc is null":                                                                                           "0",
		"select bool_or(bio = E'\\\\.'), bool_or(bio = E'\\\\N'), bool_or(bio ~ E'\\t'), bool_or(bio ~ E'\\r\\n') from customers":                           "t|t|t|t",
		"select bool_or(full_name ~ ''''), bool_or(full_name ~ '[^[:ascii:]]') from customers":                                                              "t|t",
		"select count(*) from customers where email !~ '^[[:ascii:]]+@([a-z]+\\.)?example\\.(com|org|net)$'":                                                "0",
		"select nextval('orders_id_seq') > max(id) from orders":                                                                                             "t",
		"select nextval('invoice_number_seq') > max(id) from invoices":                                                                                      "t",
		"select string_agg(distinct pg_get_userbyid(relowner), ',') from pg_class where relnamespace::regnamespace::text in ('public', '\"Billing Dept\"')": "shop",
		"select has_table_privilege('reporting', 'orders', 'select')":                                                                                       "t",
	} {
		if got := ask(t, c, "shop", query+";"); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
}

func TestTheBackupReaderReadsEverythingAndWritesNothing(t *testing.T) {
	c := theLab(t).Production
	args := []string{"-h", c.Socket, "-p", strconv.Itoa(c.Port), "-U", "backup_reader", "shop"}
	if out, err := output(exec.Command(c.Bin+"/pg_dump", append(args, "-f", "/dev/null")...)); err != nil {
		t.Errorf("pg_dump: %v %s", err, out)
	}
	for _, statement := range []string{"delete from events", "create table public.mine ()", "select nextval('orders_id_seq')"} {
		if _, err := output(exec.Command(c.Bin+"/psql", append(args, "-X", "-v", "ON_ERROR_STOP=1", "-c", statement)...)); err == nil {
			t.Errorf("%s: allowed", statement)
		}
	}
	if got := ask(t, c, "shop", "set role backup_reader; show data_directory; select system_identifier > 0 from pg_control_system();"); got != c.Data+"\nt" {
		t.Errorf("its identity reads as %q", got)
	}
}

func TestStagingBeginsWithWhatASwapMustCarryOver(t *testing.T) {
	c := theLab(t).Staging
	for query, want := range map[string]string{
		"select rolsuper, rolcreatedb, rolcanlogin from pg_roles where rolname = 'rehearsal'":                             "f|t|t",
		"select pg_has_role('rehearsal', 'shop', 'usage'), pg_has_role('rehearsal', 'pg_signal_backend', 'usage')":        "t|t",
		"select rolconfig from pg_roles where rolname = 'rehearsal'":                                                      "{log_min_messages=panic}",
		"select pg_get_userbyid(datdba), datconnlimit from pg_database where datname = 'shop'":                            "shop|40",
		"select has_database_privilege('qa', 'shop', 'connect'), has_database_privilege('public', 'shop', 'connect')":     "t|f",
		"select setconfig from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase where d.datname = 'shop'": "{work_mem=8MB,TimeZone=Europe/Berlin}",
		"select count(*) from pg_roles where rolname = 'reporting'":                                                       "0",
		"select string_agg(email, ' ' order by id) from customers":                                                        "first@old-staging.invalid second@old-staging.invalid",
	} {
		if got := ask(t, c, "shop", query+";"); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
}

func TestASuperuserConnectsFromNoOtherAccountAndNotOverTCP(t *testing.T) {
	c := theLab(t).Production
	cmd := exec.Command(c.Bin+"/psql", "-X", "-w", "-h", "127.0.0.1", "-p", strconv.Itoa(c.Port), "-U", "postgres", "-c", "select 1")
	if _, err := output(cmd); err == nil || !strings.Contains(err.Error(), "no password") {
		t.Errorf("over TCP: %v", err)
	}
	cmd = exec.Command(c.Bin+"/psql", "-X", "-w", "-h", c.Socket, "-p", strconv.Itoa(c.Port), "-U", "reporting", "-d", "shop", "-c", "select 1")
	if _, err := output(cmd); err == nil || !strings.Contains(fmt.Sprint(err), "Peer authentication failed") {
		t.Errorf("as reporting: %v", err)
	}
}
