package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// site is one host with sshd and PostgreSQL; its home directory is a folder of the test.
type site struct {
	cluster *lab.Cluster
	spec    inventory.Server
	home    string
}

func newSite(t *testing.T) *site {
	t.Helper()
	home := t.TempDir()
	sshd, machine, err := lab.StartHost(t.Context(), inventory.Host{Name: "db1", Role: inventory.Staging, State: "~/.rehearsal"}, t.TempDir(), "SetEnv HOME="+home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sshd.Stop() })
	cluster, err := lab.StartCluster(t.Context(), "db1", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cluster.Stop() })
	machine.PostgresBin = cluster.Bin
	s := &site{cluster: cluster, home: home}
	s.sql(t, "CREATE ROLE rehearsal LOGIN CREATEDB PASSWORD 'right pass:word'; CREATE ROLE shop; GRANT shop, pg_signal_backend TO rehearsal; CREATE DATABASE shop OWNER shop")
	s.spec = inventory.Server{Socket: cluster.Socket, Port: cluster.Port, Name: "shop", User: "rehearsal", Owner: "shop", Host: machine}
	return s
}

func (s *site) sql(t *testing.T, sql string) string {
	t.Helper()
	out, err := s.cluster.SQL(context.Background(), "postgres", sql)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (s *site) dial(t *testing.T, change func(*inventory.Server)) *postgres.Server {
	t.Helper()
	h, err := host.Dial(t.Context(), s.spec.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	spec := s.spec
	if change != nil {
		change(&spec)
	}
	return &postgres.Server{Host: h, Spec: spec}
}

func tcp(spec *inventory.Server) { spec.Socket, spec.Address = "", "127.0.0.1" }

func TestAServerIsReachedThroughSSH(t *testing.T) {
	s := newSite(t)
	t.Run("by peer authentication over its socket, whatever PG variables say", func(t *testing.T) {
		t.Setenv("PGSERVICE", "production")
		t.Setenv("PGHOST", "production.example.com")
		t.Setenv("PGOPTIONS", "-c search_path=evil")
		works(t, s.dial(t, nil))
	})
	t.Run("by the password in the host's .pgpass over TCP", func(t *testing.T) {
		entry := fmt.Sprintf("127.0.0.1:%d:*:rehearsal:right pass\\:word\n", s.spec.Port)
		if err := os.WriteFile(filepath.Join(s.home, ".pgpass"), []byte(entry), 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(filepath.Join(s.home, ".pgpass"))
		works(t, s.dial(t, tcp))
	})
	t.Run("by the password in a variable that the inventory names", func(t *testing.T) {
		t.Setenv("SHOP_PASSWORD", "right pass:word")
		works(t, s.dial(t, func(spec *inventory.Server) { tcp(spec); spec.PasswordEnv = "SHOP_PASSWORD" }))
	})
	for name, c := range map[string]struct {
		change func(*inventory.Server)
		code   run.Code
		hint   string
	}{
		"not with a wrong password":     {func(spec *inventory.Server) { tcp(spec); spec.PasswordEnv = "WRONG" }, run.Unreachable, ".pgpass"},
		"not with an empty variable":    {func(spec *inventory.Server) { tcp(spec); spec.PasswordEnv = "EMPTY" }, run.Usage, "export EMPTY"},
		"not where no server listens":   {func(spec *inventory.Server) { spec.Port++ }, run.Unreachable, "is PostgreSQL running on db1"},
		"not as a role that it has not": {func(spec *inventory.Server) { spec.User = "nobody" }, run.Unreachable, "pg_ident.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("WRONG", "wrong")
			_, err := s.dial(t, c.change).Connect(t.Context(), "shop")
			if run.CodeOf(err) != c.code || !strings.Contains(run.HintOf(err), c.hint) {
				t.Errorf("%v (exit %d, hint %q), want exit %d and a hint with %q", err, run.CodeOf(err), run.HintOf(err), c.code, c.hint)
			}
		})
	}
}

// works connects by pgx and by psql on the host.
func works(t *testing.T, server *postgres.Server) {
	t.Helper()
	conn, err := server.Connect(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var user, path string
	if err := conn.QueryRow(t.Context(), "SELECT current_user, current_setting('search_path')").Scan(&user, &path); err != nil || user != "rehearsal" || path != `"$user", public` {
		t.Errorf("user %q, search_path %q, %v", user, path, err)
	}
	rows, err := server.Run(t.Context(), "shop", "shop", postgres.Script{File: "x.sql", Text: "SELECT current_user, 'a,\"b';"})
	if err != nil || len(rows) != 1 || rows[0][0] != "shop" || rows[0][1] != `a,"b` {
		t.Errorf("psql returned %q, %v", rows, err)
	}
}

func TestAContextStopsItsQueryOnTheServerAndTheSessionStaysUsable(t *testing.T) {
	s := newSite(t)
	for name, change := range map[string]func(*inventory.Server){"socket": nil, "tcp": func(spec *inventory.Server) { tcp(spec); spec.PasswordEnv = "SHOP_PASSWORD" }} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SHOP_PASSWORD", "right pass:word")
			conn, err := s.dial(t, change).Connect(t.Context(), "shop")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			if _, err := conn.Exec(ctx, "SELECT pg_sleep(60)"); err == nil || time.Since(start) > 10*time.Second {
				t.Errorf("the query ended with %v after %s", err, time.Since(start))
			}
			if n := s.sql(t, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'"); n != "0" {
				t.Errorf("%s such queries still run", n)
			}
			if _, err := conn.Exec(t.Context(), "SELECT 1"); err != nil {
				t.Errorf("the session is unusable: %v", err)
			}
		})
	}
}

func TestTheLockSaysWhoHoldsItAndEndsWithItsSession(t *testing.T) {
	server := newSite(t).dial(t, nil)
	lock, err := server.Lock(t.Context(), "shop", "staging:reset")
	if err != nil {
		t.Fatal(err)
	}
	_, err = server.Lock(t.Context(), "shop", "staging:reset")
	if run.CodeOf(err) != run.Locked || !strings.Contains(err.Error(), "rehearsal staging:reset "+run.User()) {
		t.Errorf("a second lock: %v", err)
	}
	other, err := server.Lock(t.Context(), "blog", "staging:reset")
	if err != nil {
		t.Errorf("the lock of another database: %v", err)
	} else {
		other.Release(t.Context())
	}
	lock.Release(t.Context())
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if lock, err = server.Lock(t.Context(), "shop", "staging:reset"); err == nil {
			lock.Release(t.Context())
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after its release: %v", err)
		}
	}
}

func TestASwapEndsSessionsThatComeBackAndRenamesAllOrNothing(t *testing.T) {
	s := newSite(t)
	server := s.dial(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
	defer cancel()
	conn, err := server.ConnectMaintenance(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	ender, err := server.ConnectMaintenance(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer ender.Close(context.Background())
	if err := server.Create(ctx, conn, "shop_incoming", "shop", ""); err != nil {
		t.Fatal(err)
	}
	// An application that reconnects at once, for ever.
	busy, stop := context.WithCancel(ctx)
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		for busy.Err() == nil {
			if c, err := server.Connect(busy, "shop"); err == nil {
				c.Exec(busy, "SELECT pg_sleep(60)")
				c.Close(context.Background())
			}
		}
	}()
	defer func() { stop(); <-idle }()
	time.Sleep(200 * time.Millisecond)
	before := s.sql(t, "SELECT oid FROM pg_database WHERE datname = 'shop_incoming'")
	if err := server.Swap(ctx, conn, ender, []postgres.Rename{{From: "shop", To: "shop_previous"}, {From: "shop_incoming", To: "shop"}}); err != nil {
		t.Fatal(err)
	}
	if after := s.sql(t, "SELECT oid FROM pg_database WHERE datname = 'shop'"); after != before {
		t.Errorf("shop is database %s, want %s", after, before)
	}
	err = server.Swap(ctx, conn, ender, []postgres.Rename{{From: "shop", To: "shop_x"}, {From: "nowhere", To: "shop"}})
	if err == nil {
		t.Error("a rename of what is not there went well")
	}
	if after := s.sql(t, "SELECT oid FROM pg_database WHERE datname = 'shop'"); after != before {
		t.Error("half a swap happened")
	}
}

func TestADatabaseThatNoRunMadeIsNeverDropped(t *testing.T) {
	s := newSite(t)
	server := s.dial(t, nil)
	conn, err := server.ConnectMaintenance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	s.sql(t, "CREATE DATABASE shop_incoming OWNER shop")
	err = server.Create(t.Context(), conn, "shop_incoming", "shop", "")
	if err == nil || !strings.Contains(err.Error(), "no run of ours made it") {
		t.Errorf("got %v", err)
	}
	if s.sql(t, "SELECT count(*) FROM pg_database WHERE datname = 'shop_incoming'") != "1" {
		t.Error("it is gone")
	}
}

func TestMissingRightsAreNamedWithTheirGrants(t *testing.T) {
	s := newSite(t)
	s.sql(t, "ALTER ROLE rehearsal NOCREATEDB; REVOKE shop, pg_signal_backend FROM rehearsal")
	server := s.dial(t, nil)
	conn, err := server.ConnectMaintenance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	err = server.Replaceable(t.Context(), conn, s.spec)
	for _, want := range []string{`ALTER ROLE "rehearsal" CREATEDB`, `GRANT "shop" TO "rehearsal"; ALTER ROLE "rehearsal" INHERIT`, `GRANT pg_signal_backend TO "rehearsal"`} {
		if !strings.Contains(run.HintOf(err), want) {
			t.Errorf("hint %q does not say %s", run.HintOf(err), want)
		}
	}
	// As the hint says:
	s.sql(t, strings.TrimSpace(run.HintOf(err)[strings.Index(run.HintOf(err), "): ")+3:]))
	if err := server.Replaceable(t.Context(), conn, s.spec); err != nil {
		t.Errorf("after the grants: %v", err)
	}
	var exit *host.ExitError
	if _, err := server.Run(t.Context(), "shop", "shop", postgres.Script{File: "x.sql", Text: "SELECT 1;\nSELECT oops;"}); err == nil || errors.As(err, &exit) ||
		!strings.Contains(err.Error(), "x.sql:2: ERROR:  column \"oops\" does not exist") {
		t.Errorf("got %v", err)
	}
}
