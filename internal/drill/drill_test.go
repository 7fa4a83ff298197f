package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
	"rehearsal/internal/sqldir"
)

// hosts are a backup host and a staging with PostgreSQL, each behind a real sshd. A program of either that stands in
// its folder of wrappers runs in place of the host's own.
type hosts struct {
	db                 *inventory.Database
	cluster            *lab.Cluster
	onBackup, postgres string // folders of wrappers
	backup             string // the folder of the one backup
}

func newHosts(t *testing.T) *hosts {
	t.Helper()
	t.Setenv("REHEARSAL_FORMAT", "json")
	h := &hosts{onBackup: t.TempDir(), postgres: t.TempDir()}
	var err error
	if h.cluster, err = lab.StartCluster(t.Context(), "staging", ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.cluster.Stop() })
	h.sql(t, `CREATE ROLE rehearsal LOGIN CREATEDB; CREATE ROLE shop; GRANT shop, pg_signal_backend TO rehearsal;
		ALTER ROLE rehearsal SET log_min_messages = 'panic'`)
	for _, client := range clients {
		if err := os.Symlink(filepath.Join(h.cluster.Bin, client), filepath.Join(h.postgres, client)); err != nil {
			t.Fatal(err)
		}
	}
	staging := h.start(t, inventory.Host{Name: "staging", Role: inventory.Staging, PostgresBin: h.postgres})
	backup := h.start(t, inventory.Host{Name: "backup", Role: inventory.Backup}, "SetEnv HOME="+t.TempDir()+" PATH="+h.onBackup+":/usr/bin:/bin") // no start file of a shell changes it
	h.db = &inventory.Database{Name: "shop", Production: inventory.Server{Name: "shop", SystemIdentifier: "7"},
		Backups: inventory.Backups{Host: backup, Path: t.TempDir(), MaxAge: 26 * time.Hour},
		Staging: inventory.Server{Host: staging, Socket: h.cluster.Socket, Port: h.cluster.Port, Name: "shop", User: "rehearsal", Owner: "shop",
			DataDirectory: h.cluster.Data}}
	at := time.Now().UTC().Add(-time.Hour).Truncate(time.Second)
	id := at.Format(archive.IDLayout)
	h.backup = filepath.Join(h.db.Backups.Path, id)
	m, err := json.Marshal(archive.Manifest{Format: archive.Format, ID: id, Database: "shop", CreatedAt: at, Source: archive.Source{SystemIdentifier: "7"},
		Tables: []postgres.TableRows{{Name: "public.users", Rows: 3}}, NewestEvents: []postgres.Event{{At: at, What: "x"}},
		Files: []archive.File{{Name: "dump/toc.dat", Bytes: 3, SHA256: strings.Repeat("a", 64)}}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(h.backup, "manifest.json"), string(m))
	write(t, filepath.Join(h.backup, "dump", "toc.dat"), "toc")
	return h
}

func (h *hosts) start(t *testing.T, spec inventory.Host, extra ...string) *inventory.Host {
	t.Helper()
	s, machine, err := lab.StartHost(t.Context(), spec, t.TempDir(), extra...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return machine
}

func (h *hosts) sql(t *testing.T, sql string) string {
	t.Helper()
	out, err := h.cluster.SQL(context.Background(), "postgres", sql)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// ready does what every drill does first, as a target, and returns the target's error and warnings.
func (h *hosts) ready(t *testing.T, then func(*Drill)) (warnings string, err error) {
	t.Helper()
	var target *run.Target
	err = run.Main(t.Context(), "drill", func(ctx context.Context, tt *run.Target) error {
		target = tt
		d := &Drill{Target: tt, DB: h.db, Name: "drill"}
		err := tt.Steps(ctx,
			run.Named("connect", d.Connect),
			run.Named("choose the backup", func(ctx context.Context, s *run.Step) error { return d.Choose(ctx, nil, s) }),
			run.Named("check staging", d.CheckStaging),
		)
		if err == nil && then != nil {
			then(d)
		}
		return err
	})
	return fmt.Sprint(target.Report()["warnings"]), err
}

// lock holds staging's lock until the test ends.
func (h *hosts) lock(t *testing.T) {
	t.Helper()
	held, done := make(chan struct{}), make(chan struct{})
	ended := make(chan error)
	go func() {
		ended <- run.Main(context.Background(), "other", func(ctx context.Context, tt *run.Target) error {
			d := &Drill{Target: tt, DB: h.db, Name: "other"}
			defer close(held)
			if err := d.ConnectStaging(ctx); err != nil {
				return err
			}
			err := d.locked.wait()
			held <- struct{}{}
			<-done
			return err
		})
	}()
	<-held
	t.Cleanup(func() {
		close(done)
		for range held {
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func (h *hosts) locks(t *testing.T) string {
	return h.sql(t, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
}

// The backup host does not answer with its catalogue before staging is asked for its programs.
func TestTheCatalogueAndStagingAreAskedAtOnce(t *testing.T) {
	h := newHosts(t)
	asked := filepath.Join(t.TempDir(), "asked")
	write(t, filepath.Join(h.onBackup, "awk"), fmt.Sprintf(`#!/bin/sh
n=0
until [ -e %s ]; do
	[ $((n += 1)) -lt 600 ] || exit 1
	sleep 0.1
done
PATH=/usr/bin:/bin exec awk "$@"`, asked))
	if err := os.Remove(filepath.Join(h.postgres, "psql")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(h.postgres, "psql"), fmt.Sprintf("#!/bin/sh\n: >%s\nexec %s/psql \"$@\"\n", asked, h.cluster.Bin))
	warnings, err := h.ready(t, func(d *Drill) {
		if d.Backup.ID != filepath.Base(h.backup) || h.locks(t) != "1" {
			t.Errorf("backup %s, locks: %s", d.Backup.ID, h.locks(t))
		}
	})
	if err != nil || warnings != "[]" {
		t.Errorf("%v, %v", err, warnings)
	}
}

func TestAChosenBackupCostsTheBackupHostOneCommandAndItsTableOfContents(t *testing.T) {
	h := newHosts(t)
	log := filepath.Join(t.TempDir(), "log")
	write(t, filepath.Join(h.onBackup, "sh"), "#!/bin/sh\necho x >>"+log+"\nexec /bin/sh \"$@\"\n")
	if _, err := h.ready(t, func(d *Drill) { _ = d.contents.wait() }); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "x"); n != 2*3 {
		t.Errorf("%d shells, want two for each command: the home, the catalogue, toc.dat", n)
	}
}

func TestWhatIsWrongIsToldInTheOrderOfTheStepsWhicheverHostAnswersFirst(t *testing.T) {
	h := newHosts(t)
	h.lock(t)
	if warnings, err := h.ready(t, nil); run.CodeOf(err) != run.Locked && !strings.Contains(fmt.Sprint(err), "holds the lock") || warnings != "[]" {
		t.Errorf("a lock that another run holds: %v, %v", err, warnings)
	}
	write(t, filepath.Join(h.backup, "dump", "toc.dat"), "short of nothing, too long")
	if warnings, err := h.ready(t, nil); !strings.Contains(fmt.Sprint(err), "is not fit") || warnings != "[]" {
		t.Errorf("that, and a backup that is not fit: %v, %v", err, warnings)
	}
}

func TestTheLockIsGivenBackWhereTheBackupIsNotFit(t *testing.T) {
	h := newHosts(t)
	write(t, filepath.Join(h.backup, "dump", "toc.dat"), "short of nothing, too long")
	for range 5 { // staging is at one point or another by then
		if warnings, err := h.ready(t, nil); !strings.Contains(fmt.Sprint(err), "is not fit") || warnings != "[]" {
			t.Errorf("%v, %v", err, warnings)
		}
		for end := time.Now().Add(20 * time.Second); h.locks(t) != "0"; time.Sleep(20 * time.Millisecond) { // its session ends by itself
			if time.Now().After(end) {
				t.Fatal("the lock is still held")
			}
		}
	}
}

func TestTheFirstCheckThatFailsIsToldWhicheverEndsFirst(t *testing.T) {
	h := newHosts(t)
	h.sql(t, "CREATE DATABASE shop OWNER shop")
	check := func(name, text string) sqldir.Check {
		return sqldir.Check{Query: postgres.Query{File: name + ".sql", Text: text}, Name: name}
	}
	for _, c := range []struct {
		checks []sqldir.Check
		want   string
	}{
		{[]sqldir.Check{check("a", "SELECT 1 WHERE false"), check("b", "SELECT 1 WHERE false")}, "<nil>"},
		{[]sqldir.Check{check("slow", "SELECT 1/0 FROM pg_sleep(0.5)"), check("quick", "SELECT nonsense")}, "slow.sql: division by zero"},
		{[]sqldir.Check{check("a", "SELECT pg_sleep(0.2)"), check("b", "SELECT 1 WHERE false"), check("c", "SELECT generate_series(1, 7)"),
			check("d", "SELECT 1 WHERE false"), check("e", "SELECT generate_series(1, 2000)")},
			"a.sql: 1 rows break the rule \"a\"\nc.sql: 7 rows break the rule \"c\"\ne.sql: at least 1000 rows break the rule \"e\""},
	} {
		var got error
		_, err := h.ready(t, func(d *Drill) {
			d.Files.Checks = c.checks
			got = d.Target.Step(context.Background(), "checks", func(ctx context.Context, s *run.Step) error { return d.Check(ctx, "shop", s) })
		})
		if err != nil || !strings.Contains(fmt.Sprint(got), c.want) {
			t.Errorf("%v; got %v, want %s", err, got, c.want)
		}
	}
}
