package scenarios

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehearsal/internal/archive"
	"rehearsal/internal/inventory"
)

func TestAVerificationCountsEveryTableAndLeavesNothingButItsVerdict(t *testing.T) {
	dir := take(t)
	before, err := picture(dir)
	if err != nil {
		t.Fatal(err)
	}
	verified := succeed(t, dir, "backup:verify")
	text, err := os.ReadFile(filepath.Join(dir, "backups", verified.Backup, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m archive.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	counted := map[string]int64{}
	for _, table := range verified.Tables {
		counted[table.Name] = table.Rows
	}
	for _, table := range m.Tables { // those that columns.yaml truncates, too
		if rows, ok := counted[table.Name]; !ok || rows != table.Rows {
			t.Errorf("%s: counted %d rows (%t), the manifest has %d", table.Name, rows, ok, table.Rows)
		}
	}
	if verified.Verdict != "verified" {
		t.Errorf("verdict %q", verified.Verdict)
	}
	records, _ := filepath.Glob(filepath.Join(dir, "backups", verified.Backup, "rehearsals", "*-verify.json"))
	if len(records) != 1 {
		t.Fatalf("records: %v", records)
	}
	record, err := os.ReadFile(records[0])
	if err != nil || !strings.Contains(string(record), `"verdict": "verified"`) || strings.Contains(string(record), `"events"`) {
		t.Errorf("%v: %s", err, record)
	}
	now, err := picture(dir)
	if err != nil {
		t.Fatal(err)
	}
	delete(now, records[0])
	if diff := cmp.Diff(before, now); diff != "" {
		t.Error(diff)
	}
	nothingRaw(t, dir)
}

// nothingRaw searches staging's disk for values of production.
func nothingRaw(t *testing.T, dir string) {
	t.Helper()
	inv, err := inventory.Load(filepath.Join(dir, "hosts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var admins []string // of resets, who are there under their own names
	for _, a := range inv.Accounts {
		admins = append(admins, a.Email, a.Name)
	}
	residue, err := shared.Residue(t.Context(), admins...)
	if err != nil {
		t.Fatal(err)
	}
	if residue.Values < 500 || residue.Files < 100 || len(residue.Found) > 0 {
		t.Errorf("searched for %d values in %d files, found some in %v", residue.Values, residue.Files, residue.Found)
	}
}

func TestAVerificationReadsEvenWhatAResetDoesNot(t *testing.T) {
	dir := take(t)
	ids, _ := filepath.Glob(filepath.Join(dir, "backups", "*Z"))
	file := dataFile(t, ids[0], "audit_log") // truncated by columns.yaml: a reset never reads it
	flip(t, file)
	succeed(t, dir, "staging:reset")
	out, code := output(mage(dir, "backup:verify"))
	if code != 3 || !strings.Contains(out, filepath.Base(file)) || !strings.Contains(out, "does not have the bytes of its manifest") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	out, _ = output(mage(dir, "backup:list"))
	if !strings.Contains(out, "is bad: its rehearsal of") {
		t.Errorf("the list does not tell of it:\n%s", out)
	}
}

// dataFile is the file of a table's rows in a backup's dump.
func dataFile(t *testing.T, backup, table string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(shared.Production.Bin, "pg_restore"), "-l", filepath.Join(backup, "dump")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if id, rest, _ := strings.Cut(line, ";"); strings.Contains(rest, "TABLE DATA public "+table+" ") {
			return filepath.Join(backup, "dump", id+".dat"+suffix())
		}
	}
	t.Fatalf("no data of %s in %s", table, backup)
	return ""
}

func flip(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// output runs a command to its end.
func output(c *exec.Cmd) (out string, code int) {
	text, _ := c.CombinedOutput()
	return string(text), c.ProcessState.ExitCode()
}

func TestCtrlCInEachStepOfAVerificationLeavesEverythingAsItWas(t *testing.T) {
	interruptEach(t, "backup:verify", []string{"rehearse the schema", "hash what is not loaded", "load and mask", "count and prove", "checks"}, syscall.SIGINT)
}

func TestBackupsOfOthersAreListedVerifiedAndReset(t *testing.T) {
	for _, format := range []string{"custom", "directory"} {
		t.Run(format, func(t *testing.T) {
			dir := take(t)
			p := shared.Production
			name := "nightly of " + format + ".dump"
			dump := exec.Command(filepath.Join(p.Bin, "pg_dump"), "-h", p.Socket, "-p", strconv.Itoa(p.Port), "-U", "backup_reader", "--format="+format,
				"--file="+filepath.Join(dir, "backups", name), "shop")
			if out, err := dump.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			before, err := picture(dir)
			if err != nil {
				t.Fatal(err)
			}
			out, code := output(mage(dir, "backup:list"))
			if code != 0 || !strings.Contains(out, name+" is sealed: made by others with pg_dump -F") {
				t.Errorf("exit code %d\n%s", code, out)
			}
			verified := succeed(t, dir, "backup:verify", "-backup="+name)
			if verified.Verdict != "verified" {
				t.Errorf("verdict %q", verified.Verdict)
			}
			reset := succeed(t, dir, "staging:reset", "-backup="+name)
			for _, table := range reset.Tables {
				want := query(t, p, "shop", "SELECT count(*) FROM "+table.Name)
				if table.Name == "public.audit_log" || table.Name == "public.sessions" {
					want = "0"
				}
				if got := strconv.FormatInt(table.Rows, 10); got != want {
					t.Errorf("%s: %s rows on staging, %s on production", table.Name, got, want)
				}
			}
			nothingRaw(t, dir)
			now, err := picture(dir)
			if err != nil {
				t.Fatal(err)
			}
			for key := range before { // what others made is not touched
				if strings.Contains(key, name) && before[key] != now[key] {
					t.Errorf("%s has changed", key)
				}
			}
			out, _ = output(mage(dir, "backup:list"))
			if !strings.Contains(out, name+" is verified: made by others") {
				t.Errorf("the list does not say so:\n%s", out)
			}
		})
	}
}
