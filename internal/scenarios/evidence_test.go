package scenarios

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/lab"
)

// take gives a test its turn on the servers and its own files, as setup does for stories.
func take(t *testing.T) (dir string) {
	t.Helper()
	turn.Lock()
	t.Cleanup(turn.Unlock)
	dir = t.TempDir()
	if err := files(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mage prepares the command line for the inventory in dir.
func mage(dir string, args ...string) *exec.Cmd {
	c := exec.Command(binary, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "REHEARSAL_INVENTORY="+filepath.Join(dir, "hosts.yaml"))
	return c
}

// succeed runs a target with JSON and returns what it says.
func succeed(t *testing.T, dir string, args ...string) result {
	t.Helper()
	c := mage(dir, args...)
	c.Env = append(c.Env, "REHEARSAL_FORMAT=json")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return parse(t, out)
}

func query(t *testing.T, c *lab.Cluster, database, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := c.SQL(ctx, database, sql)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func TestAResetHoldsEveryRowOfTheManifestAndNothingRawReachesStagingsDisk(t *testing.T) {
	dir := take(t)
	// neutralize.sql empties queues and settings, which is not what the restore is judged by.
	if err := os.WriteFile(filepath.Join(dir, "sql", "shop", "neutralize.sql"), []byte("SELECT 1 WHERE false;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	reset := succeed(t, dir, "staging:reset")
	text, err := os.ReadFile(filepath.Join(dir, "backups", reset.Backup, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m archive.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	reported := map[string]int64{}
	for _, table := range reset.Tables {
		reported[table.Name] = table.Rows
	}
	truncated := map[string]bool{"public.audit_log": true, "public.sessions": true}
	for _, table := range m.Tables {
		want := table.Rows
		if truncated[table.Name] {
			want = 0
		}
		if reported[table.Name] != want {
			t.Errorf("%s: the report says %d rows, want %d", table.Name, reported[table.Name], want)
		}
		if table.Name == "public.staff" {
			want++ // accounts.sql creates an admin
		}
		if got := query(t, shared.Staging, "shop", "SELECT count(*) FROM "+table.Name); got != fmt.Sprint(want) {
			t.Errorf("%s holds %s rows on staging, want %d", table.Name, got, want)
		}
	}
	nothingRaw(t, dir)
}

func TestTheSearchForRawValuesFindsOneThatIsThere(t *testing.T) {
	take(t)
	// Somebody of its own, who leaves again: the server's log keeps an address for a while.
	const email = "planted@example.org"
	query(t, shared.Production, "shop", "INSERT INTO staff (email, name, role, is_admin, password_hash) SELECT "+quote(email)+", name, role, is_admin, password_hash FROM staff LIMIT 1")
	defer query(t, shared.Production, "shop", "DELETE FROM staff WHERE email = "+quote(email))
	query(t, shared.Staging, "postgres", "CREATE TABLE planted AS SELECT "+quote(email)+"::text AS email")
	defer query(t, shared.Staging, "postgres", "DROP TABLE planted")
	residue, err := shared.Residue(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(residue.Found) == 0 {
		t.Errorf("an address of production lies in staging's table, and the search over %d files finds nothing", residue.Files)
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func TestNamesAndPathsMayHoldBlanksQuotesAndDollars(t *testing.T) {
	dir := take(t)
	const name = `we"ird $HOME sh'op`
	quoted := `"we""ird $HOME sh'op"`
	query(t, shared.Production, "postgres", "CREATE DATABASE "+quoted+" TEMPLATE shop OWNER shop")
	defer query(t, shared.Production, "postgres", "DROP DATABASE "+quoted)
	defer func() {
		for _, suffix := range []string{`"`, `_previous"`} {
			query(t, shared.Staging, "postgres", "DROP DATABASE IF EXISTS "+strings.TrimSuffix(quoted, `"`)+suffix)
		}
	}()
	file := filepath.Join(dir, "hosts.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, `back "ups" $(id) '`)
	text = bytes.ReplaceAll(text, []byte("name: shop"), fmt.Appendf(nil, "name: %q", name))
	text = backupsLine.ReplaceAll(text, fmt.Appendf(nil, "${1}%s", strings.ReplaceAll(fmt.Sprintf("%q", folder), "$", "$$")))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	created := succeed(t, dir, "backup:create")
	if _, err := os.Stat(filepath.Join(folder, created.Backup, "manifest.json")); err != nil {
		t.Error(err)
	}
	succeed(t, dir, "staging:plan")
	succeed(t, dir, "staging:reset")
	succeed(t, dir, "staging:reset")
	succeed(t, dir, "staging:rollback")
	if got := query(t, shared.Staging, name, "SELECT count(*) FROM products"); got != "200" {
		t.Errorf("products holds %s rows, want 200", got)
	}
}

func TestALoadThatFailsHalfWayLeavesNoRawByteOnStagingOrInOurOutput(t *testing.T) {
	dir := take(t)
	file := filepath.Join(dir, "sql", "shop", "columns.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// A mask that the column refuses: the server's CONTEXT quotes the raw line of the COPY, its DETAIL the row.
	broken := strings.Replace(string(text), "  name:  [full_name]\n", "", 1)
	broken = strings.Replace(broken, `sql:   {search_doc: "to_tsvector('simple', '')"}`, `sql:   {search_doc: "to_tsvector('simple', '')", full_name: "null"}`, 1)
	if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	c := mage(dir, "staging:reset")
	out, _ := c.CombinedOutput()
	if c.ProcessState.ExitCode() != 4 || !strings.Contains(string(out), "loading public.customers on staging") {
		t.Errorf("exit code %d\n%s", c.ProcessState.ExitCode(), out)
	}
	for _, value := range strings.Split(query(t, shared.Production, "shop", "SELECT email FROM customers UNION SELECT full_name FROM customers"), "\n") {
		if strings.Contains(string(out), value) {
			t.Errorf("our output holds %q:\n%s", value, out)
		}
	}
	nothingRaw(t, dir)
}
