package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/postgres"
)

// What follows depends on the version of PostgreSQL, or needs the program zstd. Without lab.Postgres it runs with what is
// installed and says what it passes over; where lab.Postgres names another PostgreSQL, all of it runs, or fails.

// noReporting is what every reset of the lab's staging warns of.
const noReporting = `roles of the backup that staging lacks, .*reporting`

// major is the version of the PostgreSQL that all tests here use.
func major(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(query(t, shared.Production, "postgres", "SELECT current_setting('server_version_num')::int / 10000"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// since passes over what is of a newer PostgreSQL than this one.
func since(t *testing.T, version int) {
	t.Helper()
	if major(t) < version {
		passOver(t, fmt.Sprintf("this is of PostgreSQL %d; .ci/postgresql17 DIR prints what %s can be", version, lab.Postgres))
	}
}

// packer passes over what needs the program zstd, where it is not installed.
func packer(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("zstd"); err != nil {
		passOver(t, "this needs the program zstd: "+err.Error())
	}
}

func passOver(t *testing.T, why string) {
	t.Helper()
	if bin := os.Getenv(lab.Postgres); bin != "" {
		t.Fatalf("with %s=%s nothing is passed over: %s", lab.Postgres, bin, why)
	}
	t.Skip("SKIPPED: " + why)
}

// suffix is that of the files that backup:create makes here.
func suffix() string {
	names, _ := filepath.Glob(filepath.Join(backups, "*Z", "dump", "*.zst"))
	if len(names) > 0 {
		return ".zst"
	}
	return ".gz"
}

// packedBy are the suffixes of a backup's files of rows.
func (s *specimen) packedBy(t *testing.T, id string) (suffixes []string) {
	t.Helper()
	for _, f := range path(filepath.Join(s.dir, "backups", id, "dump")).files(t) {
		if end := filepath.Ext(string(f)); filepath.Base(string(f)) != "toc.dat" && !slices.Contains(suffixes, end) {
			suffixes = append(suffixes, end)
		}
	}
	return suffixes
}

// create makes a backup, whose rows must be packed that way, and returns its ID and what its step says.
func (s *specimen) create(t *testing.T, suffix, says string) (id string) {
	t.Helper()
	out, code := output(mage(s.dir, "backup:create"))
	m := regexp.MustCompile(`(?m)^backup (\S+) of shop: `).FindStringSubmatch(out)
	if code != 0 || m == nil {
		t.Fatalf("backup:create: exit code %d\n%s", code, out)
	}
	if got := s.packedBy(t, m[1]); !slices.Equal(got, []string{suffix}) {
		t.Errorf("the rows are in files %v, want %s", got, suffix)
	}
	if line := regexp.MustCompile(`(?m)^✓ dump .*$`).FindString(out); !strings.Contains(line, says) || says == "" && strings.Contains(line, "zip") {
		t.Errorf("the step does not say %q: %s", says, line)
	}
	return m[1]
}

func TestABackupIsPackedByZstdWhereAllWhoReadItKnowThat(t *testing.T) {
	since(t, postgres.ZstdSince)
	packer(t)
	s := newSpecimen(t)
	databases := stagingDatabases(t)
	id := s.create(t, ".zst", "   zstd")
	if n := len(s.run(t, "backup:list").Backups); n != 2 {
		t.Errorf("%d backups are listed", n)
	}
	s.checkListed(t, "sealed", id, nil)
	s.try(t, try{target: "backup:verify", verdict: "verified"})
	checkNothingIsLeft(t, databases)

	out, code := output(mage(s.dir, "staging:reset"))
	for _, want := range []string{"proof that nothing sensitive is on staging", "none was found", "newest events in backup " + id, "jana.novakova@shop.example  promoted"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("staging:reset, exit code %d, does not say %q:\n%s", code, want, out)
		}
	}
	if got := query(t, shared.Staging, "shop", "SELECT count(*), count(*) FILTER (WHERE email NOT LIKE '%.invalid') FROM customers"); got != "200|0" {
		t.Errorf("customers on staging, and those who are not masked: %s", got)
	}
}

func TestABackupIsPackedByGzipWhereSomebodyDoesNotKnowZstd(t *testing.T) {
	since(t, postgres.ZstdSince)
	packer(t)
	for name, c := range map[string]struct {
		lacks func(s *specimen, t *testing.T)
		says  string
	}{
		"an old pg_restore": {func(s *specimen, t *testing.T) {
			s.tool(t, "staging", "pg_restore", `case " $* " in *" --list "*) echo "pg_restore: error: unsupported version (1.15) in file header" >&2; exit 1 ;; esac`)
		}, "gzip, as zstd is not known on staging"},
		"a pg_restore that was built without": {func(s *specimen, t *testing.T) {
			s.tool(t, "staging", "pg_restore", `case " $* " in *" --list "*) echo "pg_restore: warning: archive is compressed, but this installation does not support compression (this build does not support compression with zstd) -- no data will be available" >&2; esac`)
		}, "gzip, as zstd is not known on staging"},
		"a pg_dump that was built without": {func(s *specimen, t *testing.T) {
			s.tool(t, "production", "pg_dump", `case " $* " in *" --compress=zstd "*) echo "pg_dump: error: invalid compression specification: this build does not support compression with zstd" >&2; exit 1 ;; esac`)
		}, "gzip, as pg_dump on production was built without zstd"},
		"a staging that is down":              {(*specimen).stagingIsDown, "gzip, as zstd is not known of staging, which could not be asked"},
		"a staging without the program zstd":  {func(s *specimen, t *testing.T) { s.withoutZstd(t, "staging") }, "gzip, as zstd is not known on staging"},
		"a backup host that could count none": {func(s *specimen, t *testing.T) { s.withoutZstd(t, "backup") }, "gzip, as zstd is not known on backup"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpecimen(t)
			c.lacks(s, t)
			s.create(t, ".gz", c.says)
		})
	}
}

func TestAnOldPgDumpPacksByGzipAndNobodyIsAsked(t *testing.T) {
	if major(t) >= postgres.ZstdSince {
		t.Skip("this is of an older PostgreSQL")
	}
	s := newSpecimen(t)
	staging, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan bool, 1)
	go func() {
		_, err := staging.Accept()
		asked <- err == nil
	}()
	s.change(t, "staging", "address", staging.Addr().String())
	s.create(t, ".gz", "")
	staging.Close()
	if <-asked {
		t.Error("staging was asked")
	}
}

func TestRowsPackedByZstdAreMaskedOnTheirWayAsOthersAre(t *testing.T) {
	packer(t)
	s := newSpecimen(t)
	s.repack(t)
	databases := stagingDatabases(t)
	s.try(t, try{target: "backup:verify", verdict: "verified"})
	checkNothingIsLeft(t, databases)
	s.try(t, try{target: "staging:reset", warns: noReporting})
	databases = stagingDatabases(t)
	if got := query(t, shared.Staging, "shop", "SELECT count(*), count(*) FILTER (WHERE email NOT LIKE '%.invalid') FROM customers"); got != "200|0" {
		t.Errorf("customers on staging, and those who are not masked: %s", got)
	}

	// Others may pack theirs so, and a single file, too.
	if major(t) >= postgres.ZstdSince {
		for _, format := range []string{"-Fc", "-Fd"} {
			s.foreign(t, format, "--compress=zstd")
			s.try(t, try{target: "backup:verify -backup=" + foreignID, verdict: "verified", warns: noManifest})
		}
	}

	// One that was cut short says so, and is nobody's success.
	f := s.at("dump").rows(t, "customers")
	f.trim(t, 5)
	s.reseal(t)
	s.try(t, try{target: "staging:reset -backup=" + s.id, code: 3, says: `could not be unpacked and read`})
	checkNothingIsLeft(t, databases)
}

func TestAHostWithoutZstdIsAtFaultAndNotTheBackup(t *testing.T) {
	packer(t)
	for host, tries := range map[string][]try{
		"staging": {
			{target: "staging:plan", code: 6, says: `rows of backup \S+ are packed by zstd, which is not on staging\s+next: install zstd on staging`},
			{target: "backup:verify", code: 6, says: `packed by zstd, which is not on staging`},
		},
		"backup": {
			{target: "backup:verify", code: 6, says: `packed by zstd, which is not on backup`},
			{target: "staging:reset", warns: noReporting},
		},
	} {
		t.Run(host, func(t *testing.T) {
			s := newSpecimen(t)
			s.repack(t)
			s.withoutZstd(t, host)
			for _, try := range tries {
				s.try(t, try)
			}
			if host == "staging" {
				s.checkListed(t, "sealed", s.id, nil)
			}
		})
	}
}

// TestWhatANewerPostgreSQLKnowsComesThrough makes production use what came with PostgreSQL 17, and an administrator set a
// limit to its transactions there.
func TestWhatANewerPostgreSQLKnowsComesThrough(t *testing.T) {
	since(t, 17)
	s := newSpecimen(t)
	source(`
		CREATE TABLE readings (id bigint GENERATED ALWAYS AS IDENTITY, day date NOT NULL, note text, EXCLUDE USING btree (day WITH =, id WITH =)) PARTITION BY RANGE (day);
		CREATE TABLE readings_1 PARTITION OF readings FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
		INSERT INTO readings (day, note) SELECT '2026-01-01'::date + i % 300, md5(i::text) || '@example.org' FROM generate_series(1, 1000) i;
		ALTER TABLE readings OWNER TO shop; ALTER TABLE readings_1 OWNER TO shop;
		GRANT MAINTAIN ON readings TO reporting;
		ALTER DATABASE specimen SET transaction_timeout = '1s'`)(s, t)
	rules := path(filepath.Join(s.dir, "sql", "shop", "columns.yaml"))
	rules.write(t, append(rules.read(t), "\npublic.readings: {keep: [id, day], email: [note]}\n"...))
	s.tool(t, "production", "pg_dump", `case " $* " in *" --file="*) sleep 1.5 ;; esac`)
	query(t, shared.Staging, "postgres", "CREATE ROLE reporting")
	t.Cleanup(func() {
		query(t, shared.Staging, "shop", "DROP OWNED BY reporting")
		query(t, shared.Staging, "postgres", "DROP ROLE reporting")
	})
	s.try(t, try{target: "backup:create", verdict: "sealed"})
	s.try(t, try{target: "backup:verify", verdict: "verified"})
	s.try(t, try{target: "staging:reset"})
	if got := query(t, shared.Staging, "shop", `SELECT count(*), count(*) FILTER (WHERE note LIKE '%.invalid'), max(id),
		has_table_privilege('reporting', 'readings', 'MAINTAIN') FROM readings`); got != "1000|1000|1000|t" {
		t.Errorf("readings, masked ones, the highest id, whether a grant came through: %s", got)
	}
	query(t, shared.Staging, "shop", "INSERT INTO readings (day) VALUES ('2026-02-02')")
	if got := query(t, shared.Staging, "shop", "SELECT max(id) FROM readings"); got != "1001" {
		t.Errorf("the next id is %s", got)
	}
}

// TestABackupGoesToANewerPostgreSQLAndNeverToAnOlderOne needs two of them: lab.Postgres, and the one that is installed.
func TestABackupGoesToANewerPostgreSQLAndNeverToAnOlderOne(t *testing.T) {
	newer := os.Getenv(lab.Postgres)
	if newer == "" {
		passOver(t, "this needs two PostgreSQL; .ci/postgresql17 DIR prints what "+lab.Postgres+" can be")
	}
	t.Setenv(lab.Postgres, "")
	old, err := lab.Up(t.Context(), lab.Options{Dir: filepath.Join(t.TempDir(), "lab"), Orders: 200}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := old.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if old.Production.Bin == newer {
		t.Fatalf("%s is what is installed", lab.Postgres)
	}

	// The old production's nightly backup becomes the new staging.
	s := newSpecimen(t)
	own, mine := inventoryOf(t, old.Inventory()), path(filepath.Join(s.dir, "hosts.yaml"))
	hosts := string(path(old.Inventory()).read(t))
	hosts = replaceAll(t, hosts, own.Staging.Socket, shared.Staging.Socket)
	hosts = replaceAll(t, hosts, fmt.Sprintf("port: %d\n", own.Staging.Port), fmt.Sprintf("port: %d\n", shared.Staging.Port))
	hosts = replaceAll(t, hosts, own.Staging.DataDirectory, shared.Staging.Data)
	hosts = ofHost("staging", "postgres_bin").ReplaceAllString(hosts, "${1}"+strconv.Quote(newer))
	newHosts := mine.read(t)
	mine.write(t, []byte(hosts))
	s.try(t, try{target: "backup:create", verdict: "sealed", warns: "a first backup has no history"})
	s.try(t, try{target: "backup:verify", verdict: "verified"})
	s.try(t, try{target: "staging:reset", warns: noReporting})
	if got := query(t, shared.Staging, "shop", "SELECT count(*) > 0, count(*) FILTER (WHERE email NOT LIKE '%.invalid') FROM customers"); got != "t|0" {
		t.Errorf("customers on staging, and those who are not masked: %s", got)
	}

	// The new production's goes to no old one, whoever is old there.
	mine.write(t, newHosts)
	text := replaceAll(t, string(newHosts), shared.Staging.Socket, own.Staging.Socket)
	text = replaceAll(t, text, fmt.Sprintf("port: %d\n", shared.Staging.Port), fmt.Sprintf("port: %d\n", own.Staging.Port))
	text = replaceAll(t, text, shared.Staging.Data, own.Staging.DataDirectory)
	mine.write(t, []byte(ofHost("staging", "postgres_bin").ReplaceAllString(text, "${1}"+strconv.Quote(old.Staging.Bin))))
	id := s.create(t, ".gz", "gzip, as zstd is not known on staging")
	for _, target := range []string{"staging:plan", "staging:reset", "backup:verify"} {
		s.try(t, try{target: target, code: 3, says: `backup ` + id + ` cannot be loaded on staging: production's server is PostgreSQL \d+, staging's \d+`})
	}
	if there := query(t, old.Staging, "postgres", "SELECT string_agg(datname, ' ' ORDER BY 1) FROM pg_database WHERE datname ~ 'shop'"); there != "shop" {
		t.Errorf("databases on the old staging: %s", there)
	}
	// Where only pg_restore is old, its version is what counts.
	mine.write(t, newHosts)
	s.tool(t, "staging", "pg_restore", "exec "+filepath.Join(old.Staging.Bin, "pg_restore")+` "$@"`)
	s.try(t, try{target: "staging:reset", code: 3, says: `staging's pg_restore of \d+: pg_restore cannot be relied on[\s\S]*next: install the client of PostgreSQL \d+ on staging`})
}

// inventoryOf is the database of an inventory of the lab.
func inventoryOf(t *testing.T, file string) *inventory.Database {
	t.Helper()
	inv, err := inventory.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return inv.Databases["shop"]
}

func replaceAll(t *testing.T, text, old, new string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("there is no %q in\n%s", old, text)
	}
	return strings.ReplaceAll(text, old, new)
}

// ofHost matches a host's value of a key in the lab's inventory.
func ofHost(host, key string) *regexp.Regexp {
	return regexp.MustCompile(`(?s)(\n  ` + host + `:\n.*?` + key + `: )"[^"]*"`)
}

// change sets a value of a host in the inventory.
func (s *specimen) change(t *testing.T, host, key, value string) {
	t.Helper()
	hosts := path(filepath.Join(s.dir, "hosts.yaml"))
	line := ofHost(host, key)
	if !line.Match(hosts.read(t)) {
		t.Fatalf("%s has no %s in\n%s", host, key, hosts.read(t))
	}
	text, first := hosts.read(t), true
	hosts.write(t, line.ReplaceAllFunc(text, func(found []byte) []byte {
		if !first {
			return found
		}
		first = false
		return append(line.FindSubmatch(found)[1], strconv.Quote(value)...)
	}))
}

// stagingIsDown lets nobody answer at staging's address.
func (s *specimen) stagingIsDown(t *testing.T) {
	t.Helper()
	s.change(t, "staging", "address", "127.0.0.1:9") // discard, which no machine serves any more
}

// withoutZstd gives a host a PATH on which everything is but zstd.
func (s *specimen) withoutZstd(t *testing.T, name string) {
	t.Helper()
	bin, err := lab.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(bin) })
	for _, folder := range []string{"/usr/bin", "/bin"} {
		programs, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range programs {
			if err := os.Symlink(filepath.Join(folder, p.Name()), filepath.Join(bin, p.Name())); err != nil && !errors.Is(err, os.ErrExist) {
				t.Fatal(err)
			}
		}
	}
	if err := os.Remove(filepath.Join(bin, "zstd")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	sshd, host, err := lab.StartHost(ctx, inventory.Host{Name: name}, t.TempDir(), "SetEnv PATH="+bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sshd.Stop() })
	s.change(t, name, "address", host.Address)
	s.change(t, name, "identity", host.Identity)
	s.change(t, name, "host_key", host.HostKey)
}

// repack makes the specimen's own backup one whose rows are packed by zstd.
func (s *specimen) repack(t *testing.T) {
	t.Helper()
	s.redump(t)
	for _, f := range s.at("dump").files(t) {
		if filepath.Base(string(f)) == "toc.dat" {
			continue
		}
		if out, err := exec.Command("zstd", "-q", "--rm", string(f)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	s.reseal(t)
}
