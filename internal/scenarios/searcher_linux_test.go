package scenarios

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// ballast is a table that makes a backup so large that staging is searched there: 18 MB of noise that packs badly.
const ballast = `CREATE TABLE ballast (id bigint PRIMARY KEY, noise text NOT NULL);
	INSERT INTO ballast SELECT i, md5(i::text) || md5((-i)::text) || md5('a' || i) || md5('b' || i) FROM generate_series(1, 260000) i;
	ALTER TABLE ballast OWNER TO shop`

// large gives the specimen a backup with ballast, and what else changes production.
func (s *specimen) large(t *testing.T, changes string) {
	t.Helper()
	s.timeless(t)
	source(ballast+";"+changes)(s, t)
	columns := path(filepath.Join(s.dir, "sql", "shop", "columns.yaml"))
	columns.write(t, append(columns.read(t), "\npublic.ballast: {keep: [id, noise]}\n"...))
	s.try(t, try{target: "backup:create", verdict: "sealed"})
}

func TestALargeDatabaseIsSearchedOnStaging(t *testing.T) {
	s := newSpecimen(t)
	s.large(t, "")
	t.Cleanup(func() { removeLoaders(t) })
	g := s.gateBefore(t, shared.SSHDOf("staging").Port, nil)
	want, wanted := s.reset(t)
	there := g.passed(false)
	bytes := want["proof"].(map[string]any)["searched_bytes"].(float64)
	t.Logf("%.0f bytes searched, %d came here from staging", bytes, there)
	if bytes < 35e6 || there > 2<<20 {
		t.Errorf("%.0f bytes searched, %d came here from staging", bytes, there)
	}
	if warnings := want["warnings"]; warnings != nil && strings.Contains(fmt.Sprint(warnings), "searched") {
		t.Error(warnings)
	}
	eventually(t, "no loader is left", func() bool { return len(loaders()) == 0 })

	programs, _ := filepath.Glob(shared.Path("staging", "state", "loader-*"))
	if len(programs) != 1 {
		t.Fatalf("programs on staging: %q", programs)
	}
	if err := os.Remove(programs[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(programs[0], 0o700); err != nil {
		t.Fatal(err)
	}
	got, dumped := s.reset(t)
	if err := os.RemoveAll(programs[0]); err != nil {
		t.Fatal(err)
	}
	if warnings := fmt.Sprint(got["warnings"]); !strings.Contains(warnings, "all rows of shop_incoming come to this machine to be searched, because staging does not search them: ") {
		t.Errorf("nothing says why the rows come here: %v", warnings)
	}
	if here := g.passed(false) - there; here < 35e6 {
		t.Errorf("the rows did not come here: %d bytes", here)
	}
	delete(want, "warnings")
	delete(got, "warnings")
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("the report of a search there and of one here: %s", diff)
	}
	if wanted != dumped {
		t.Error("staging is another one")
	}
}

func TestWhatTheRulesMissIsFoundByASearchOnStaging(t *testing.T) {
	s := newSpecimen(t)
	s.large(t, `UPDATE ballast SET noise = 'made for ' || (SELECT full_name FROM customers WHERE full_name LIKE '% %' ORDER BY length(full_name) DESC, id LIMIT 1) WHERE id = 77;
		UPDATE ballast SET noise = 'ask ' || (SELECT email FROM customers WHERE id = 7) WHERE id = 78;
		COMMENT ON TABLE ballast IS 'ask anna.schmidt@example.org first'`)
	t.Cleanup(func() { removeLoaders(t) })
	databases := stagingDatabases(t)
	got := s.try(t, try{target: "staging:reset", code: 4,
		says: `staging would hold values of production:[\s\S]*public\.ballast\.noise: a value of public\.customers\.full_name, once[\s\S]*public\.ballast\.noise: e-mail, once[\s\S]*the schema: e-mail`})
	if strings.Contains(got.text(), "@example") || strings.Contains(got.text(), "made for") || strings.Contains(got.text(), "come to this machine") {
		t.Error(got.text())
	}
	checkNothingIsLeft(t, databases)
	eventually(t, "nothing of it runs on staging", func() bool { return len(loaders()) == 0 && atWork(t) == "" })
}

// The program is stopped, so that the search has to wait for it.
func TestASearchOnStagingThatEndsEarlyIsDoneHere(t *testing.T) {
	s := newSpecimen(t)
	s.large(t, "")
	s.slowLoad(t, 0.02)
	t.Cleanup(func() { removeLoaders(t) })
	for _, c := range []struct {
		name string
		ends func(c *exec.Cmd) error
		code int
		says string
	}{
		{"the loader is killed", func(*exec.Cmd) error { return killLoader() }, 0,
			`warning: all rows of shop_incoming come to this machine to be searched, because staging does not search them: the loader on staging ended early, with exit status 137`},
		{"Ctrl-C", func(c *exec.Cmd) error { return c.Process.Signal(syscall.SIGINT) }, 130, `shop on staging is as it was`},
	} {
		before := stagingDatabases(t)
		run := mage(s.dir, "staging:reset")
		output := &lockedText{}
		run.Stdout, run.Stderr = output, output
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the load has begun", func() bool { return strings.Contains(output.String(), "✓ empty tables") })
		eventually(t, "a loader runs", func() bool { return len(loaders()) == 1 })
		if err := syscall.Kill(loaders()[0], syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all before the search is done", func() bool { return strings.Contains(output.String(), "✓ grants and statistics") })
		time.Sleep(500 * time.Millisecond)
		if err := c.ends(run); err != nil {
			t.Fatal(err)
		}
		since := time.Now()
		_ = run.Wait()
		if code := run.ProcessState.ExitCode(); code != c.code || !regexp.MustCompile(c.says).MatchString(output.String()) {
			t.Errorf("%s: exit code %d\n%s", c.name, code, output)
		}
		if took := time.Since(since); c.code == 130 && took > 5*time.Second {
			t.Errorf("%s: it took %s to end", c.name, took)
		}
		eventually(t, "nothing of it runs on staging", func() bool { return len(loaders()) == 0 && atWork(t) == "" })
		if after := stagingDatabases(t); (after == before) != (c.code != 0) {
			t.Errorf("%s: before %s, after %s", c.name, before, after)
		}
	}
}
