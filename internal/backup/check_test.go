package backup

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

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// scanned is a production with sshd and PostgreSQL, whose backup_reader may use amcheck.
type scanned struct {
	cluster *lab.Cluster
	db      *inventory.Database
	home    string
}

func newScanned(t *testing.T) *scanned {
	t.Helper()
	t.Setenv("REHEARSAL_FORMAT", "json")
	home := t.TempDir()
	sshd, machine, err := lab.StartHost(t.Context(), inventory.Host{Name: "production", Role: inventory.Production, State: "~/.rehearsal"}, t.TempDir(), "SetEnv HOME="+home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sshd.Stop() })
	cluster, err := lab.StartCluster(t.Context(), "production", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cluster.Stop() })
	machine.PostgresBin = cluster.Bin
	s := &scanned{cluster: cluster, home: home}
	s.sql(t, "postgres", "CREATE ROLE backup_reader LOGIN; GRANT pg_read_all_data, pg_monitor TO backup_reader; CREATE DATABASE shop")
	id, _, _ := strings.Cut(s.sql(t, "postgres", "SELECT system_identifier FROM pg_control_system()"), "\n")
	s.db = &inventory.Database{Name: "shop", Production: inventory.Server{Socket: cluster.Socket, Port: cluster.Port, Name: "shop", User: "backup_reader",
		SystemIdentifier: id, DataDirectory: cluster.Data, Host: machine}}
	return s
}

const grants = `CREATE EXTENSION amcheck;
GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean), verify_heapam(regclass, boolean, boolean, text, bigint, bigint) TO backup_reader;`

const shop = `
CREATE SCHEMA "Billing Dept";
CREATE TABLE "Billing Dept"."In.voice #$*" (id int PRIMARY KEY, "Größe" text);
CREATE INDEX ON "Billing Dept"."In.voice #$*" ("Größe");
INSERT INTO "Billing Dept"."In.voice #$*" SELECT g, 'secret ' || g FROM generate_series(1, 2000) g;
CREATE TABLE orders (id int PRIMARY KEY, words tsvector, note text);
INSERT INTO orders SELECT g, to_tsvector('simple', g::text), 'secret ' || g FROM generate_series(1, 2000) g;
CREATE INDEX ON orders USING gin (words);
CREATE INDEX orders_note ON orders (note);`

func (s *scanned) sql(t *testing.T, database, sql string) string {
	t.Helper()
	out, err := s.cluster.SQL(context.Background(), database, sql)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// check is mage backup:check: its error, and the JSON object as it is then.
func (s *scanned) check(ctx context.Context, budget time.Duration) (report map[string]any, err error) {
	err = run.Main(ctx, "backup:check", func(ctx context.Context, t *run.Target) error {
		err := Check(ctx, t, s.db, budget)
		report = t.Report()
		return err
	})
	return report, err
}

func ends(t *testing.T, err error, code run.Code, words ...string) {
	t.Helper()
	if got := run.CodeOf(err); got != code {
		t.Errorf("exit code %d, want %d: %v", got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(fmt.Sprint(err), w) {
			t.Errorf("%q is missing in: %v", w, err)
		}
	}
	if strings.Contains(fmt.Sprint(err), "secret") {
		t.Errorf("a value is quoted: %v", err)
	}
}

func names(report map[string]any, key string) (names []string) {
	list, _ := report[key].([]any)
	for _, e := range list {
		names = append(names, e.(map[string]any)["name"].(string))
	}
	return names
}

func TestASoundProductionIsScannedInFull(t *testing.T) {
	s := newScanned(t)
	s.sql(t, "shop", shop+grants)
	report, err := s.check(t.Context(), time.Minute)
	ends(t, err, run.Done)
	for _, want := range []string{`"Billing Dept"."In.voice #$*"`, "public.orders", "pg_catalog.pg_class"} {
		if !slices.Contains(names(report, "scanned"), want) {
			t.Errorf("%s was not scanned: %v", want, names(report, "scanned"))
		}
	}
	if open := names(report, "unscanned"); len(open) > 0 {
		t.Errorf("not scanned: %v", open)
	}
	if got := fmt.Sprint(report["not_covered"]); got != "[map[count:1 kind:gin index]]" {
		t.Errorf("not covered: %s", got)
	}
	s.db.Production.SystemIdentifier = "1"
	_, err = s.check(t.Context(), time.Minute)
	ends(t, err, run.Unfit, "system identifier")
	_, err = s.check(t.Context(), 0)
	ends(t, err, run.Usage)
}

// TestWhatIsMissingComesWithTheStatementThatMendsIt follows every hint, as a person would.
func TestWhatIsMissingComesWithTheStatementThatMendsIt(t *testing.T) {
	s := newScanned(t)
	s.sql(t, "shop", shop)
	follow := func(missing string) {
		t.Helper()
		_, err := s.check(t.Context(), time.Minute)
		ends(t, err, run.Incomplete, missing)
		_, sql, _ := strings.Cut(run.HintOf(err), "on production: ")
		s.sql(t, "shop", sql)
	}
	follow("the extension amcheck is missing")
	_, err := s.check(t.Context(), time.Minute)
	ends(t, err, run.Done)
	s.sql(t, "shop", "REVOKE EXECUTE ON FUNCTION verify_heapam FROM backup_reader")
	follow("may not use the extension")
	_, err = s.check(t.Context(), time.Minute)
	ends(t, err, run.Done)
	s.sql(t, "shop", `DROP EXTENSION amcheck; CREATE SCHEMA "Am check"; CREATE EXTENSION amcheck SCHEMA "Am check" VERSION '1.2'`)
	follow("of version 1.2")
	_, err = s.check(t.Context(), time.Minute)
	ends(t, err, run.Done)

	s.db.Production.Host.PostgresBin = t.TempDir()
	_, err = s.check(t.Context(), time.Minute)
	ends(t, err, run.Unreachable, "no pg_amcheck", "postgresql-client-")
}

// damage replaces bytes of a relation's file while the server is down.
func (s *scanned) damage(t *testing.T, change map[string]func([]byte) []byte) {
	t.Helper()
	files := map[string]func([]byte) []byte{}
	for relation, f := range change {
		files[filepath.Join(s.cluster.Data, s.sql(t, "shop", "SELECT pg_relation_filepath("+postgres.Literal(relation)+")"))] = f
	}
	if err := s.cluster.Halt(); err != nil {
		t.Fatal(err)
	}
	for file, f := range files {
		text, err := os.ReadFile(file)
		if err = errors.Join(err, os.WriteFile(file, f(text), 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestCorruptionIsFoundAndNotForgottenBeforeItIsMended(t *testing.T) {
	s := newScanned(t)
	s.sql(t, "shop", shop+grants+"CHECKPOINT")
	index := filepath.Join(s.cluster.Data, s.sql(t, "shop", "SELECT pg_relation_filepath('orders_note')"))
	old, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	s.sql(t, "shop", "INSERT INTO orders SELECT g, '', 'secret ' || g FROM generate_series(2001, 2003) g; CHECKPOINT")
	s.damage(t, map[string]func([]byte) []byte{
		// An index of yesterday: every page of it is fine, and rows are missing. Only --heapallindexed sees that.
		"orders_note": func([]byte) []byte { return slices.Clone(old) },
		`"Billing Dept"."In.voice #$*"`: func(heap []byte) []byte {
			copy(heap[8192+4000:], bytes.Repeat([]byte{0xFF}, 64))
			return heap
		},
	})
	report, err := s.check(t.Context(), time.Minute)
	ends(t, err, run.Unfit, "btree index public.orders_note: heap tuple", `heap table "Billing Dept"."In.voice #$*": invalid page in block 1`, "runbooks")
	if got := names(report, "corrupt"); !slices.Contains(got, "public.orders_note") {
		t.Errorf("corrupt: %v", got)
	}
	// A night whose budget ends before anything is looked at.
	_, err = s.check(t.Context(), time.Millisecond)
	ends(t, err, run.Unfit, "public.orders_note", "not scanned again by this run")

	s.sql(t, "shop", `REINDEX INDEX orders_note; DROP TABLE "Billing Dept"."In.voice #$*"`)
	_, err = s.check(t.Context(), time.Minute)
	ends(t, err, run.Done)
}

func TestAScanThatAFunctionEndsIsIncompleteAndQuotesNoRow(t *testing.T) {
	s := newScanned(t)
	s.sql(t, "shop", shop+grants+`
		CREATE FUNCTION short(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN left($1, 3); END';
		CREATE INDEX orders_short ON orders (short(note));
		CREATE OR REPLACE FUNCTION short(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE ''not %'', $1; END';`)
	report, err := s.check(t.Context(), time.Minute)
	ends(t, err, run.Incomplete, "1 of ", "btree index public.orders_short: SQLSTATE P0001")
	if got := names(report, "unscanned"); !slices.Equal(got, []string{"public.orders"}) {
		t.Errorf("not scanned: %v", got)
	}
}

// lock keeps every scan of table waiting until the returned function is called.
func (s *scanned) lock(t *testing.T, table string) (release func()) {
	t.Helper()
	psql := exec.Command(filepath.Join(s.cluster.Bin, "psql"), "-X", "-q", "-At", "-h", s.cluster.Socket, "-p", fmt.Sprint(s.cluster.Port), "-U", "postgres", "-d", "shop")
	in, err := psql.StdinPipe()
	if err == nil {
		err = psql.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(in, "BEGIN; LOCK TABLE %s;\n", table)
	held := "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = " + postgres.Literal(table) + "::regclass"
	for s.sql(t, "shop", held) == "0" {
		time.Sleep(20 * time.Millisecond)
	}
	release = func() { in.Close(); psql.Wait() }
	t.Cleanup(release)
	return release
}

func (s *scanned) scanning(t *testing.T) bool {
	return s.sql(t, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rehearsal'") != "0"
}

// gone fails where a backend of a scan that has ended is still at work.
func (s *scanned) gone(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(4 * time.Second); s.scanning(t); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a scan still runs on the server")
		}
	}
}

func TestABudgetEndsTheScanAndTheNextRunsGoOn(t *testing.T) {
	s := newScanned(t)
	s.sql(t, "shop", shop+grants+"CREATE TABLE stuck AS SELECT 1 AS id")
	release := s.lock(t, "stuck")
	_, err := s.check(t.Context(), time.Second)
	ends(t, err, run.Incomplete, "the budget of 1.0 s is over", "scanned 0 of", "run again")
	s.gone(t)
	ledger, err := os.ReadFile(filepath.Join(s.home, ".rehearsal", "scans", "db-shop.json"))
	if err != nil || !strings.Contains(string(ledger), `"cut":"public.stuck`) {
		t.Errorf("ledger: %s %v", ledger, err)
	}
	// It comes first now, fits no better, and makes way for the others.
	_, err = s.check(t.Context(), time.Second)
	ends(t, err, run.Incomplete, "public.stuck", "alone took longer")
	report, err := s.check(t.Context(), 3*time.Second)
	ends(t, err, run.Incomplete)
	if got := names(report, "scanned"); !slices.Contains(got, `"Billing Dept"."In.voice #$*"`) || slices.Contains(got, "public.stuck") {
		t.Errorf("scanned: %v", got)
	}
	release()
	_, err = s.check(t.Context(), time.Minute)
	ends(t, err, run.Done)
}

func TestAnInterruptedScanLeavesNoSessionBehind(t *testing.T) {
	s := newScanned(t)
	s.sql(t, "shop", shop+grants)
	s.lock(t, "orders")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for s.sql(t, "shop", "SELECT count(*) FROM pg_locks WHERE NOT granted") == "0" {
			time.Sleep(20 * time.Millisecond)
		}
		cancel()
	}()
	_, err := s.check(ctx, time.Minute)
	ends(t, err, run.Interrupted)
	s.gone(t)
}

func TestWhatWasBegunLongestAgoIsScannedFirst(t *testing.T) {
	r := func(name string, bytes int64) postgres.Relation {
		return postgres.Relation{Schema: "public", Name: name, Bytes: bytes}
	}
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	l := ledger{Cut: "public.cut", Relations: map[string]*entry{"public.yesterday": {Begun: day(3), Scanned: day(3)}, "public.old": {Begun: day(1)},
		"public.cut": {Begun: day(3)}, "public.corrupt": {Begun: day(3), Corrupt: "torn"}}}
	relations := []postgres.Relation{r("yesterday", 1), r("never", 1), r("cut", 1), r("new", 1), r("old", 1), r("corrupt", 1)}
	var order []string
	for _, r := range l.order(relations) {
		order = append(order, r.Name)
	}
	if got := strings.Join(order, " "); got != "corrupt cut never new old yesterday" {
		t.Errorf("order: %s", got)
	}
	var sizes []int
	many := slices.Concat(l.order(relations), []postgres.Relation{r("big", 300<<20), r("half", 130<<20), r("other half", 130<<20)}, make([]postgres.Relation, 150))
	for _, b := range batches(many, l.Cut) {
		sizes = append(sizes, len(b))
	}
	if got := fmt.Sprint(sizes); got != "[1 1 4 1 1 100 51]" {
		t.Errorf("batches: %s", got)
	}
}
