package archive

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rehearsal/internal/lab"
)

const schema = `
CREATE SCHEMA "Billing Dept";
CREATE TABLE "Billing Dept"."Invoice #" (id bigserial PRIMARY KEY, note text);
INSERT INTO "Billing Dept"."Invoice #" (note) SELECT 'x' FROM generate_series(1, 10);
CREATE TABLE plain (id int);
CREATE ROLE reader;
GRANT SELECT ON plain TO reader;
GRANT SELECT, UPDATE ON "Billing Dept"."Invoice #" TO reader;
SELECT lo_create(4711);
`

// dumped makes a folder with pg_dump from a real server, and returns pg_restore's path too.
func dumped(t *testing.T) (dir, pgRestore string) {
	t.Helper()
	ctx := context.Background()
	c, err := lab.StartCluster(ctx, "toc", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop() })
	if _, err := c.SQL(ctx, "postgres", "CREATE DATABASE shop"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SQL(ctx, "shop", schema); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "dump")
	out, err := exec.Command(filepath.Join(c.Bin, "pg_dump"), "-Fd", "-h", c.Socket, "-p", strconv.Itoa(c.Port), "-U", "postgres", "-f", dir, "shop").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir, filepath.Join(c.Bin, "pg_restore")
}

func TestTheTableOfContentsIsWhatPgRestoreLists(t *testing.T) {
	dir, pgRestore := dumped(t)
	text, err := os.ReadFile(filepath.Join(dir, "toc.dat"))
	if err != nil {
		t.Fatal(err)
	}
	toc, err := ParseTOC(text)
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for _, e := range toc.Entries {
		ours = append(ours, strconv.Itoa(e.ID))
	}
	out, err := exec.Command(pgRestore, "--list", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		if id, rest, ok := strings.Cut(lines.Text(), "; "); ok && id != "" {
			listed = append(listed, id)
			i := slices.Index(ours, id)
			if i < 0 || !strings.Contains(rest, toc.Entries[i].Desc) || !strings.Contains(rest, toc.Entries[i].Tag) {
				t.Errorf("pg_restore lists %q", lines.Text())
			}
		}
	}
	if len(listed) < 10 {
		t.Fatalf("pg_restore lists only %d entries", len(listed))
	}
	data := toc.Data()
	if len(data) != 2 {
		t.Fatalf("%d tables have data, want 2: %v", len(data), data)
	}
	for _, e := range data {
		if _, err := os.Stat(filepath.Join(dir, e.File+".gz")); err != nil {
			t.Errorf("%s.%s: %v", e.Namespace, e.Tag, err)
		}
	}
	if !slices.ContainsFunc(data, func(e Entry) bool { return e.Namespace == "Billing Dept" && e.Tag == "Invoice #" }) {
		t.Errorf(`"Billing Dept"."Invoice #" is not among %v`, data)
	}
	if data[0].Copy+data[1].Copy == "" || !strings.Contains(strings.Join(toc.Session(), " "), "client_encoding = 'UTF8'") {
		t.Errorf("COPY statements %q and %q, session %q", data[0].Copy, data[1].Copy, toc.Session())
	}
	if len(toc.Sequences()) != 1 || !toc.LargeObjects() || !strings.Contains(toc.DatabaseOptions(), "ENCODING = 'UTF8'") {
		t.Errorf("sequences %v, large objects %v, database options %q", toc.Sequences(), toc.LargeObjects(), toc.DatabaseOptions())
	}
	if g := strings.Join(toc.Grants(), "|"); !strings.Contains(g, "GRANT SELECT ON TABLE public.plain TO reader") {
		t.Errorf("grants: %s", g)
	}
}

func TestADamagedTableOfContentsIsAnErrorAndNoPanic(t *testing.T) {
	dir, _ := dumped(t)
	text, err := os.ReadFile(filepath.Join(dir, "toc.dat"))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(text); n += 1 + n/20 {
		if _, err := ParseTOC(text[:n]); err == nil {
			t.Fatalf("cut at %d of %d bytes: no error", n, len(text))
		}
	}
	for at := range min(len(text), 4000) {
		damaged := slices.Clone(text)
		damaged[at] ^= 0xff
		ParseTOC(damaged) // must return
	}
	if _, err := ParseTOC([]byte("-- PostgreSQL database dump")); err == nil || !strings.Contains(err.Error(), "PGDMP") {
		t.Errorf("a plain dump: %v", err)
	}
}
