package mask_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"rehearsal/internal/lab"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
)

// cluster starts one server for all tests that need one.
var (
	cluster = sync.OnceValues(func() (_ *lab.Cluster, err error) {
		started, err = lab.StartCluster(context.Background(), "mask", "")
		return started, err
	})
	started *lab.Cluster
)

func TestMain(m *testing.M) {
	code := m.Run()
	if started != nil {
		if err := started.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// database is a database of its own for one test.
type database struct {
	t       testing.TB
	cluster *lab.Cluster
	name    string
	conn    *pgx.Conn
}

func newDatabase(t testing.TB, schema string) *database {
	t.Helper()
	c, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(strings.NewReplacer("/", "_", "-", "_", "#", "_").Replace(t.Name()))
	name = name[max(0, len(name)-60):]
	if _, err := c.SQL(t.Context(), "postgres", `DROP DATABASE IF EXISTS "`+name+`"; CREATE DATABASE "`+name+`"`); err != nil {
		t.Fatal(err)
	}
	d := &database{t: t, cluster: c, name: name}
	d.sql(schema)
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=postgres dbname=%s", c.Socket, c.Port, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	d.conn = conn
	return d
}

func (d *database) sql(script string) string {
	d.t.Helper()
	out, err := d.cluster.SQL(d.t.Context(), d.name, script)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func (d *database) schema() []postgres.Table {
	d.t.Helper()
	schema, err := postgres.Schema(d.t.Context(), d.conn)
	if err != nil {
		d.t.Fatal(err)
	}
	return schema
}

func (d *database) plan(columns string) *mask.Plan {
	d.t.Helper()
	rules, err := mask.Parse("columns.yaml", []byte(columns))
	if err != nil {
		d.t.Fatal(err)
	}
	plan, err := rules.Plan(d.schema())
	if err != nil {
		d.t.Fatal(err)
	}
	return plan
}

// install makes the triggers of the plan.
func (d *database) install(plan *mask.Plan) {
	d.t.Helper()
	for _, t := range plan.Tables {
		d.sql(t.Trigger())
	}
}

// copyIn loads rows in COPY's text format.
func (d *database) copyIn(settings map[string]string, table, rows string) error {
	return d.psql(settings, "COPY "+table+" FROM STDIN", rows)
}

// psql runs one command as pg_restore does: under an empty search_path, with the settings in PGOPTIONS.
func (d *database) psql(settings map[string]string, command, stdin string) error {
	options := "-c search_path="
	for name, value := range settings {
		options += " -c " + name + "=" + value
	}
	cmd := exec.CommandContext(d.t.Context(), filepath.Join(d.cluster.Bin, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1",
		"-h", d.cluster.Socket, "-p", strconv.Itoa(d.cluster.Port), "-U", "postgres", "-d", d.name, "-c", command)
	cmd.Env = append(os.Environ(), "PGOPTIONS="+options)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (d *database) load(key mask.Key, table, rows string) {
	d.t.Helper()
	if err := d.copyIn(key.Settings(), table, rows); err != nil {
		d.t.Fatal(err)
	}
}

// prove runs the proof of a table: its rows and the violations of each masked column, nil where none is counted. A Prover
// that reads the rows must come to the same.
func (d *database) prove(t mask.Table) (rows int64, violations []*int64) {
	d.t.Helper()
	violations = make([]*int64, len(t.Masked))
	into := []any{&rows}
	for i := range violations {
		into = append(into, &violations[i])
	}
	if err := d.conn.QueryRow(d.t.Context(), t.Proof()).Scan(into...); err != nil {
		d.t.Fatalf("%v\n%s", err, t.Proof())
	}
	var names, quoted []string
	for _, c := range t.Columns {
		names, quoted = append(names, c.Name), append(quoted, postgres.Ident(c.Name))
	}
	prover := t.Prover(names)
	copied, err := d.conn.PgConn().CopyTo(d.t.Context(), prover,
		fmt.Sprintf("COPY (SELECT %s FROM ONLY %s) TO STDOUT", strings.Join(quoted, ", "), postgres.Ident(t.Schema, t.Name)))
	if err != nil || copied.RowsAffected() != rows {
		d.t.Fatalf("%d rows of %d: %v", copied.RowsAffected(), rows, err)
	}
	for i, c := range t.Masked {
		if n, ok := prover.Violations(c.Name); ok && (violations[i] == nil || *violations[i] != n) {
			d.t.Errorf("%s: a Prover finds %d violations, the server %d", c.Name, n, *violations[i])
		}
	}
	return rows, violations
}

// violated names the columns of a table that its proof finds violated.
func (d *database) violated(t mask.Table) (columns []string) {
	d.t.Helper()
	_, violations := d.prove(t)
	for i, n := range violations {
		if n != nil && *n > 0 {
			columns = append(columns, t.Masked[i].Name)
		}
	}
	return columns
}

func table(t testing.TB, plan *mask.Plan, name string) mask.Table {
	t.Helper()
	for _, one := range plan.Tables {
		if one.Qualified() == name {
			return one
		}
	}
	t.Fatalf("no table %s in the plan", name)
	return mask.Table{}
}

func key(t testing.TB, secret string) mask.Key {
	t.Helper()
	t.Setenv(mask.KeyVariable, secret)
	k, err := mask.LoadKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}
