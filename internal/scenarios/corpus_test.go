package scenarios

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"rehearsal/internal/archive"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/postgres"
)

// The negative control: backups and sources each of which differs from a healthy one in one respect. Every finding is
// asserted both ways: TestAHealthyBackupHasNoFindings runs the same targets on what nobody broke, and there is nothing
// to find. A drill that cannot fail proves nothing.

// broken is one case of the corpus.
type broken struct {
	name   string
	breaks func(s *specimen, t *testing.T)
	tries  []try
	listed string // the verdict that backup:list gives afterwards to the last try's backup; "": no backup came or went
}

// try is one target, and how it must end.
type try struct {
	target  string // with its flags
	code    int
	says    string // a regular expression for its message and hint
	verdict string // in its JSON
	warns   string // a regular expression for a warning that it must give
}

var corpus = []broken{
	// The source is another one.
	{"an empty instance at production's address", (*specimen).onEmptyInstance,
		[]try{{target: "backup:create", code: 3, says: `has system identifier \d+, the inventory's production has \d+`}}, ""},
	{"a migrated instance without rows at production's address", (*specimen).onMigratedInstance,
		[]try{{target: "backup:create", code: 3, says: `has system identifier \d+, the inventory's production has \d+`}}, ""},
	{"a migrated instance with seed rows at production's address", (*specimen).onSeededInstance,
		[]try{{target: "backup:create", code: 3, says: `has system identifier \d+, the inventory's production has \d+`}}, ""},
	{"an empty instance that the inventory takes for production", bound((*specimen).onEmptyInstance),
		[]try{{target: "backup:create", code: 3, says: `database "shop" on production has no tables`}}, ""},
	{"a migrated instance without rows that the inventory takes for production", bound((*specimen).onMigratedInstance),
		[]try{{target: "backup:create", code: 3, says: `has \d+ tables and not one row`}}, ""},
	{"a migrated instance with seed rows that the inventory takes for production", bound((*specimen).onSeededInstance),
		[]try{{target: "backup:create", code: 3, verdict: "suspicious",
			says: `public\.customers had 200 rows in backup \S+ and has 0 [\s\S]*all tables together had \d+ rows in backup \S+ and have 4 `}}, "suspicious"},

	{"a migrated instance with seed rows whose identity somebody has pasted into the inventory", func(s *specimen, t *testing.T) {
		s.onSeededInstance(t)
		s.bind(t)
	}, []try{{target: "backup:create", code: 3, verdict: "suspicious", says: `public\.customers had 200 rows in backup \S+ and has 0 `}}, "suspicious"},

	// The source holds less, older or other than it should.
	{"the newest event is older than max_age", source(final + `UPDATE events SET at = at - interval '3 days'`), []try{
		{target: "backup:create", code: 3, verdict: "suspicious", says: `its newest event was 3 days old when it was made \(max_age is 26 hours\)`},
		{target: "staging:reset", code: 3, says: `is suspicious:\s+its newest event was 3 days old`}}, "suspicious"},
	{"there are no events", source(final + `DELETE FROM events`),
		[]try{{target: "backup:create", code: 3, verdict: "suspicious", says: `events\.sql found no event in it[\s\S]*public\.events had 2030 rows`}}, "suspicious"},
	{"a table has vanished", source(`DROP TABLE feature_flags`),
		[]try{{target: "backup:create", code: 3, verdict: "suspicious", says: `public\.feature_flags had 4 rows in backup \S+ and is gone`}}, "suspicious"},
	{"a table has lost rows", source(`DELETE FROM scheduled_messages WHERE id % 3 = 0`),
		[]try{{target: "backup:create", code: 3, verdict: "suspicious", says: `public\.scheduled_messages had 400 rows in backup \S+ and has 267 \(max_shrink is 20%\)`}}, "suspicious"},
	{"partitions have lost rows, each a few", source(`DELETE FROM page_views WHERE id % 4 = 0`),
		[]try{{target: "backup:create", code: 3, verdict: "suspicious", says: `public\.page_views had 2000 rows in backup \S+ and has 1500 `}}, "suspicious"},
	{"a table is below its floor", func(s *specimen, t *testing.T) {
		s.floor(t, "public.payment_keys", 2)
		source(`DELETE FROM payment_keys WHERE provider = 'cards'`)(s, t)
	}, []try{{target: "backup:create", code: 3, verdict: "suspicious", says: `public\.payment_keys has 1 rows, its min_rows is 2`}}, "suspicious"},
	{"a sequence is behind its column", source(`SELECT setval('jobs_id_seq', 1)`), []try{
		{target: "backup:create", verdict: "sealed"},
		{target: "backup:verify", code: 3, verdict: "bad", says: `sequence \S*jobs_id_seq stands at 1, public\.jobs\.id at 400`}}, "bad"},
	{"a business rule is broken", source(`UPDATE order_items SET quantity = quantity + 1 WHERE order_id = 7 AND line = 1`), []try{
		{target: "backup:create", verdict: "sealed"},
		{target: "backup:verify", code: 3, verdict: "bad", says: `order_totals\.sql: 1 rows break the rule "every order's total is the sum of its lines"`}}, "bad"},

	// The role does not see all of it.
	{"row security hides rows", source(`ALTER TABLE customers ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON customers USING (is_vip)`),
		[]try{{target: "backup:create", code: 9, says: `customers`}}, ""},
	{"a new table is not granted", (*specimen).grantEachTable,
		[]try{{target: "backup:create", code: 9, says: `suppliers`}}, ""},

	// The programs do not fit.
	{"pg_dump is newer than every server", func(s *specimen, t *testing.T) {
		s.tool(t, "production", "pg_dump", `case " $* " in *" --version "*) echo "pg_dump (PostgreSQL) 18.1"; exit ;; esac`)
	}, []try{{target: "backup:create", code: 3, says: `pg_dump is of PostgreSQL 18, [\s\S]*postgres_bin`}}, ""},
	{"pg_dump is older than production's server", func(s *specimen, t *testing.T) {
		s.tool(t, "production", "pg_dump", `case " $* " in *" --version "*) echo "pg_dump (PostgreSQL) 12.22"; exit ;; esac`)
	}, []try{{target: "backup:create", code: 3, says: `pg_dump is of PostgreSQL 12, production's server of \d+: pg_dump refuses servers newer than itself`}}, ""},
	{"the backup was made by a newer pg_dump", func(s *specimen, t *testing.T) {
		s.manifest(t, func(m *archive.Manifest) { m.PgDumpVersion = "18.1" })
	}, []try{
		{target: "staging:plan", code: 3, says: `pg_dump is of PostgreSQL 18, staging's server of \d+: a newer pg_dump writes what an older server does not know`},
		{target: "backup:verify", code: 3, says: `pg_dump is of PostgreSQL 18`}}, "sealed"},
	{"pg_restore says something that nobody knows", func(s *specimen, t *testing.T) {
		s.tool(t, "staging", "pg_restore", `case " $* " in *" --version "*) ;; *) echo "pg_restore: warning: something odd" >&2 ;; esac`)
	}, []try{
		{target: "staging:reset", code: 3, says: `not known to be harmless:\s+pg_restore: warning: something odd`},
		{target: "backup:verify", code: 3, verdict: "bad", says: `not known to be harmless:\s+pg_restore: warning: something odd`}}, "bad"},

	// The backup is damaged, and was made by us.
	{"a data file is cut in half", func(s *specimen, t *testing.T) { s.at("dump").largest(t).cut(t, 50) },
		[]try{{target: "backup:verify", code: 3, verdict: "bad", says: `dump/\S+ has \d+ bytes instead of \d+`}}, "bad"},
	{"a data file lost its end, and the manifest has its size", func(s *specimen, t *testing.T) {
		f := s.at("dump").largest(t)
		f.trim(t, 200)
		s.manifest(t, func(m *archive.Manifest) {
			m.Files[slices.IndexFunc(m.Files, func(e archive.File) bool { return e.Name == f.inManifest() })].Bytes -= 200
		})
	}, []try{{target: "backup:verify", code: 3, verdict: "bad", says: `does not have the bytes of its manifest`}}, "bad"},
	{"the table of contents is cut", func(s *specimen, t *testing.T) { s.at("dump/toc.dat").cut(t, 50) },
		[]try{{target: "backup:verify", code: 3, verdict: "bad", says: `dump/toc\.dat has \d+ bytes instead of \d+`}}, "bad"},
	{"the table of contents was cut before it was hashed", func(s *specimen, t *testing.T) {
		s.at("dump/toc.dat").cut(t, 50)
		s.reseal(t)
	}, []try{{target: "backup:verify", code: 3, verdict: "bad", says: `the archive ends within its table of contents`}}, "bad"},
	{"one byte of an uncompressed dump is another", func(s *specimen, t *testing.T) {
		s.redump(t)
		s.reseal(t)
		s.at("dump").rows(t, "page_views_2").substitute(t, "/products/11\t", "/products/31\t")
	}, []try{{target: "backup:verify", code: 3, verdict: "bad", says: `does not have the bytes of its manifest`}}, "bad"},
	{"a file of a table that is not loaded has one other byte", func(s *specimen, t *testing.T) { s.at("dump").rows(t, "audit_log").flip(t) },
		[]try{{target: "backup:verify", code: 3, verdict: "bad", says: `does not have the bytes of its manifest`}}, "bad"},
	{"a row is there twice, as a corrupt index lets in", func(s *specimen, t *testing.T) {
		s.redump(t)
		s.at("dump").rows(t, "products").repeatFirstLine(t)
		s.reseal(t)
		s.manifest(t, func(m *archive.Manifest) {
			m.Tables[slices.IndexFunc(m.Tables, func(r postgres.TableRows) bool { return r.Name == "public.products" })].Rows++
		})
	}, []try{{target: "backup:verify", code: 3, verdict: "bad", says: `could not create unique index "products_pkey"`}}, "bad"},
	{"the dump holds a table that the manifest does not", func(s *specimen, t *testing.T) {
		s.manifest(t, func(m *archive.Manifest) {
			m.Tables = slices.DeleteFunc(m.Tables, func(r postgres.TableRows) bool { return r.Name == "public.products" })
		})
	}, []try{{target: "backup:verify", code: 3, verdict: "bad", says: `table public\.products is in the dump and not in the manifest`}}, "bad"},
	{"the manifest counted nothing", func(s *specimen, t *testing.T) {
		s.manifest(t, func(m *archive.Manifest) {
			for i := range m.Tables {
				m.Tables[i].Rows = 0
			}
		})
	}, []try{{target: "backup:verify", code: 3, verdict: "bad", says: `it is empty: no table has a row`}}, "bad"},
	{"the backup is older than max_age", func(s *specimen, t *testing.T) { s.age(t, 3*24*time.Hour) }, []try{
		{target: "staging:reset", code: 3, says: `the newest backup of shop is 3 days old \(max_age is 26 hours\)`},
		{target: "backup:prune", code: 3, says: `no verified backup of shop is younger than 26 hours \(max_age\) in \S+ on backup: nothing was removed`}}, ""},

	// The backup is damaged, and was made by others.
	{"a file of pg_dump -Fc is cut at 45 %", func(s *specimen, t *testing.T) { s.foreign(t, "-Fc").cut(t, 45) }, foreignIsBad(`could not be unpacked|pg_restore reads the rows of \d of 2 tables that are not loaded`), "bad"},
	{"a file of pg_dump -Fc lost its last 200 bytes", func(s *specimen, t *testing.T) { s.foreign(t, "-Fc").trim(t, 200) }, foreignIsBad(`could not be unpacked|pg_restore reads the rows of \d of 2 tables that are not loaded`), "bad"},
	{"a file of pg_dump -Fc has one other byte", func(s *specimen, t *testing.T) { s.foreign(t, "-Fc").flipRows(t, "orders") }, foreignIsBad(`could not be unpacked|pg_restore reads the rows of \d of 2 tables that are not loaded`), "bad"},
	{"a file of pg_dump -Fc has one other byte where nothing is loaded", func(s *specimen, t *testing.T) { s.foreign(t, "-Fc").flipRows(t, "audit_log") },
		foreignIsBad(`could not be unpacked|pg_restore reads the rows of \d of 2 tables that are not loaded`), "bad"},
	{"a folder of pg_dump -Fd has a file cut at 45 %", func(s *specimen, t *testing.T) { s.foreign(t, "-Fd").largest(t).cut(t, 45) }, foreignIsBad(`could not be unpacked|pg_restore reads the rows of \d of 2 tables that are not loaded`), "bad"},
	{"a folder of pg_dump -Fd has a file without its last 200 bytes", func(s *specimen, t *testing.T) { s.foreign(t, "-Fd").largest(t).trim(t, 200) }, foreignIsBad(`could not be unpacked|pg_restore reads the rows of \d of 2 tables that are not loaded`), "bad"},
	{"a folder of pg_dump -Fd has one other byte", func(s *specimen, t *testing.T) { s.foreign(t, "-Fd").largest(t).flip(t) }, foreignIsBad(`could not be unpacked|pg_restore reads the rows of \d of 2 tables that are not loaded`), "bad"},
	{"a folder of pg_dump -Fd has a cut table of contents", func(s *specimen, t *testing.T) { path(s.foreign(t, "-Fd")+"/toc.dat").cut(t, 50) },
		foreignIsBad(`the archive ends within its table of contents`), "bad"},

	// It is whole, and holds fewer or older rows than it should.
	{"a file of pg_dump -Fc lacks rows", func(s *specimen, t *testing.T) {
		source(`DELETE FROM scheduled_messages WHERE id % 3 = 0`)(s, t)
		s.foreignOf(t, "specimen", "-Fc")
	}, []try{{target: "backup:verify -backup=" + foreignID, code: 3, verdict: "suspicious", says: `public\.scheduled_messages had 400 rows in backup \S+ and has 267 `}}, "suspicious"},
	{"a file of pg_dump -Fc is older than max_age", func(s *specimen, t *testing.T) {
		s.foreign(t, "-Fc").lastYear(t)
		if err := os.RemoveAll(string(s.at(""))); err != nil {
			t.Fatal(err)
		}
	}, []try{{target: "staging:reset", code: 3, says: `the newest backup of shop is \d+ days old \(max_age is 26 hours\): night\.dump`}}, ""},

	// It never was a fit backup of this database.
	{"a dump of another database", func(s *specimen, t *testing.T) {
		query(t, shared.Production, "postgres", "CREATE DATABASE blog TEMPLATE shop")
		t.Cleanup(func() { query(t, shared.Production, "postgres", "DROP DATABASE blog") })
		s.foreignOf(t, "blog", "-Fc")
	}, foreignIsBad(`it is a dump of database "blog", production's is "shop"`), "bad"},
	{"a dump without rows", func(s *specimen, t *testing.T) { s.foreign(t, "-Fc", "--schema-only") }, foreignIsBad(`is empty: no table has a row`), "bad"},
	{"plain SQL", func(s *specimen, t *testing.T) { s.foreign(t, "-Fp") }, foreignIsBad(`it is plain SQL, which cannot be restored table by table; make one by .pg_dump -Fc.`), "bad"},
	{"a tar archive", func(s *specimen, t *testing.T) { s.foreign(t, "-Ft") }, foreignIsBad(`it is a tar archive \(pg_dump -Ft\)`), "bad"},
	{"plain SQL, newer than a backup that is fit", func(s *specimen, t *testing.T) { s.age(t, time.Hour); s.foreign(t, "-Fp") },
		[]try{{target: "staging:plan", code: 3, says: `it is plain SQL, [\s\S]*take an older one on purpose: -backup=\d+T\d+Z`}}, ""},
	{"an empty file, newer than a backup that is fit", func(s *specimen, t *testing.T) { s.age(t, time.Hour); s.foreign(t, "-Fc").cut(t, 0) },
		[]try{{target: "staging:plan", code: 3, says: `it is an empty file[\s\S]*take an older one on purpose: -backup=\d+T\d+Z`}}, ""},
	{"an empty file", func(s *specimen, t *testing.T) { s.foreign(t, "-Fc").cut(t, 0) }, foreignIsBad(`it is an empty file`), "bad"},

	// Nothing may be thrown away.
	{"no backup was ever restored", func(s *specimen, t *testing.T) {
		s.keepOne(t)
		s.addOlder(t, 24*time.Hour)
		s.addOlder(t, 48*time.Hour)
	},
		[]try{{target: "backup:prune", code: 3, says: `no verified backup of shop is younger than 26 hours`}}, ""},
	{"every backup is suspicious", func(s *specimen, t *testing.T) {
		s.keepOne(t)
		s.addOlder(t, 24*time.Hour)
		s.floor(t, "public.customers", 201)
	},
		[]try{{target: "backup:prune", code: 3, says: `no verified backup of shop is younger than 26 hours`}}, ""},
}

// final lets a script change events, whose trigger refuses that.
const final = "SET session_replication_role = replica; "

// foreignIsBad is what becomes of a backup by others.
func foreignIsBad(says string) []try {
	return []try{{target: "backup:verify -backup=" + foreignID, code: 3, verdict: "bad", says: says}}
}

func TestEveryBrokenBackupOrSourceIsFound(t *testing.T) {
	before, other := staged(t), impostor(t)
	for _, c := range corpus {
		t.Run(c.name, func(t *testing.T) {
			s := newSpecimen(t)
			s.impostor = other
			databases := stagingDatabases(t)
			c.breaks(s, t)
			there := s.backups(t)
			var id string
			for _, try := range c.tries {
				id = cmp.Or(s.try(t, try).Backup, id)
			}
			s.checkListed(t, c.listed, id, there)
			checkNothingIsLeft(t, databases)
		})
	}
	if diff := gocmp.Diff(before, staged(t)); diff != "" {
		t.Errorf("staging is not what it was: %s", diff)
	}
}

// TestAHealthyBackupHasNoFindings is the other half of the corpus: its targets on what nobody broke.
func TestAHealthyBackupHasNoFindings(t *testing.T) {
	s := newSpecimen(t)
	databases := stagingDatabases(t)
	s.floor(t, "public.payment_keys", 2)
	// What a policy does every month, and what any day brings, are no findings either.
	source(`DROP TABLE page_views_rest; INSERT INTO feature_flags VALUES ('dark_mode', true)`)(s, t)
	for _, try := range []try{
		{target: "backup:create", verdict: "sealed"},
		{target: "backup:verify", verdict: "verified"},
		{target: "staging:plan"},
		{target: "backup:prune"},
	} {
		s.try(t, try)
	}
	s.sourceIs(t, "shop") // of which others' dumps are made
	for _, format := range []string{"-Fc", "-Fd"} {
		s.foreign(t, format)
		got := s.try(t, try{target: "backup:verify -backup=" + foreignID, verdict: "verified", warns: noManifest})
		s.checkListed(t, "verified", got.Backup, nil)
	}
	for _, b := range s.run(t, "backup:list").Backups {
		if b.Verdict != "verified" && b.ID != s.id || b.Problem != "" || len(b.Suspicions) > 0 {
			t.Errorf("backup:list: %+v", b)
		}
	}
	checkNothingIsLeft(t, databases)
}

// TestNothingTellsAChangedByteInAnUncompressedDumpOfOthers documents a limit: -Z0 has no checksum at all, and nobody but
// whoever made it could have written one down. The output says so, which is all there is to do.
func TestNothingTellsAChangedByteInAnUncompressedDumpOfOthers(t *testing.T) {
	s := newSpecimen(t)
	dump := s.foreign(t, "-Fd", "-Z0")
	dump.rows(t, "page_views_2").substitute(t, "/products/11\t", "/products/31\t")
	s.try(t, try{target: "backup:verify -backup=" + foreignID, verdict: "verified",
		warns: `it has no manifest, so nothing says .* whether a byte has changed`})
}

// TestABackupWhosePgDumpIsKilledLeavesNothing kills pg_dump on production while it waits for a lock.
func TestABackupWhosePgDumpIsKilledLeavesNothing(t *testing.T) {
	s := newSpecimen(t)
	databases, there := stagingDatabases(t), s.backups(t)
	got := s.runWhilePgDumpWaits(t, func() {
		dump := filepath.Join(shared.Production.Bin, "pg_dump") + " "
		for line := range strings.Lines(processes(t, "--file="+shared.Path("production", "state"))) {
			pid, args, _ := strings.Cut(strings.TrimSpace(line), " ")
			if n, err := strconv.Atoi(pid); err == nil && strings.HasPrefix(args, dump) {
				t.Logf("killing %s", line)
				if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if got.ExitCode == 0 || !strings.Contains(got.text(), "pg_dump on production") {
		t.Errorf("exit code %d\n%s", got.ExitCode, got.text())
	}
	s.checkListed(t, "", "", there)
	checkNothingIsLeft(t, databases)
	if left := processes(t, shared.Path("production", "state")); left != "" {
		t.Errorf("these processes still run:\n%s", left)
	}
	s.try(t, try{target: "backup:create", verdict: "sealed"})
}

// TestABackupThatFillsADiskLeavesNothing fills the disk of the backups, and that of production's spool: before a backup,
// which must be refused, and while pg_dump runs.
func TestABackupThatFillsADiskLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	for _, host := range []string{"backup", "production"} {
		t.Run(host, func(t *testing.T) {
			s := newSpecimen(t)
			folder := filepath.Join(s.dir, "backups")
			if host == "production" {
				folder = shared.Path("production", "state", "spool")
			}
			fill, empty := smallDisk(t, folder)
			databases, there := stagingDatabases(t), s.backups(t)
			fill()
			s.try(t, try{target: "backup:create", code: 6, says: `too little disk on ` + host + `: \S+ has [\d.]+ kB free, the backup needs about `})
			empty()
			got := s.runWhilePgDumpWaits(t, fill)
			if got.ExitCode != 6 || !strings.Contains(got.text(), "No space left on device") || !strings.Contains(got.text(), "next: make room") {
				t.Errorf("exit code %d\n%s", got.ExitCode, got.text())
			}
			empty()
			s.checkListed(t, "", "", there)
			checkNothingIsLeft(t, databases)
			s.try(t, try{target: "backup:create", verdict: "sealed"})
		})
	}
}

// smallDisk gives a folder and what is in it a file system of a few megabytes, to be filled up but for some kilobytes
// and emptied of that again.
func smallDisk(t *testing.T, folder string) (fill, empty func()) {
	t.Helper()
	mount := exec.Command("sh", "-c", `mkdir -p "$1" && cp -a "$1" "$2/aside" && mount -t tmpfs -o size=8m tmpfs "$1" && cp -a "$2/aside/." "$1"`, "sh", folder, t.TempDir())
	if out, err := mount.CombinedOutput(); err != nil {
		t.Skipf("this machine lets nobody mount: %s", out)
	}
	t.Cleanup(func() { shell(t, `umount "$1"`, folder) })
	return func() {
			shell(t, `dd if=/dev/zero of="$1/filler" bs=1k count="$(($(df -Pk "$1" | awk 'NR == 2 { print $4 }') - 60))"`, folder)
		}, func() {
			shell(t, `rm "$1/filler"`, folder)
		}
}

// runWhilePgDumpWaits runs backup:create and does something while its pg_dump waits for a lock that nothing before it
// needs: that of a partitioned table itself.
func (s *specimen) runWhilePgDumpWaits(t *testing.T, do func()) outcome {
	t.Helper()
	p := shared.Production
	psql := exec.Command(filepath.Join(p.Bin, "psql"), "-X", "-h", p.Socket, "-p", strconv.Itoa(p.Port), "-U", "postgres", "-d", "shop", "-At", "-v", "ON_ERROR_STOP=1")
	in, err := psql.StdinPipe()
	if err == nil {
		err = psql.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	release := sync.OnceFunc(func() { in.Close(); psql.Wait() })
	defer release()
	fmt.Fprintln(in, "BEGIN; LOCK TABLE ONLY page_views IN ACCESS EXCLUSIVE MODE;")
	eventually(t, "page_views is locked", func() bool {
		return query(t, p, "shop", "SELECT count(*) FROM pg_locks WHERE relation = 'page_views'::regclass AND mode = 'AccessExclusiveLock' AND granted") == "1"
	})
	c := mage(s.dir, "backup:create")
	return finish(t, c, func() error {
		if err := c.Start(); err != nil {
			return err
		}
		eventually(t, "pg_dump waits for the lock", func() bool {
			return query(t, p, "shop", "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'LOCK TABLE%'") != "0"
		})
		do()
		release()
		return c.Wait()
	})
}

const noManifest = `^backup \S+ was made by pg_dump -F[cd]: it has no manifest`

// allowed are the warnings of a healthy lab: a backup by others is one.
var allowed = []*regexp.Regexp{regexp.MustCompile(noManifest)}

// outcome is the part of a target's JSON that the corpus looks at.
type outcome struct {
	ExitCode int      `json:"exit_code"`
	Backup   string   `json:"backup"`
	Verdict  string   `json:"verdict"`
	Warnings []string `json:"warnings"`
	Error    struct{ Message, Hint string }
	Backups  []struct {
		ID         string   `json:"id"`
		Verdict    string   `json:"verdict"`
		Problem    string   `json:"problem"`
		Suspicions []string `json:"suspicions"`
	} `json:"backups"`
	Checks []struct{ Name, Host, Status, Detail, Hint string } `json:"checks"`
}

func (o outcome) text() string { return o.Error.Message + "\n  next: " + o.Error.Hint }

// specimen is what a case works on: an inventory, SQL and backups of its own.
type specimen struct {
	dir string
	id  string // of the one backup that is there, sealed and healthy

	impostor *lab.Cluster
}

func newSpecimen(t *testing.T) *specimen {
	t.Helper()
	dir := take(t)
	ids, err := filepath.Glob(filepath.Join(dir, "backups", "*Z"))
	if err != nil || len(ids) != 1 {
		t.Fatalf("one backup expected, found %v (%v)", ids, err)
	}
	return &specimen{dir: dir, id: filepath.Base(ids[0])}
}

// run runs a target to its end, whatever that is.
func (s *specimen) run(t *testing.T, target string) (o outcome) {
	t.Helper()
	c := mage(s.dir, strings.Fields(target)...)
	return finish(t, c, c.Run)
}

// finish runs a target with JSON and reads what it says.
func finish(t *testing.T, c *exec.Cmd, run func() error) (o outcome) {
	t.Helper()
	var out, stderr bytes.Buffer
	c.Env = append(c.Env, "REHEARSAL_FORMAT=json")
	c.Stdout, c.Stderr = &out, &stderr
	_ = run() // the exit status is looked at
	if err := json.Unmarshal(out.Bytes(), &o); err != nil || o.ExitCode != c.ProcessState.ExitCode() {
		t.Fatalf("%v: %v, exit status %d\n%s\n%s", c.Args[1:], err, c.ProcessState.ExitCode(), &out, &stderr)
	}
	return o
}

// try runs a target and compares how it ended with how it must.
func (s *specimen) try(t *testing.T, want try) outcome {
	t.Helper()
	got := s.run(t, want.target)
	t.Logf("%s: exit code %d %s", want.target, got.ExitCode, got.text())
	switch {
	case got.ExitCode != want.code || want.code == 0 && got.Error.Message != "":
		t.Errorf("%s: exit code %d, want %d\n%s", want.target, got.ExitCode, want.code, got.text())
	case !regexp.MustCompile(want.says).MatchString(got.text()):
		t.Errorf("%s does not say %q:\n%s", want.target, want.says, got.text())
	case got.ExitCode != 0 && got.Error.Message == "":
		t.Errorf("%s says nothing", want.target)
	}
	if got.Verdict != want.verdict {
		t.Errorf("%s: verdict %q, want %q\n%s", want.target, got.Verdict, want.verdict, got.text())
	}
	warned := want.warns == ""
	for _, w := range got.Warnings {
		matches := want.warns != "" && regexp.MustCompile(want.warns).MatchString(w)
		warned = warned || matches
		if !matches && !slices.ContainsFunc(allowed, func(re *regexp.Regexp) bool { return re.MatchString(w) }) {
			t.Errorf("%s warns: %s", want.target, w)
		}
	}
	if !warned {
		t.Errorf("%s does not warn of %q, only %q", want.target, want.warns, got.Warnings)
	}
	return got
}

// checkListed asks backup:list for the verdict of a backup or, where no verdict is expected, makes sure that the
// folder holds what it did.
func (s *specimen) checkListed(t *testing.T, verdict, id string, there []string) {
	t.Helper()
	if verdict == "" {
		if diff := gocmp.Diff(there, s.backups(t)); diff != "" {
			t.Errorf("backups came or went: %s", diff)
		}
		return
	}
	for _, b := range s.run(t, "backup:list").Backups {
		if b.ID == id && b.Verdict == verdict {
			return
		} else if b.ID == id {
			t.Errorf("backup:list: %+v, want %s", b, verdict)
			return
		}
	}
	t.Errorf("backup:list does not have %q", id)
}

// backups lists what lies in the folder of backups.
func (s *specimen) backups(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, "backups"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".rehearsals" {
			names = append(names, e.Name())
		}
	}
	return names
}

// staged is what is on staging: its databases, their settings and their content.
func staged(t *testing.T) map[string]string {
	t.Helper()
	p, err := picture(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(p, func(name, _ string) bool { return !strings.Contains(name, "staging") })
	return p
}

// stagingDatabases lists staging's databases; a reset changes their oids.
func stagingDatabases(t *testing.T) string {
	t.Helper()
	return query(t, shared.Staging, "postgres", "SELECT string_agg(datname || ' ' || oid, ', ' ORDER BY datname) FROM pg_database")
}

// checkNothingIsLeft compares staging's databases and looks for files of ours on every host.
func checkNothingIsLeft(t *testing.T, databases string) {
	t.Helper()
	if diff := gocmp.Diff(databases, stagingDatabases(t)); diff != "" {
		t.Errorf("staging's databases: %s", diff)
	}
	left := map[string]string{}
	for _, h := range []string{"production", "backup", "staging"} {
		if err := pictureFiles(left, shared.Path(h, "state"), false); err != nil {
			t.Fatal(err)
		}
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// inventory changes the first OLD of hosts.yaml, where production comes first, to NEW.
func (s *specimen) inventory(t *testing.T, old, new string) {
	t.Helper()
	path(filepath.Join(s.dir, "hosts.yaml")).substitute(t, old, new)
}

// source makes a copy of production's database the one that backups are made of, changed by a script.
func source(script string) func(*specimen, *testing.T) {
	return func(s *specimen, t *testing.T) {
		t.Helper()
		query(t, shared.Production, "postgres", "CREATE DATABASE specimen TEMPLATE shop OWNER shop")
		t.Cleanup(func() { query(t, shared.Production, "postgres", "DROP DATABASE specimen WITH (FORCE)") })
		query(t, shared.Production, "specimen", script)
		s.sourceIs(t, "specimen")
	}
}

var productionName = regexp.MustCompile(`(production:\s+host: production\s+socket: .*\s+port: .*\s+name: )\w+`)

func (s *specimen) sourceIs(t *testing.T, database string) {
	t.Helper()
	name := filepath.Join(s.dir, "hosts.yaml")
	text, err := os.ReadFile(name)
	if err != nil || !productionName.Match(text) {
		t.Fatalf("%v: %s", err, text)
	}
	if err := os.WriteFile(name, productionName.ReplaceAll(text, []byte("${1}"+database)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// floor sets min_rows for one table.
func (s *specimen) floor(t *testing.T, table string, rows int) {
	t.Helper()
	s.inventory(t, "max_shrink: 20%\n", fmt.Sprintf("max_shrink: 20%%\n      min_rows: {%s: %d}\n", table, rows))
}

// keepOne makes the policy keep one backup.
func (s *specimen) keepOne(t *testing.T) {
	t.Helper()
	s.inventory(t, "keep: {daily: 7, weekly: 5, monthly: 12}", "keep: {daily: 1}")
}

// grantEachTable is what there was before pg_read_all_data, and what the next migration forgets.
func (s *specimen) grantEachTable(t *testing.T) {
	source(`GRANT USAGE ON SCHEMA "Billing Dept" TO backup_reader; GRANT SELECT ON ALL TABLES IN SCHEMA public, "Billing Dept" TO backup_reader;
		GRANT SELECT ON ALL SEQUENCES IN SCHEMA public, "Billing Dept" TO backup_reader; CREATE TABLE suppliers (id int); INSERT INTO suppliers VALUES (1)`)(s, t)
	query(t, shared.Production, "postgres", "REVOKE pg_read_all_data FROM backup_reader")
	t.Cleanup(func() { query(t, shared.Production, "postgres", "GRANT pg_read_all_data TO backup_reader") })
}

// tool puts a program of PostgreSQL's before the host's own: a few lines of sh that run before it.
func (s *specimen) tool(t *testing.T, host, name, script string) {
	t.Helper()
	bin, folder := shared.Production.Bin, t.TempDir()
	names, err := filepath.Glob(filepath.Join(bin, "*"))
	if err != nil || len(names) == 0 {
		t.Fatal(bin, err)
	}
	for _, n := range names {
		if filepath.Base(n) != name {
			err = os.Symlink(n, filepath.Join(folder, filepath.Base(n)))
		} else {
			err = os.WriteFile(filepath.Join(folder, name), fmt.Appendf(nil, "#!/bin/sh\n%s\nexec %s \"$@\"\n", script, n), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	hosts := filepath.Join(s.dir, "hosts.yaml")
	text, err := os.ReadFile(hosts)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?s)(\n  ` + host + `:\n.*?postgres_bin: )"[^"]*"`)
	if !line.Match(text) {
		t.Fatalf("no postgres_bin of %s in\n%s", host, text)
	}
	if err := os.WriteFile(hosts, line.ReplaceAll(text, []byte("${1}"+strconv.Quote(folder))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// impostor starts another cluster, as initdb makes them, with production's roles.
func impostor(t *testing.T) *lab.Cluster {
	t.Helper()
	c, err := lab.StartCluster(context.Background(), "impostor", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	query(t, c, "postgres", "CREATE ROLE shop LOGIN; CREATE ROLE reporting; CREATE ROLE backup_reader LOGIN; GRANT pg_read_all_data, pg_monitor TO backup_reader")
	return c
}

// onEmptyInstance lets the impostor answer at production's address, with an empty database of the right name.
func (s *specimen) onEmptyInstance(t *testing.T) {
	t.Helper()
	query(t, s.impostor, "postgres", "DROP DATABASE IF EXISTS shop")
	query(t, s.impostor, "postgres", "CREATE DATABASE shop OWNER shop")
	s.answersAt(t, shared.Production, s.impostor)
}

// answersAt makes the inventory's address of production lead from one cluster to another.
func (s *specimen) answersAt(t *testing.T, from, to *lab.Cluster) {
	t.Helper()
	s.inventory(t, strconv.Quote(from.Socket), strconv.Quote(to.Socket))
	s.inventory(t, fmt.Sprintf("port: %d\n", from.Port), fmt.Sprintf("port: %d\n", to.Port))
}

// onMigratedInstance also lets the application make its tables there.
func (s *specimen) onMigratedInstance(t *testing.T) {
	t.Helper()
	s.onEmptyInstance(t)
	query(t, s.impostor, "shop", pgDump(t, shared.Production, "shop", "--schema-only", "--no-privileges"))
}

// onSeededInstance also lets it put a few rows into them, an event of this minute too.
func (s *specimen) onSeededInstance(t *testing.T) {
	t.Helper()
	s.onMigratedInstance(t)
	query(t, s.impostor, "shop", `INSERT INTO site_settings VALUES (1, 'https://shop.example.com', NULL, 'support@shop.example', NULL);
		INSERT INTO feature_flags VALUES ('newsletter', true), ('real_payments', true); INSERT INTO events (at, what) VALUES (now(), 'migrated')`)
}

// bound also writes the impostor's identity into the inventory and, so that history is all that is left to tell, into
// the backup that is there.
func bound(on func(*specimen, *testing.T)) func(*specimen, *testing.T) {
	return func(s *specimen, t *testing.T) {
		t.Helper()
		on(s, t)
		id := s.bind(t)
		s.manifest(t, func(m *archive.Manifest) { m.Source.SystemIdentifier = id })
	}
}

// bind writes the impostor's identity into the inventory.
func (s *specimen) bind(t *testing.T) (id string) {
	t.Helper()
	inv, err := inventory.Load(filepath.Join(s.dir, "hosts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p := inv.Databases["shop"].Production
	id = query(t, s.impostor, "postgres", "SELECT system_identifier FROM pg_control_system()")
	s.inventory(t, p.SystemIdentifier, id)
	s.inventory(t, p.DataDirectory, s.impostor.Data)
	return id
}

// pgDump dumps a database as anybody may, and returns what it prints.
func pgDump(t *testing.T, c *lab.Cluster, database string, args ...string) string {
	t.Helper()
	args = append([]string{"-h", c.Socket, "-p", strconv.Itoa(c.Port), "-U", "postgres", "-d", database}, args...)
	cmd := exec.Command(filepath.Join(c.Bin, "pg_dump"), args...)
	cmd.Env = append(os.Environ(), "TZ=UTC") // the archive has the time on the wall, without a zone
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v\n%s", err, &stderr)
	}
	return string(out)
}

// foreignID is the name of the one backup that others made.
const foreignID = "night.dump"

// foreign lets others make a backup of production.
func (s *specimen) foreign(t *testing.T, args ...string) path { return s.foreignOf(t, "shop", args...) }

func (s *specimen) foreignOf(t *testing.T, database string, args ...string) path {
	t.Helper()
	f := path(filepath.Join(s.dir, "backups", foreignID))
	for _, old := range []string{string(f), filepath.Join(s.dir, "backups", ".rehearsals", foreignID)} {
		if err := os.RemoveAll(old); err != nil {
			t.Fatal(err)
		}
	}
	pgDump(t, shared.Production, database, append(args, "--file="+string(f))...)
	return f
}

// at is a path in the specimen's own backup.
func (s *specimen) at(name string) path { return path(filepath.Join(s.dir, "backups", s.id, name)) }

// manifest changes the manifest of the specimen's own backup.
func (s *specimen) manifest(t *testing.T, change func(*archive.Manifest)) {
	t.Helper()
	f := s.at("manifest.json")
	m, err := archive.ParseManifest(s.id, f.read(t))
	if err != nil {
		t.Fatal(err)
	}
	change(m)
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, text)
}

// redump puts an uncompressed dump in the place of the specimen's own; production has not changed since.
func (s *specimen) redump(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(string(s.at("dump"))); err != nil {
		t.Fatal(err)
	}
	pgDump(t, shared.Production, "shop", "-Fd", "-Z0", "--file="+string(s.at("dump")))
}

// reseal makes the manifest swear to the files that are there.
func (s *specimen) reseal(t *testing.T) {
	t.Helper()
	s.manifest(t, func(m *archive.Manifest) {
		m.Files = nil
		for _, f := range s.at("dump").files(t) {
			text := f.read(t)
			m.Files = append(m.Files, archive.File{Name: f.inManifest(), Bytes: int64(len(text)), SHA256: fmt.Sprintf("%x", sha256.Sum256(text))})
		}
	})
}

// age makes the specimen's own backup one of earlier.
func (s *specimen) age(t *testing.T, by time.Duration) {
	t.Helper()
	from, id := s.at(""), ""
	s.manifest(t, func(m *archive.Manifest) {
		m.CreatedAt = m.CreatedAt.Add(-by)
		m.ID = m.CreatedAt.Format(archive.IDLayout)
		for i := range m.NewestEvents {
			m.NewestEvents[i].At = m.NewestEvents[i].At.Add(-by)
		}
		id = m.ID
	})
	s.id = id
	if err := os.Rename(string(from), string(s.at(""))); err != nil {
		t.Fatal(err)
	}
}

// addOlder puts a copy of the specimen's own backup beside it, as if made earlier.
func (s *specimen) addOlder(t *testing.T, by time.Duration) {
	t.Helper()
	own, original := s.id, t.TempDir()
	if err := os.CopyFS(original, os.DirFS(string(s.at("")))); err != nil {
		t.Fatal(err)
	}
	s.age(t, by)
	s.id = own
	if err := os.CopyFS(string(s.at("")), os.DirFS(original)); err != nil {
		t.Fatal(err)
	}
}

// path is a file or folder to be damaged.
type path string

func (p path) read(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(string(p))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (p path) write(t *testing.T, text []byte) {
	t.Helper()
	if err := os.WriteFile(string(p), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// inManifest is the name of a file of a dump in its manifest.
func (p path) inManifest() string { return "dump/" + filepath.Base(string(p)) }

// files are those of a folder.
func (p path) files(t *testing.T) (files []path) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(string(p), "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files in %s (%v)", p, err)
	}
	for _, n := range names {
		files = append(files, path(n))
	}
	return files
}

// rows is the file of a folder of pg_dump -Fd that holds the rows of the first table with that beginning of a name.
func (p path) rows(t *testing.T, table string) path {
	t.Helper()
	toc, err := archive.ParseTOC(path(filepath.Join(string(p), "toc.dat")).read(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range toc.Data() {
		for _, f := range p.files(t) {
			if strings.HasPrefix(e.Tag, table) && slices.Contains([]string{e.File, e.File + ".gz", e.File + ".zst"}, filepath.Base(string(f))) {
				return f
			}
		}
	}
	t.Fatalf("no rows of %s in %s", table, p)
	return ""
}

// largest is the largest file of rows in a folder.
func (p path) largest(t *testing.T) path {
	t.Helper()
	return slices.MaxFunc(slices.DeleteFunc(p.files(t), func(f path) bool { return filepath.Base(string(f)) == "toc.dat" }),
		func(a, b path) int { return len(a.read(t)) - len(b.read(t)) })
}

// cut leaves the first percent of a file.
func (p path) cut(t *testing.T, percent int) {
	t.Helper()
	text := p.read(t)
	p.write(t, text[:len(text)*percent/100])
}

// trim takes the last n bytes away.
func (p path) trim(t *testing.T, n int) {
	t.Helper()
	text := p.read(t)
	p.write(t, text[:len(text)-n])
}

// flip changes one bit in the middle of a file.
func (p path) flip(t *testing.T) {
	t.Helper()
	text := p.read(t)
	text[len(text)/2] ^= 1
	p.write(t, text)
}

// flipRows changes one bit in the middle of the rows of a table in a file of pg_dump -Fc, where they begin with the
// byte 1, the number of their entry and the length of what follows (_StartData and _CustomWriteFunc in PostgreSQL's
// src/bin/pg_dump/pg_backup_custom.c); a number is a sign byte and four bytes, least significant first.
func (p path) flipRows(t *testing.T, table string) {
	t.Helper()
	text := p.read(t)
	toc, err := archive.ParseTOC(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range toc.Data() {
		begin := bytes.Index(text, []byte{1, 0, byte(e.ID), byte(e.ID >> 8), byte(e.ID >> 16), byte(e.ID >> 24)})
		if e.Tag == table && begin >= toc.Size {
			length := text[begin+6 : begin+11]
			text[begin+11+(int(length[1])|int(length[2])<<8|int(length[3])<<16)/2] ^= 1
			p.write(t, text)
			return
		}
	}
	t.Fatalf("no rows of %s in %s", table, p)
}

// lastYear makes a file of pg_dump -Fc one of a year ago. Its header is PGDMP, three bytes of version, the sizes of
// numbers and offsets, the format, the compression, which is a number up to version 1.14 and a byte from then on, and as
// numbers a struct tm: seconds, minutes, hours, day, month, year (WriteHead in PostgreSQL's
// src/bin/pg_dump/pg_backup_archiver.c).
func (p path) lastYear(t *testing.T) {
	t.Helper()
	text := p.read(t)
	compression := 5
	if text[6] >= 15 {
		compression = 1
	}
	text[5+3+2+1+compression+5*5+1]--
	p.write(t, text)
}

// substitute changes the first OLD, which must be there, to NEW.
func (p path) substitute(t *testing.T, old, new string) {
	t.Helper()
	text := string(p.read(t))
	if !strings.Contains(text, old) {
		t.Fatalf("%s does not hold %q", p, old)
	}
	p.write(t, []byte(strings.Replace(text, old, new, 1)))
}

// repeatFirstLine makes the first line of a file the first and the second.
func (p path) repeatFirstLine(t *testing.T) {
	t.Helper()
	line, rest, _ := bytes.Cut(p.read(t), []byte("\n"))
	p.write(t, slices.Concat(line, []byte("\n"), line, []byte("\n"), rest))
}
