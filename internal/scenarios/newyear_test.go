package scenarios

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
)

// TestNewYearsEve is the night that this project exists for. Several PostgreSQL servers, each in a container of its own,
// had come to compete for one data directory, and for one address; the nightly backup ran without an error for weeks, and
// held nothing. Everything that such a job looks at says that all is well, which is shown first. Then Rehearsal looks.
func TestNewYearsEve(t *testing.T) {
	s := newSpecimen(t)
	production := s.ownProduction(t)
	s.try(t, try{target: "backup:create", verdict: "sealed", warns: `a first backup has no history`})
	s.try(t, try{target: "backup:verify", verdict: "verified"})
	s.healthyDoctor(t)
	there := s.backups(t)

	t.Run("an empty instance answers where production did", func(t *testing.T) {
		stopServer(t, production)
		empty := impostor(t)
		query(t, empty, "postgres", "CREATE DATABASE shop OWNER shop")
		stopServer(t, empty)
		empty.Socket, empty.Port = production.Socket, production.Port
		startServer(t, empty)

		if rows := nightly(t, empty); rows != "" {
			t.Errorf("an empty database has rows: %q", rows)
		}

		cause := `the server on production has system identifier \d+, the inventory's production has \d+`
		s.try(t, try{target: "backup:create", code: 3, says: cause + `[\s\S]*next: another server answers at production's socket or port`})
		s.try(t, try{target: "doctor", code: 3, says: cause})
		s.checkListed(t, "", "", there)
		stopServer(t, empty)
	})

	t.Run("two postmasters work on production's data directory", func(t *testing.T) {
		twins, err := lab.StartTwins(context.Background(), production)
		if errors.Is(err, lab.ErrNoNamespaces) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer twins.Stop()
		query(t, twins.First, "shop", "INSERT INTO events (at, what) SELECT now(), 'signed in' FROM generate_series(1, 10)")
		query(t, twins.Second, "shop", "INSERT INTO events (at, what) SELECT now(), 'signed in' FROM generate_series(1, 25)")

		first, second := nightly(t, twins.First), nightly(t, twins.Second)
		if first != "2040" || second != "2055" {
			t.Errorf("the dumps of one data directory hold %s and %s events, want 2040 and 2055", first, second)
		}
		for _, name := range []string{"twin1.log", "twin2.log"} {
			text := string(path(filepath.Join(production.Dir, name)).read(t))
			if strings.Contains(text, "ERROR") || strings.Contains(text, "PANIC") {
				t.Errorf("%s: %s", name, text)
			}
		}

		cause := `2 postmasters work on one data directory: process \d+ in a container and process \d+ in a container`
		s.try(t, try{target: "backup:create", code: 3, says: cause})
		s.try(t, try{target: "doctor", code: 3, says: `postmaster\.pid on production: it is of a postmaster (that began at \S+ \S+ UTC; the one that answers began at |on port \d+; the one that answers has port )`}) // they may begin in one second
		s.answersAt(t, twins.First, twins.Second)
		s.try(t, try{target: "backup:create", code: 3, says: cause})
		s.try(t, try{target: "doctor", code: 3, says: cause})
		s.checkListed(t, "", "", there)
	})
}

// ownProduction gives the specimen a production server of its own, which may be ruined: with the shared one's rows, and
// without backups of the shared one.
func (s *specimen) ownProduction(t *testing.T) *lab.Cluster {
	t.Helper()
	c := impostor(t)
	query(t, c, "postgres", "CREATE DATABASE shop OWNER shop")
	query(t, c, "shop", pgDump(t, shared.Production, "shop"))
	s.answersAt(t, shared.Production, c)
	inv, err := inventory.Load(filepath.Join(s.dir, "hosts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.inventory(t, inv.Databases["shop"].Production.SystemIdentifier, query(t, c, "postgres", "SELECT system_identifier FROM pg_control_system()"))
	s.inventory(t, inv.Databases["shop"].Production.DataDirectory, c.Data)
	if err := os.RemoveAll(filepath.Join(s.dir, "backups")); err != nil {
		t.Fatal(err)
	}
	return c
}

// nightly is the nightly job and a careful person's drill of it: pg_dump, pg_restore -l, a restore of everything. All of
// it must succeed. It returns the number of events in the restored database, "" where it has no such table.
func nightly(t *testing.T, c *lab.Cluster) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nightly.dump")
	pgDump(t, c, "shop", "--format=custom", "--file="+file)
	if out, err := exec.Command(filepath.Join(c.Bin, "pg_restore"), "--list", file).CombinedOutput(); err != nil {
		t.Errorf("pg_restore --list: %v: %s", err, out)
	}
	to := shared.Staging
	query(t, to, "postgres", "CREATE DATABASE nightly OWNER shop")
	defer query(t, to, "postgres", "DROP DATABASE nightly")
	restore := exec.Command(filepath.Join(to.Bin, "pg_restore"), "--exit-on-error", "--no-privileges", "-h", to.Socket, "-p", strconv.Itoa(to.Port), "-U", "postgres", "-d", "nightly", file)
	if out, err := restore.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("pg_restore: %v: %s", err, out)
	}
	if query(t, to, "nightly", "SELECT to_regclass('public.events')") == "" {
		return ""
	}
	return query(t, to, "nightly", "SELECT count(*) FROM public.events")
}

// healthyDoctor makes sure that doctor finds nothing that a lab does not have.
func (s *specimen) healthyDoctor(t *testing.T) {
	t.Helper()
	checks := s.try(t, try{target: "doctor"}).Checks
	for _, c := range checks {
		if c.Status != "ok" && c.Name != "containers" { // which depends on the machine
			t.Errorf("doctor: %s on %s: %s: %s", c.Name, c.Host, c.Status, c.Detail)
		}
	}
	if len(checks) < 30 {
		t.Errorf("doctor made %d checks", len(checks))
	}
}

func stopServer(t *testing.T, c *lab.Cluster) {
	t.Helper()
	if err := c.Halt(); err != nil {
		t.Fatal(err)
	}
}

func startServer(t *testing.T, c *lab.Cluster) {
	t.Helper()
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
}
