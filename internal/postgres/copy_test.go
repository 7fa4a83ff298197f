package postgres

import (
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
)

func TestALoadTakesAsLongAsItTakes(t *testing.T) {
	c, err := lab.StartCluster(t.Context(), "untimed", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop() })
	limits := `CREATE TABLE t (a text); ALTER ROLE rehearsal SET statement_timeout = '2s'`
	version, err := c.SQL(t.Context(), "postgres", "CREATE ROLE rehearsal LOGIN; CREATE ROLE shop; GRANT shop TO rehearsal; SELECT current_setting('server_version_num')::int >= 170000")
	if err != nil {
		t.Fatal(err)
	}
	if version == "t" {
		limits += `; ALTER ROLE rehearsal SET transaction_timeout = '2s'`
	}
	if _, err := c.SQL(t.Context(), "postgres", limits+"; ALTER TABLE t OWNER TO shop"); err != nil {
		t.Fatal(err)
	}
	spec := inventory.Server{Host: &inventory.Host{PostgresBin: c.Bin}, Socket: c.Socket, Port: c.Port, User: "rehearsal", Owner: "shop"}
	args := FreezeArgs(spec, "postgres", nil, "COPY t (a) FROM stdin;", "t")
	psql := exec.CommandContext(t.Context(), args[0], args[1:]...)
	rows, feed := io.Pipe()
	psql.Stdin = rows
	go func() {
		io.WriteString(feed, "first\n")
		time.Sleep(2500 * time.Millisecond) // longer than both limits, whatever the machine's speed
		io.WriteString(feed, "last\n")
		feed.Close()
	}()
	if out, err := psql.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if got, err := c.SQL(t.Context(), "postgres", "SELECT string_agg(a, ' ') FROM t"); err != nil || strings.TrimSpace(got) != "first last" {
		t.Errorf("%q, %v", got, err)
	}
}
