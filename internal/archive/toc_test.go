package archive

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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

// dump is an archive that pg_dump made on a real server.
type dump struct {
	kind      Kind
	path      string // what pg_restore reads
	toc       string // the file that begins with the table of contents
	pgRestore string
}

// dumps makes one archive of each kind of the same database.
func dumps(t *testing.T) []dump {
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
	to := t.TempDir()
	all := []dump{
		{Directory, filepath.Join(to, "folder"), filepath.Join(to, "folder", "toc.dat"), filepath.Join(c.Bin, "pg_restore")},
		{Custom, filepath.Join(to, "file"), filepath.Join(to, "file"), filepath.Join(c.Bin, "pg_restore")},
	}
	for _, d := range all {
		format := strings.TrimPrefix(string(d.kind), "pg_dump ")
		out, err := exec.Command(filepath.Join(c.Bin, "pg_dump"), format, "-h", c.Socket, "-p", strconv.Itoa(c.Port), "-U", "postgres", "-f", d.path, "shop").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return all
}

func (d dump) text(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(d.toc)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheTableOfContentsIsWhatPgRestoreLists(t *testing.T) {
	for _, d := range dumps(t) {
		t.Run(string(d.kind), func(t *testing.T) {
			toc, err := ParseTOC(d.text(t))
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(d.pgRestore, "--list", d.path).Output()
			if err != nil {
				t.Fatal(err)
			}
			sameEntries(t, toc, string(out))
			sameHeader(t, toc, string(out))
			rightContents(t, d, toc)
		})
	}
}

// sameEntries compares with the lines of pg_restore --list that are entries.
func sameEntries(t *testing.T, toc *TOC, list string) {
	t.Helper()
	var ours []string
	for _, e := range toc.Entries {
		ours = append(ours, strconv.Itoa(e.ID))
	}
	listed := 0
	for line := range strings.Lines(list) {
		if id, rest, ok := strings.Cut(line, "; "); ok && id != "" {
			listed++
			i := slices.Index(ours, id)
			if i < 0 || !strings.Contains(rest, toc.Entries[i].Desc) || !strings.Contains(rest, toc.Entries[i].Tag) {
				t.Errorf("pg_restore lists %q", line)
			}
		}
	}
	if listed < 10 {
		t.Errorf("pg_restore lists only %d entries", listed)
	}
}

// sameHeader compares with the comment above the list. pg_restore shows the time as it was where pg_dump ran, too: that is
// here.
func sameHeader(t *testing.T, toc *TOC, list string) {
	t.Helper()
	for _, want := range []string{
		"; Archive created at " + toc.CreatedAt.Format(time.DateTime),
		";     dbname: " + toc.Database + "\n",
		";     TOC Entries: " + strconv.Itoa(len(toc.Entries)) + "\n",
		";     Format: " + map[Kind]string{Custom: "CUSTOM", Directory: "DIRECTORY"}[toc.Kind] + "\n",
		";     Dumped from database version: " + toc.ServerVersion + "\n",
		";     Dumped by pg_dump version: " + toc.DumpVersion + "\n",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("pg_restore does not list %q:\n%s", want, list)
		}
	}
	if toc.CreatedAt.Location() != time.UTC {
		t.Errorf("created at %s", toc.CreatedAt)
	}
}

func rightContents(t *testing.T, d dump, toc *TOC) {
	t.Helper()
	data := toc.Data()
	if len(data) != 2 {
		t.Fatalf("%d tables have data, want 2: %v", len(data), data)
	}
	for _, e := range data {
		_, err := os.Stat(filepath.Join(d.path, e.File+".gz"))
		if (d.kind == Directory) != (err == nil) || (d.kind == Custom) != (e.File == "") {
			t.Errorf("%s.%s: the file %q: %v", e.Namespace, e.Tag, e.File, err)
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

func TestABeginningThatIsTooShortIsToldFromADamagedOne(t *testing.T) {
	for _, d := range dumps(t) {
		text := d.text(t)
		toc, err := ParseTOC(text)
		if err != nil {
			t.Fatal(err)
		}
		if d.kind == Directory && toc.Size != len(text) || d.kind == Custom && toc.Size >= len(text) {
			t.Errorf("%s: the contents take %d of %d bytes", d.kind, toc.Size, len(text))
		}
		for n := range toc.Size {
			if _, err := ParseTOC(text[:n]); !errors.Is(err, ErrShort) {
				t.Fatalf("%s cut at %d of %d bytes: %v", d.kind, n, toc.Size, err)
			}
		}
		if cut, err := ParseTOC(text[:toc.Size]); err != nil || !reflect.DeepEqual(cut, toc) {
			t.Errorf("%s cut behind the contents: %v", d.kind, err)
		}
		head, err := ParseHead(text[:512])
		if err != nil || head.Size >= 512 || head.Entries != nil {
			t.Fatalf("%s: header %+v, %v", d.kind, head, err)
		}
		if _, err := ParseHead(text[:head.Size-1]); !errors.Is(err, ErrShort) {
			t.Errorf("%s: a header cut short: %v", d.kind, err)
		}
		head.Entries, head.Size = toc.Entries, toc.Size
		if !reflect.DeepEqual(head, toc) {
			t.Errorf("%s: header %+v, contents %+v", d.kind, head, toc)
		}
	}
}

func TestADamagedTableOfContentsIsAnErrorAndNoPanic(t *testing.T) {
	for _, d := range dumps(t) {
		text := d.text(t)
		for at := range min(len(text), 4000) {
			damaged := slices.Clone(text)
			for _, b := range []byte{0x00, 0x01, 0x7f, 0xff} {
				damaged[at] = b
				ParseTOC(damaged) // must return
				ParseHead(damaged)
			}
		}
		// A number is a sign and 4 bytes, least significant first. The time follows the compression: a number, since
		// format 1.15 (PostgreSQL 16) a byte.
		tm := 11 + 5
		if text[6] >= 15 {
			tm = 11 + 1
		}
		for what, damage := range map[string]func(data []byte, toc *TOC){
			"PGDMP":                 func(data []byte, _ *TOC) { data[0] = 'p' },
			"format 1.17":           func(data []byte, _ *TOC) { data[6] = 17 },
			"there is no format 5":  func(data []byte, _ *TOC) { data[10] = 5 },
			"damaged":               func(data []byte, _ *TOC) { data[8] = 9 },
			"time of the dump":      func(data []byte, _ *TOC) { data[tm+2*5+1] = 24 },
			"a length of 134217728": func(data []byte, _ *TOC) { copy(data[tm+7*5:], []byte{0, 0, 0, 0, 8}) },
			"-1 is no ID":           func(data []byte, toc *TOC) { copy(data[toc.Size+5:], []byte{1, 1, 0, 0, 0}) },
		} {
			head, err := ParseHead(text)
			if err != nil {
				t.Fatal(err)
			}
			damaged := slices.Clone(text)
			damage(damaged, head)
			if _, err := ParseTOC(damaged); err == nil || errors.Is(err, ErrShort) || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: want an error that says %q, got %v", d.kind, what, err)
			}
		}
	}
	if _, err := ParseTOC([]byte("-- PostgreSQL database dump")); err == nil || !strings.Contains(err.Error(), "PGDMP") {
		t.Errorf("a plain dump: %v", err)
	}
}

func TestACopyIntoThePartitionsParentIsNotDirect(t *testing.T) {
	for statement, want := range map[string]bool{
		`COPY public.visits_1 (at, email) FROM stdin;`:        true,
		`COPY public.visits (at, email) FROM stdin;`:          false,
		`COPY "public"."visits_1" (at) FROM stdin;`:           true,
		`COPY other.visits_1 (at, email) FROM stdin;`:         false,
		`COPY public."visits_1 (at)" (at, email) FROM stdin;`: false,
		`INSERT INTO public.visits_1 VALUES (1);`:             false,
	} {
		if got := (Entry{Namespace: "public", Tag: "visits_1", Copy: statement}).Direct(); got != want {
			t.Errorf("%s: %t", statement, got)
		}
	}
}
