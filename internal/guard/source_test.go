package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// site is a host with sshd and a production server of the lab, and the inventory's entry for it.
type site struct {
	cluster *lab.Cluster
	sshd    *lab.SSHD
	spec    inventory.Server
}

func newSite(t *testing.T, extra ...string) *site {
	t.Helper()
	c, err := lab.StartCluster(t.Context(), "db1", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := &site{cluster: c, spec: inventory.Server{Socket: c.Socket, Port: c.Port, Name: "shop", User: "backup_reader", DataDirectory: c.Data}}
	s.sql(t, "CREATE ROLE backup_reader LOGIN; GRANT pg_read_all_data, pg_monitor TO backup_reader; CREATE DATABASE shop;")
	s.spec.SystemIdentifier = s.sql(t, "SELECT system_identifier FROM pg_control_system()")
	s.serve(t, extra...)
	return s
}

// serve starts the host's sshd.
func (s *site) serve(t *testing.T, extra ...string) {
	t.Helper()
	var err error
	machine := inventory.Host{Name: "production", Role: inventory.Production, State: "~/.rehearsal", PostgresBin: s.cluster.Bin}
	if s.sshd, s.spec.Host, err = lab.StartHost(t.Context(), machine, t.TempDir(), extra...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.sshd.Stop() })
}

func (s *site) sql(t *testing.T, script string) string {
	t.Helper()
	out, err := s.cluster.SQL(context.Background(), "postgres", script)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// restart does something to the stopped server.
func (s *site) restart(t *testing.T, do func()) {
	t.Helper()
	if err := s.cluster.Halt(); err != nil {
		t.Fatal(err)
	}
	do()
	if err := s.cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// configure adds lines to postgresql.conf.
func (s *site) configure(t *testing.T, line string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.cluster.Data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(line + "\n")
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// look is what Source finds.
func (s *site) look(t *testing.T, change func(*inventory.Server)) []Finding {
	t.Helper()
	spec := s.spec
	if change != nil {
		change(&spec)
	}
	h, err := host.Dial(t.Context(), spec.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	findings, err := Source(t.Context(), &postgres.Server{Host: h, Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// want fails the test unless exactly the named findings have another status than OK; "name=status: part of the
// detail or hint".
func want(t *testing.T, findings []Finding, expected ...string) {
	t.Helper()
	var all []string
	for _, f := range findings {
		all = append(all, fmt.Sprintf("%-18s %-15s %s [%s]", f.Name, f.Status, f.Detail, f.Hint))
		text := fmt.Sprintf("%s=%s: %s %s", f.Name, f.Status, f.Detail, f.Hint)
		i := slices.IndexFunc(expected, func(e string) bool {
			head, part, _ := strings.Cut(e, ": ")
			return strings.HasPrefix(text, head+":") && strings.Contains(text, part)
		})
		switch {
		case i >= 0:
			expected = slices.Delete(slices.Clone(expected), i, i+1)
		case f.Status != OK:
			t.Errorf("not expected: %s", text)
		}
		if f.Host != "production" || f.Detail == "" || (f.Hint == "") != (f.Status == OK) || (f.Status == Failed) != (f.Code == run.Unfit) {
			t.Errorf("not whole: %+v", f)
		}
	}
	for _, e := range expected {
		t.Errorf("missing: %s", e)
	}
	if t.Failed() {
		t.Logf("all findings:\n%s", strings.Join(all, "\n"))
	}
}

func TestAHealthySourceIsFoundHealthyAndItsWrongInventoryIsNot(t *testing.T) {
	s := newSite(t)
	t.Run("healthy", func(t *testing.T) {
		findings := s.look(t, nil)
		want(t, findings)
		var all []string
		for _, f := range findings {
			all = append(all, f.Name)
		}
		if got := strings.Join(all, ", "); got != "system identifier, data directory, major version, database, recovery, postmaster.pid, routes, "+
			"processes, containers, control file, data checksums, checksum failures, collation" {
			t.Errorf("findings are %s", got)
		}
	})
	t.Run("healthy over TCP too", func(t *testing.T) {
		s.sql(t, "ALTER ROLE backup_reader PASSWORD 'secret'")
		t.Setenv("SHOP_PASSWORD", "secret")
		want(t, s.look(t, func(spec *inventory.Server) {
			spec.Socket, spec.Address, spec.PasswordEnv = "", "127.0.0.1", "SHOP_PASSWORD"
		}), "routes=ok: "+s.cluster.Socket)
	})
	t.Run("wrong inventory", func(t *testing.T) {
		want(t, s.look(t, func(spec *inventory.Server) {
			spec.SystemIdentifier, spec.DataDirectory, spec.MajorVersion, spec.Name = "1", "/srv/pg", 9, "shop2"
		}), "system identifier=failed: the inventory's production has 1", "data directory=failed: the inventory's production in /srv/pg",
			"major version=failed: is PostgreSQL 15, the inventory's production 9", `database=failed: no database "shop2"`,
			"collation=could not check: no such database")
	})
	t.Run("a role that may see little", func(t *testing.T) {
		s.sql(t, "REVOKE pg_monitor FROM backup_reader")
		defer s.sql(t, "GRANT pg_monitor TO backup_reader")
		want(t, s.look(t, nil), `data directory=could not check: GRANT pg_monitor TO "backup_reader"`, `routes=could not check: GRANT pg_monitor TO "backup_reader"`)
	})
	t.Run("processes that do not show", func(t *testing.T) {
		h, err := host.Dial(t.Context(), s.spec.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		routes := func(server *postgres.Server) Finding {
			conn, err := server.ConnectMaintenance(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			l := look{server: server, conn: conn}
			if l.id, err = postgres.Identify(t.Context(), conn); err == nil {
				l.health, err = server.Health(t.Context(), conn, l.id)
			}
			if err != nil {
				t.Fatal(err)
			}
			l.around(t.Context())
			l.machine = machine{}
			want(t, []Finding{l.processes()}, "processes=could not check: our own session is not among the processes")
			return l.routes(t.Context())
		}
		want(t, []Finding{routes(&postgres.Server{Host: h, Spec: s.spec})}, "routes=could not check: .pgpass")
		t.Setenv("SHOP_PASSWORD", "secret")
		spec := s.spec
		spec.PasswordEnv = "SHOP_PASSWORD"
		want(t, []Finding{routes(&postgres.Server{Host: h, Spec: spec})}, "routes=ok: the same server answers at 127.0.0.1")
	})
	t.Run("a collation that has changed since", func(t *testing.T) {
		s.sql(t, "CREATE DATABASE shop3 TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'und'")
		in3 := func(spec *inventory.Server) { spec.Name = "shop3" }
		want(t, s.look(t, in3), "collation=ok: version 1")
		s.sql(t, "UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'shop3'")
		want(t, s.look(t, in3), `collation=warning: ALTER DATABASE "shop3" REFRESH COLLATION VERSION`)
	})
	t.Run("150 ms away", func(t *testing.T) {
		proxy, err := lab.NewProxy(fmt.Sprintf("127.0.0.1:%d", s.sshd.Port), 150*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.Close()
		far := *s.spec.Host
		far.Address = proxy.Addr()
		h, err := host.Dial(t.Context(), &far)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		begin := time.Now()
		findings, err := Source(t.Context(), &postgres.Server{Host: h, Spec: s.spec})
		if took := time.Since(begin); err != nil || took > 2500*time.Millisecond {
			t.Errorf("%v after %s", err, took)
		} else {
			t.Logf("took %s", took)
		}
		want(t, findings)
	})
}

func TestAnOrdinaryUserOfTheHostIsToldWhatItCannotSee(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the server runs as the user of this test, who may see all of it")
	}
	s := newSite(t, `ForceCommand exec setpriv --reuid=65534 --regid=65534 --clear-groups -- /bin/sh -c "$SSH_ORIGINAL_COMMAND"`)
	// What else runs on this machine may show no directory; judging it is tested on its own.
	others := func(f Finding) bool {
		return f.Name == "processes" && f.Status == Unchecked && !strings.Contains(f.Detail, "container")
	}
	want(t, slices.DeleteFunc(s.look(t, nil), others), "postmaster.pid=could not check: GRANT EXECUTE ON FUNCTION pg_read_file(text) TO backup_reader")
	s.sql(t, "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO backup_reader") // as the hint says
	want(t, slices.DeleteFunc(s.look(t, nil), others))
	twins := startTwins(t, s)
	want(t, s.look(t, nil), "postmaster.pid=failed: a second postmaster has started", "control file=failed: has not written beyond",
		fmt.Sprintf("processes=could not check: process %d in a container", twins.PIDs[1]))
}

func startTwins(t *testing.T, s *site) *lab.Twins {
	t.Helper()
	twins, err := lab.StartTwins(t.Context(), s.cluster)
	if errors.Is(err, lab.ErrNoNamespaces) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := twins.Stop(); err != nil {
			t.Error(err)
		}
	})
	return twins
}

func TestTwoPostmastersOnOneDataDirectoryAreFoundFromEitherThoughBothAreDumpedWithoutAnError(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	twins := startTwins(t, s)
	ask := func(c *lab.Cluster, script string) {
		t.Helper()
		if out, err := c.SQL(t.Context(), "postgres", script); err != nil {
			t.Fatal(err, out)
		}
	}
	ask(twins.Second, "CREATE TABLE b AS SELECT generate_series(1, 1000) AS n; CHECKPOINT")
	fromSecond := func(spec *inventory.Server) { spec.Socket, spec.Port = twins.Second.Socket, twins.Second.Port }
	both := fmt.Sprintf("processes=failed: 2 postmasters work on one data directory: process %d in a container and process %d in a container", twins.PIDs[0], twins.PIDs[1])
	want(t, s.look(t, nil), both, "postmaster.pid=failed: a second postmaster has started", "control file=failed: has not written beyond")
	both = fmt.Sprintf("processes=failed: process %d in a container and process %d in a container", twins.PIDs[1], twins.PIDs[0])
	want(t, s.look(t, fromSecond), both)
	ask(twins.First, "CREATE TABLE a AS SELECT generate_series(1, 10000) AS n; CHECKPOINT")
	want(t, s.look(t, fromSecond), both, "control file=failed")
	ask(twins.Second, "SELECT txid_current(); SELECT txid_current(); SELECT txid_current(); CHECKPOINT") // behind in WAL, ahead in transactions
	want(t, s.look(t, nil), "processes=failed", "postmaster.pid=failed", "control file=failed: transactions more than this server has begun")
	for _, c := range []*lab.Cluster{twins.First, twins.Second} {
		var stderr bytes.Buffer
		cmd := exec.Command(filepath.Join(c.Bin, "pg_dump"), "-h", c.Socket, "-p", fmt.Sprint(c.Port), "-U", "backup_reader", "shop")
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil || stderr.Len() > 0 {
			t.Errorf("pg_dump of %s: %v: %s", c.Name, err, stderr.String())
		}
	}
}

func TestAnotherServerAtAnAddressThatOursNamesIsFound(t *testing.T) {
	s := newSite(t)
	other, err := lab.StartCluster(t.Context(), "other", "")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Stop()
	// Ours names 127.0.0.1 too and cannot have it: PostgreSQL starts with a warning where one address is left.
	s.restart(t, func() {
		s.configure(t, "listen_addresses = '127.0.0.1, 127.0.0.2'")
		s.cluster.Port, s.spec.Port = other.Port, other.Port
	})
	want(t, s.look(t, nil), "routes=failed: another postmaster")
	// With a login there the finding says more.
	t.Setenv("SHOP_PASSWORD", "secret")
	for _, c := range []*lab.Cluster{s.cluster, other} {
		if _, err := c.SQL(t.Context(), "postgres", "CREATE ROLE reader LOGIN PASSWORD 'secret'; GRANT pg_monitor TO reader"); err != nil {
			t.Fatal(err)
		}
	}
	want(t, s.look(t, func(spec *inventory.Server) {
		spec.Socket, spec.Address, spec.User, spec.PasswordEnv = "", "127.0.0.2", "reader", "SHOP_PASSWORD"
	}), "routes=failed: the server at 127.0.0.1 has system identifier")
}

func TestDamageAndAStandbyAreFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.sql(t, "\\c shop\nCREATE TABLE orders AS SELECT n, repeat('x', 100) FROM generate_series(1, 1000) n; CHECKPOINT")
	file := s.sql(t, "\\c shop\nSELECT pg_relation_filepath('orders')")
	s.restart(t, func() { damage(t, filepath.Join(s.cluster.Data, file)) })
	if out, err := s.cluster.SQL(t.Context(), "shop", "SELECT count(*) FROM orders"); err == nil {
		t.Fatalf("the damaged table has %s rows", out)
	}
	want(t, s.look(t, nil), "checksum failures=failed: SELECT pg_stat_reset()")
	s.restart(t, func() {
		cmd := exec.Command(filepath.Join(s.cluster.Bin, "pg_checksums"), "--disable", "-D", s.cluster.Data)
		if os.Geteuid() == 0 {
			cmd = exec.Command("setpriv", append([]string{"--reuid=" + s.cluster.User, "--regid=" + s.cluster.User, "--clear-groups", "--"}, cmd.Args...)...)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
	s.sql(t, "\\c shop\nSELECT pg_stat_reset()")
	want(t, s.look(t, nil), "data checksums=warning: pg_checksums --enable", "checksum failures=warning: not counted")
	s.restart(t, func() {
		if err := os.WriteFile(filepath.Join(s.cluster.Data, "standby.signal"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	})
	want(t, s.look(t, nil), "recovery=failed: is a standby", "control file=could not check: a standby", "data checksums=warning", "checksum failures=warning")
}

// damage changes some bytes in the middle of a file's first page.
func damage(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("damaged"), 5000)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestSourceFailsWhereTheServerIsOutOfReach(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := s.cluster.Halt(); err != nil {
		t.Fatal(err)
	}
	h, err := host.Dial(t.Context(), s.spec.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if findings, err := Source(t.Context(), &postgres.Server{Host: h, Spec: s.spec}); run.CodeOf(err) != run.Unreachable {
		t.Errorf("%v, %v", findings, err)
	}
}
