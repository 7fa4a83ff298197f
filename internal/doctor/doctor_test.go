package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/backup"
	"rehearsal/internal/guard"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
	"rehearsal/internal/staging"
)

// site is a lab after one backup and one reset. Whoever changes it puts it back.
var site *lab.Lab

func TestMain(m *testing.M) { os.Exit(withLab(m)) }

func withLab(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "rehearsal-doctor-")
	if err == nil {
		defer os.RemoveAll(dir)
		site, err = lab.Up(ctx, lab.Options{Dir: filepath.Join(dir, "lab"), Orders: 500}, nil)
	}
	if err == nil {
		defer site.Down(context.WithoutCancel(ctx))
		_, err = site.Production.SQL(ctx, "shop", `CREATE EXTENSION IF NOT EXISTS amcheck;
			GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean), verify_heapam(regclass, boolean, boolean, text, bigint, bigint) TO backup_reader`)
	}
	if err == nil {
		err = rehearseOnce(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "setting up:", err)
		return 1
	}
	return m.Run()
}

func rehearseOnce(ctx context.Context) error {
	inv, err := inventory.Load(site.Inventory())
	if err != nil {
		return err
	}
	_, err = capture(func() error {
		return run.Main(ctx, "setup", func(ctx context.Context, t *run.Target) error {
			db, err := inv.Database("")
			if err == nil {
				err = backup.Create(ctx, t, db)
			}
			if err == nil {
				err = staging.Reset(ctx, t, db, inv.Accounts, staging.Options{})
			}
			return err
		})
	})
	return err
}

// capture returns what f writes to stdout.
func capture(f func() error) (string, error) {
	file, err := os.CreateTemp("", "stdout-")
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	stdout := os.Stdout
	os.Stdout = file
	failed := f()
	os.Stdout = stdout
	text, err := os.ReadFile(file.Name())
	if failed == nil {
		failed = err
	}
	return string(text), failed
}

// load reads the lab's inventory anew, for a test to change.
func load(t *testing.T) (*inventory.Inventory, *inventory.Database) {
	t.Helper()
	inv, err := inventory.Load(site.Inventory())
	if err != nil {
		t.Fatal(err)
	}
	db, err := inv.Database("")
	if err != nil {
		t.Fatal(err)
	}
	return inv, db
}

// look is an exam that has looked and not judged yet.
func look(t *testing.T, inv *inventory.Inventory) *exam {
	t.Helper()
	db, err := inv.Database("")
	if err != nil {
		t.Fatal(err)
	}
	e := newExam(inv, []*inventory.Database{db})
	_, err = capture(func() error {
		return run.Main(t.Context(), "doctor", func(ctx context.Context, target *run.Target) error {
			return target.Step(ctx, "look", func(ctx context.Context, s *run.Step) error { e.look(ctx, s); return nil })
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func findings(t *testing.T, inv *inventory.Inventory) []guard.Finding {
	t.Helper()
	return look(t, inv).judge(time.Now())
}

func find(t *testing.T, all []guard.Finding, host, name string) guard.Finding {
	t.Helper()
	i := slices.IndexFunc(all, func(f guard.Finding) bool { return f.Host == host && f.Name == name })
	if i < 0 {
		t.Fatalf("no finding %q on %q among\n%s", name, host, render(all))
	}
	return all[i]
}

func render(all []guard.Finding) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%s %s: %s (%d): %s; next: %s\n", f.Host, f.Name, f.Status, f.Code, f.Detail, f.Hint)
	}
	return b.String()
}

// wrong are the findings that are not well, by name.
func wrong(all []guard.Finding) (names []string) {
	for _, f := range all {
		if f.Status != guard.OK {
			names = append(names, strings.TrimSpace(f.Host+" "+f.Name))
		}
	}
	return names
}

func sql(t *testing.T, c *lab.Cluster, database, do, undo string) {
	t.Helper()
	if _, err := c.SQL(t.Context(), database, do); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.SQL(context.Background(), database, undo); err != nil {
			t.Error(err)
		}
	})
}

func TestNothingIsFoundInAHealthyLab(t *testing.T) {
	inv, _ := load(t)
	all := findings(t, inv)
	var bad []guard.Finding
	for _, f := range all {
		// Whoever is not root sees no processes of others on production; the guard says so.
		if f.Status != guard.OK && (f.Status != guard.Unchecked || os.Geteuid() == 0) {
			bad = append(bad, f)
		}
	}
	if len(bad) > 0 {
		t.Errorf("found:\n%s", render(bad))
	}
	for _, f := range all {
		if f.Detail == "" {
			t.Errorf("%s on %s says nothing", f.Name, f.Host)
		}
	}
}

// Each row breaks one thing; exactly that is found, with the exit code and the next step.
func TestWhatIsBrokenIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		change     func(*testing.T, *inventory.Inventory, *inventory.Database)
		host, what string
		status     guard.Status
		code       run.Code
		detail     string
		hint       string
		only       bool // nothing else is found
	}{
		"a host that is down": {
			change: func(t *testing.T, inv *inventory.Inventory, _ *inventory.Database) {
				inv.Hosts["backup"].Address = closedPort(t)
			},
			host: "backup", what: "reachable", status: guard.Failed, code: run.Unreachable, detail: "connection refused", hint: "ssh -v",
		},
		"another host key": {
			change: func(_ *testing.T, inv *inventory.Inventory, _ *inventory.Database) {
				inv.Hosts["staging"].HostKey = inv.Hosts["production"].HostKey
			},
			host: "staging", what: "reachable", status: guard.Failed, code: run.Unreachable, detail: "has changed", hint: "fingerprint",
		},
		"a table without SELECT": {
			change: func(t *testing.T, _ *inventory.Inventory, _ *inventory.Database) {
				sql(t, site.Production, "shop", "REVOKE pg_read_all_data FROM backup_reader", "GRANT pg_read_all_data TO backup_reader")
			},
			host: "production", what: "rights", status: guard.Failed, code: run.Incomplete, detail: "backup_reader may not read", hint: `GRANT pg_read_all_data TO "backup_reader"`, only: true,
		},
		"a table under row-level security": {
			change: func(t *testing.T, _ *inventory.Inventory, _ *inventory.Database) {
				sql(t, site.Production, "shop", "ALTER TABLE customers ENABLE ROW LEVEL SECURITY", "ALTER TABLE customers DISABLE ROW LEVEL SECURITY")
			},
			host: "production", what: "row security", status: guard.Failed, code: run.Incomplete, detail: "public.customers", hint: `ALTER ROLE "backup_reader" BYPASSRLS`, only: true,
		},
		"a large object of somebody": {
			change: func(t *testing.T, _ *inventory.Inventory, _ *inventory.Database) {
				sql(t, site.Production, "shop", "SELECT lo_create(4711)", "SELECT lo_unlink(4711)")
			},
			host: "production", what: "large objects", status: guard.Failed, code: run.Incomplete, detail: "1 of them", hint: "lo_compat_privileges", only: true,
		},
		"PostgreSQL that does not answer on production": {
			change: func(_ *testing.T, _ *inventory.Inventory, db *inventory.Database) { db.Production.Port = 1 },
			host:   "production", what: "PostgreSQL", status: guard.Failed, code: run.Unreachable, detail: "connecting to PostgreSQL", hint: "is PostgreSQL running",
		},
		"PostgreSQL that does not answer on staging": {
			change: func(_ *testing.T, _ *inventory.Inventory, db *inventory.Database) { db.Staging.Port = 1 },
			host:   "staging", what: "PostgreSQL", status: guard.Failed, code: run.Unreachable, detail: "connecting to PostgreSQL", hint: "is PostgreSQL running",
		},
		"no backup": {
			change: func(_ *testing.T, _ *inventory.Inventory, db *inventory.Database) { db.Backups.Path += "/of/nobody" },
			host:   "backup", what: "newest backup", status: guard.Failed, code: run.Unfit, detail: "never", hint: "mage backup:create",
		},
		"a folder that we cannot write into": {
			change: func(_ *testing.T, inv *inventory.Inventory, _ *inventory.Database) {
				inv.Hosts["staging"].State = "/etc/passwd/state"
			},
			host: "staging", what: "folders", status: guard.Failed, code: run.Unreachable, detail: "/etc/passwd is not writable", hint: "chown", only: true,
		},
		"a pg_dump older than production": {
			change: func(t *testing.T, inv *inventory.Inventory, _ *inventory.Database) {
				clients(t, inv, "production", "14.9")
			},
			host: "production", what: "pg_dump", status: guard.Failed, code: run.Unreachable, detail: "pg_dump is of PostgreSQL 14", hint: "postgres_bin", only: true,
		},
		"a pg_dump newer than staging": {
			change: func(t *testing.T, inv *inventory.Inventory, _ *inventory.Database) {
				clients(t, inv, "production", "18.1")
			},
			host: "staging", what: "versions", status: guard.Failed, code: run.Unreachable, detail: "pg_dump is of PostgreSQL 18", hint: "postgres_bin", only: true,
		},
		"a pg_restore older than pg_dump": {
			change: func(t *testing.T, inv *inventory.Inventory, _ *inventory.Database) {
				clients(t, inv, "staging", "14.9")
			},
			host: "staging", what: "versions", status: guard.Failed, code: run.Unreachable, detail: "pg_restore of 14", hint: "postgres_bin", only: true,
		},
		"no client programs": {
			change: func(t *testing.T, inv *inventory.Inventory, _ *inventory.Database) {
				inv.Hosts["staging"].PostgresBin = t.TempDir()
			},
			host: "staging", what: "programs", status: guard.Failed, code: run.Unreachable, detail: "pg_restore", hint: "postgres_bin",
		},
		"staging that is production": {
			change: func(_ *testing.T, _ *inventory.Inventory, db *inventory.Database) {
				db.Staging.Socket, db.Staging.Port, db.Staging.User = db.Production.Socket, db.Production.Port, db.Production.User
			},
			host: "staging", what: "not production", status: guard.Failed, code: run.Production, detail: "system identifier", hint: "correct them", only: true,
		},
		"a database of others in the way": {
			change: func(t *testing.T, _ *inventory.Inventory, _ *inventory.Database) {
				sql(t, site.Staging, "postgres", "CREATE DATABASE shop_incoming", "DROP DATABASE shop_incoming")
			},
			host: "staging", what: "leftovers", status: guard.Failed, code: run.Unreachable, detail: "shop_incoming", hint: "rename it", only: true,
		},
		"a role without CREATEDB": {
			change: func(t *testing.T, _ *inventory.Inventory, _ *inventory.Database) {
				sql(t, site.Staging, "postgres", "ALTER ROLE rehearsal NOCREATEDB", "ALTER ROLE rehearsal CREATEDB")
			},
			host: "staging", what: "replaceable", status: guard.Failed, code: run.Unreachable, detail: "lacks rights", hint: "CREATEDB", only: true,
		},
		"rows in the server's log": {
			change: func(t *testing.T, _ *inventory.Inventory, _ *inventory.Database) {
				sql(t, site.Staging, "postgres", "ALTER ROLE rehearsal RESET log_min_messages", "ALTER ROLE rehearsal SET log_min_messages = 'panic'")
			},
			host: "staging", what: "log_min_messages", status: guard.Failed, code: run.Unclean, detail: "log", hint: "ALTER ROLE", only: true,
		},
		"a reset at work": {
			change: func(t *testing.T, inv *inventory.Inventory, db *inventory.Database) { holdLock(t, db) },
			host:   "staging", what: "lock", status: guard.Warning, detail: "rehearsal staging:reset", hint: "pg_terminate_backend", only: true,
		},
		"no columns.yaml": {
			change: func(t *testing.T, _ *inventory.Inventory, db *inventory.Database) { db.SQL = t.TempDir() },
			host:   "", what: "sql", status: guard.Failed, code: run.Usage, detail: "columns.yaml", hint: "an example to start from", only: true,
		},
		"a mistake in columns.yaml": {
			change: func(t *testing.T, _ *inventory.Inventory, db *inventory.Database) {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(db.SQL)); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "columns.yaml"), []byte("public.customers:\n  kep: [id]\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				db.SQL = dir
			},
			host: "", what: "sql", status: guard.Failed, code: run.Usage, detail: "columns.yaml:2", hint: "mend", only: true,
		},
		"no accounts": {
			change: func(_ *testing.T, inv *inventory.Inventory, _ *inventory.Database) { inv.Accounts = nil },
			host:   "", what: "accounts", status: guard.Warning, detail: "nobody", hint: "accounts.example.yaml", only: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inv, db := load(t)
			c.change(t, inv, db)
			all := findings(t, inv)
			f := find(t, all, c.host, c.what)
			if f.Status != c.status || f.Code != c.code || !strings.Contains(f.Detail, c.detail) || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("found %s", render([]guard.Finding{f}))
			}
			if c.only && os.Geteuid() == 0 && len(wrong(all)) != 1 {
				t.Errorf("found as well:\n%s", render(all))
			}
			if c.status == guard.Failed && run.CodeOf(verdict(all)) != c.code {
				t.Errorf("exit code %d, want %d", run.CodeOf(verdict(all)), c.code)
			}
		})
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// clients gives a host client programs that say they are of another version.
func clients(t *testing.T, inv *inventory.Inventory, host, version string) {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range []string{"pg_dump", "pg_restore", "psql", "pg_amcheck"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", tool, version)
		if err := os.WriteFile(filepath.Join(dir, tool), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inv.Hosts[host].PostgresBin = dir
}

func holdLock(t *testing.T, db *inventory.Database) {
	t.Helper()
	h, err := host.Dial(t.Context(), db.Staging.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	s := &postgres.Server{Host: h, Spec: db.Staging}
	lock, err := s.Lock(t.Context(), db.Staging.Name, "staging:reset")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Release(context.Background()) })
}

func TestAHostThatIsNotReachedIsTwoLines(t *testing.T) {
	inv, _ := load(t)
	inv.Hosts["production"].Address = closedPort(t)
	all := findings(t, inv)
	var lines []string
	for _, f := range all {
		if f.Host == "production" {
			lines = append(lines, f.Name)
		}
	}
	if want := []string{"reachable", "everything else"}; !slices.Equal(lines, want) {
		t.Errorf("found %q, want %q", lines, want)
	}
	// What the other hosts need to know of it could not be checked; the rest of them was.
	if f := find(t, all, "staging", "versions"); f.Status != guard.Unchecked {
		t.Errorf("found %s", render([]guard.Finding{f}))
	}
	if f := find(t, all, "staging", "replaceable"); f.Status != guard.OK {
		t.Errorf("found %s", render([]guard.Finding{f}))
	}
}

func TestEveryHostIsAskedOnceAndDatabasesAreToldApart(t *testing.T) {
	hosts := map[string]*inventory.Host{}
	for name, role := range map[string]inventory.Role{"stage": inventory.Staging, "db1": inventory.Production, "vault": inventory.Backup, "files": inventory.Production} {
		hosts[name] = &inventory.Host{Name: name, Role: role}
	}
	inv := &inventory.Inventory{Hosts: hosts, Databases: map[string]*inventory.Database{},
		Images: map[string]*inventory.ImageStore{"uploads": {Production: []inventory.Tree{{Host: hosts["files"]}}, Backup: []inventory.Tree{{Host: hosts["vault"]}}}}}
	var databases []*inventory.Database
	for _, name := range []string{"crm", "shop"} {
		db := &inventory.Database{Name: name, Production: inventory.Server{Host: hosts["db1"]}, Backups: inventory.Backups{Host: hosts["vault"]}, Staging: inventory.Server{Host: hosts["stage"]}}
		inv.Databases[name] = db
		databases = append(databases, db)
	}
	e := newExam(inv, databases)
	var order []string
	for _, m := range e.machines {
		order = append(order, m.spec.Name)
		m.refused = run.Fail(run.Unreachable, "", "down")
	}
	if want := []string{"db1", "files", "vault", "stage"}; !slices.Equal(order, want) {
		t.Errorf("the hosts are %q, want %q", order, want)
	}
	all := e.judge(time.Now())
	find(t, all, "", "crm: sql")
	find(t, all, "", "shop: sql")
	find(t, all, "files", "reachable")
}

func TestWhatTimeChangesIsFound(t *testing.T) {
	inv, _ := load(t)
	e := look(t, inv)
	later := e.judge(time.Now().Add(27 * time.Hour))
	if f := find(t, later, "backup", "newest backup"); f.Status != guard.Failed || f.Code != run.Unfit || !strings.Contains(f.Detail, "max_age") {
		t.Errorf("a day later found %s", render([]guard.Finding{f}))
	}
	if f := find(t, later, "backup", "last rehearsal"); f.Status != guard.OK {
		t.Errorf("a day later found %s", render([]guard.Finding{f}))
	}
	if f := find(t, e.judge(time.Now().Add(8*24*time.Hour)), "backup", "last rehearsal"); f.Status != guard.Warning {
		t.Errorf("a week later found %s", render([]guard.Finding{f}))
	}
}

func TestARunningOutOfDiskIsFoundBeforeItHappens(t *testing.T) {
	inv, _ := load(t)
	e := look(t, inv)
	m := e.subjects[0].backups.list.is[0].Manifest
	need := m.RestoreBytes()
	d := &e.subjects[0].staging.disk.is
	for free, want := range map[int64]guard.Status{need - 1: guard.Failed, need: guard.Warning, 2*need - 1: guard.Warning, 2 * need: guard.OK} {
		d.free = free
		if f := find(t, e.judge(time.Now()), "staging", "disk"); f.Status != want || f.Status == guard.Failed && f.Code != run.Unreachable {
			t.Errorf("%d bytes free of %d: found %s", free, need, render([]guard.Finding{f}))
		}
	}
	d.free = 1 << 60
	e.subjects[0].production.spool.is.free = m.DumpBytes() - 1
	if f := find(t, e.judge(time.Now()), "production", "disk"); f.Status != guard.Failed {
		t.Errorf("found %s", render([]guard.Finding{f}))
	}
}

func TestClocksThatDifferAreFound(t *testing.T) {
	inv, _ := load(t)
	e := look(t, inv)
	i := slices.IndexFunc(e.machines, func(m *machine) bool { return m.spec.Name == "production" })
	if c := e.machines[i].clock.is; c.ahead.Abs() > c.trip {
		t.Errorf("the same machine's clock is off by %v, over a round trip of %v", c.ahead, c.trip)
	}
	for ahead, want := range map[time.Duration]guard.Status{-9 * time.Second: guard.OK, 11 * time.Second: guard.Warning, 11 * time.Minute: guard.Failed, -11 * time.Minute: guard.Failed} {
		e.machines[i].clock.is.ahead = ahead
		f := find(t, e.judge(time.Now()), "production", "clock")
		if f.Status != want || f.Status == guard.Failed && f.Code != run.Unfit {
			t.Errorf("%v: found %s", ahead, render([]guard.Finding{f}))
		}
	}
}

func TestSettingsAreWorthAWordOnlyForLargeDatabases(t *testing.T) {
	inv, _ := load(t)
	e := look(t, inv)
	e.subjects[0].staging.tuning.is = postgres.Tuning{MaxWAL: 256 << 20, MaintenanceWorkMem: 64 << 20}
	if f := find(t, e.judge(time.Now()), "staging", "settings"); f.Status != guard.OK {
		t.Errorf("a small database: found %s", render([]guard.Finding{f}))
	}
	e.subjects[0].staging.disk.is.free = 1 << 60
	e.subjects[0].backups.list.is[0].Manifest.DatabaseBytes = 100 << 30
	if got, want := wrong(e.judge(time.Now())), []string{"staging max_wal_size", "staging maintenance_work_mem"}; os.Geteuid() == 0 && !slices.Equal(got, want) {
		t.Errorf("a large database: found %q, want %q", got, want)
	}
	e.subjects[0].staging.tuning.is.Archives = true
	if f := find(t, e.judge(time.Now()), "staging", "archive_mode"); f.Status != guard.Warning {
		t.Errorf("found %s", render([]guard.Finding{f}))
	}
}

func TestTheExitCodeIsThatOfTheFirstFailure(t *testing.T) {
	ok := guard.Finding{Name: "a", Status: guard.OK}
	warning := guard.Finding{Name: "b", Status: guard.Warning}
	unchecked := guard.Finding{Name: "c", Host: "h", Status: guard.Unchecked, Detail: "no answer", Code: run.Incomplete}
	stale := guard.Finding{Name: "d", Host: "h", Status: guard.Failed, Detail: "old\nlonger", Hint: "do", Code: run.Unfit}
	down := guard.Finding{Name: "e", Status: guard.Failed, Code: run.Unreachable}
	for _, c := range []struct {
		all     []guard.Finding
		code    run.Code
		message string
	}{
		{[]guard.Finding{ok, warning}, run.Done, ""},
		{[]guard.Finding{ok, warning, unchecked}, run.Incomplete, "1 of 3 checks could not be made: c on h: no answer"},
		{[]guard.Finding{unchecked, stale, down}, run.Unfit, "2 of 3 checks failed: d on h: old"},
	} {
		err := verdict(c.all)
		if run.CodeOf(err) != c.code || err != nil && err.Error() != c.message {
			t.Errorf("%v with code %d, want %q with %d", err, run.CodeOf(err), c.message, c.code)
		}
	}
}

func TestChecksAreInTheJSONObject(t *testing.T) {
	t.Setenv("REHEARSAL_FORMAT", "json")
	inv, db := load(t)
	db.Backups.MaxAge = time.Nanosecond
	out, err := capture(func() error {
		return run.Main(t.Context(), "doctor", func(ctx context.Context, target *run.Target) error {
			return Run(ctx, target, inv, []*inventory.Database{db})
		})
	})
	if run.CodeOf(err) != run.Unfit {
		t.Errorf("%v, want exit code %d", err, run.Unfit)
	}
	var object struct {
		Checks []map[string]string `json:"checks"`
		Error  struct{ Message, Hint string }
	}
	if err := json.Unmarshal([]byte(out), &object); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(object.Checks) < 20 || !strings.Contains(object.Error.Message, "newest backup on backup") || object.Error.Hint == "" {
		t.Errorf("%d checks, error %+v", len(object.Checks), object.Error)
	}
	for _, c := range object.Checks {
		for _, key := range []string{"name", "host", "status", "detail", "hint"} {
			if _, ok := c[key]; !ok || len(c) != 5 {
				t.Errorf("%v has not exactly the five keys", c)
			}
		}
	}
}

func TestEveryFindingIsALineWithItsNextStep(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	out, err := capture(func() error {
		return run.Main(t.Context(), "doctor", func(_ context.Context, target *run.Target) error {
			show(target, []guard.Finding{
				{Name: "sql", Status: guard.OK, Detail: "fine"},
				{Name: "reachable", Host: "backup", Status: guard.Failed, Detail: "no\n  answer", Hint: "ssh backup"},
				{Name: "all", Host: "backup", Status: guard.Unchecked, Detail: "not reached"},
			})
			return nil
		})
	})
	want := `
this machine
  ✓ sql        fine

backup
  ✗ reachable  no
        answer
    next: ssh backup
  ? all        not reached

3 checks: 1 ok, 1 failed, 1 could not be made
`
	if err != nil || out != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}

func TestADetailIsBrokenWhereTheTerminalEnds(t *testing.T) {
	for _, c := range []struct {
		text    string
		columns int
		want    string
	}{
		{"one two three four five six", 24, "one two three four\n    five six"},
		{"one two three four five six", 0, "one two three four five six"},
		{"a-word-that-is-longer-than-the-line", 24, "a-word-that-is-longer-than-the-line"},
		{"one two three four five six\nlaid out already, and much longer", 24, "one two three four\n    five six\n      laid out already, and much longer"},
	} {
		if got := indent(c.text, "    ", c.columns); got != c.want {
			t.Errorf("%q in %d columns is %q, want %q", c.text, c.columns, got, c.want)
		}
	}
}

// It only logs: a shared machine decides how long it takes. The goal is 3 s for hosts 150 ms away.
func TestHostsFarAwayAreAskedAtOnce(t *testing.T) {
	inv, _ := load(t)
	for _, h := range inv.Hosts {
		p, err := lab.NewProxy(h.Address, 150*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		h.Address = p.Addr()
	}
	begin := time.Now()
	e := look(t, inv)
	t.Logf("three hosts at 150 ms took %v", time.Since(begin).Round(10*time.Millisecond))
	if f := find(t, e.judge(time.Now()), "staging", "reachable"); f.Status != guard.OK || e.machines[0].clock.is.trip < 140*time.Millisecond {
		t.Errorf("found %s", render([]guard.Finding{f}))
	}
}
