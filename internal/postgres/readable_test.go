package postgres_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
)

// One server serves all three: making one takes longest.
func TestLooksThatChangeNothing(t *testing.T) {
	s := newSite(t)
	t.Run("what a role may not read is found", s.whatIsUnreadable)
	t.Run("who holds the lock is seen without taking it", s.whoHoldsTheLock)
	t.Run("settings are those of the role", s.settings)
}

// pg_dump itself is asked whether what was found keeps it from dumping.
func (s *site) whatIsUnreadable(t *testing.T) {
	s.sql(t, `CREATE ROLE backup_reader LOGIN`)
	if _, err := s.cluster.SQL(t.Context(), "shop", `
		CREATE TABLE orders (id bigserial);
		CREATE TABLE "Order Lines" (n int);
		CREATE SCHEMA closed; CREATE TABLE closed.inside (n int);
		CREATE TABLE logs (at int) PARTITION BY RANGE (at); CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (1) TO (2);
		CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM orders;
		CREATE VIEW all_orders AS SELECT * FROM orders;
		CREATE UNLOGGED TABLE cache (n int);
		ALTER TABLE orders OWNER TO shop`); err != nil {
		t.Fatal(err)
	}
	on := func(t *testing.T, sql string) {
		t.Helper()
		if _, err := s.cluster.SQL(t.Context(), "shop", sql); err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T, role string, want postgres.Unreadable) {
		t.Helper()
		server := s.dial(t, func(spec *inventory.Server) { spec.User = role })
		conn, err := server.Connect(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		got, err := postgres.FindUnreadable(t.Context(), conn)
		if err != nil || !slices.Equal(got.Denied, want.Denied) || !slices.Equal(got.Hidden, want.Hidden) || got.LargeObjects != want.LargeObjects {
			t.Errorf("%s may not read %+v (%v), want %+v", role, got, err, want)
		}
		dumps := server.Host.Run(t.Context(), host.Cmd{Args: []string{s.spec.Host.PostgresBin + "/pg_dump", "--file=/dev/null", "--dbname=" + postgres.Conninfo(server.Spec, "shop")}})
		clean := len(want.Denied)+len(want.Hidden) == 0 && want.LargeObjects == 0
		if exit := new(host.ExitError); clean != (dumps == nil) || !clean && !errors.As(dumps, &exit) {
			t.Errorf("pg_dump as %s: %v", role, dumps)
		}
	}
	check(t, "backup_reader", postgres.Unreadable{Denied: []string{"closed.inside", `"public"."Order Lines"`, "public.cache", "public.logs", "public.logs_1", "public.orders", "public.orders_id_seq"}})
	on(t, `GRANT SELECT ON ALL TABLES IN SCHEMA public, closed TO backup_reader, rehearsal; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO backup_reader, rehearsal`)
	check(t, "backup_reader", postgres.Unreadable{Denied: []string{"closed.inside"}})
	on(t, `GRANT USAGE ON SCHEMA closed TO backup_reader, rehearsal`)
	check(t, "backup_reader", postgres.Unreadable{})

	on(t, `ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE logs ENABLE ROW LEVEL SECURITY`)
	check(t, "backup_reader", postgres.Unreadable{Hidden: []string{"public.orders"}})
	on(t, `ALTER ROLE backup_reader BYPASSRLS`)
	check(t, "backup_reader", postgres.Unreadable{})
	check(t, "rehearsal", postgres.Unreadable{}) // of the owner, shop
	on(t, `ALTER TABLE orders FORCE ROW LEVEL SECURITY`)
	check(t, "rehearsal", postgres.Unreadable{Hidden: []string{"public.orders"}})
	on(t, `ALTER TABLE orders DISABLE ROW LEVEL SECURITY`)

	on(t, `SELECT lo_create(1), lo_create(2), lo_create(3); GRANT SELECT ON LARGE OBJECT 1 TO PUBLIC; GRANT SELECT ON LARGE OBJECT 2 TO backup_reader`)
	check(t, "backup_reader", postgres.Unreadable{LargeObjects: 1})
	on(t, `ALTER ROLE backup_reader SET lo_compat_privileges = on`)
	check(t, "backup_reader", postgres.Unreadable{})

	on(t, `CREATE TABLE of_extension (n int); CREATE EXTENSION citext; ALTER EXTENSION citext ADD TABLE of_extension`)
	check(t, "backup_reader", postgres.Unreadable{})
	// What pg_extension_config_dump does, which only an extension's script may call.
	on(t, `UPDATE pg_extension SET extconfig = ARRAY['of_extension'::regclass::oid], extcondition = ARRAY[''] WHERE extname = 'citext'`)
	check(t, "backup_reader", postgres.Unreadable{Denied: []string{"public.of_extension"}})
}

func (s *site) whoHoldsTheLock(t *testing.T) {
	server := s.dial(t, nil)
	conn, err := server.ConnectMaintenance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, name := range []string{"shop", "other", "a", "b", "c", "d"} { // hashes of either sign
		if h, err := postgres.LockHolder(t.Context(), conn, name); h != nil || err != nil {
			t.Errorf("%s is held by %+v (%v)", name, h, err)
		}
		lock, err := server.Lock(t.Context(), name, "staging:reset")
		if err != nil {
			t.Fatal(err)
		}
		h, err := postgres.LockHolder(t.Context(), conn, name)
		if err != nil || h == nil || !strings.HasPrefix(h.Who, "rehearsal staging:reset ") || time.Since(h.Since) > time.Minute {
			t.Errorf("%s is held by %+v (%v)", name, h, err)
		}
		if err := lock.Release(t.Context()); err != nil {
			t.Error(err)
		}
		for range 100 { // the session ends a moment after its client has gone
			if h, err = postgres.LockHolder(t.Context(), conn, name); h == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if h != nil || err != nil {
			t.Errorf("%s is still held by %+v (%v)", name, h, err)
		}
	}
}

func (s *site) settings(t *testing.T) {
	s.sql(t, "ALTER ROLE rehearsal SET maintenance_work_mem = '123MB'")
	conn, err := s.dial(t, nil).ConnectMaintenance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	got, err := postgres.Tune(t.Context(), conn)
	if want := (postgres.Tuning{MaxWAL: 2 << 30, MaintenanceWorkMem: 123 << 20}); err != nil || got != want {
		t.Errorf("%+v (%v), want %+v", got, err, want)
	}
}
