package archive

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rehearsal/internal/lab"
)

func TestTheRowsOfAFileAreReadAsPgRestoreReadsThem(t *testing.T) {
	ctx := context.Background()
	c, err := lab.StartCluster(ctx, "blocks", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop() })
	if _, err := c.SQL(ctx, "postgres", `CREATE TABLE "Many, ""rows"" (x)" (id int, "a, b" text); CREATE TABLE none (id int); CREATE TABLE few (x text);
		INSERT INTO "Many, ""rows"" (x)" SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 20000) i; INSERT INTO few VALUES (E'\t'), ('\.')`); err != nil {
		t.Fatal(err)
	}
	for _, level := range []string{"0", "1", "6"} {
		file := filepath.Join(t.TempDir(), "dump")
		if out, err := exec.Command(filepath.Join(c.Bin, "pg_dump"), "-Fc", "-Z"+level, "-h", c.Socket, "-p", strconv.Itoa(c.Port), "-U", "postgres", "-f", file, "postgres").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		toc, err := ParseTOC(text)
		if err != nil {
			t.Fatal(err)
		}
		rows := map[int]*bytes.Buffer{}
		many := 0
		for _, e := range toc.Data() {
			columns, err := e.Columns()
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case strings.HasPrefix(e.Tag, "Many"):
				many = e.ID
				if !slices.Equal(columns, []string{"id", "a, b"}) {
					t.Errorf("columns %q", columns)
				}
			case e.Tag == "none":
				continue
			}
			rows[e.ID] = &bytes.Buffer{}
		}
		into := func(entry int) io.Writer {
			if b := rows[entry]; b != nil {
				return b
			}
			return nil
		}
		if err := toc.Blocks(bytes.NewReader(text), into); err != nil {
			t.Fatalf("-Z%s: %v", level, err)
		}
		for id, b := range rows {
			list := file + ".list"
			if err := os.WriteFile(list, []byte(strconv.Itoa(id)+";\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			want, err := exec.Command(filepath.Join(c.Bin, "pg_restore"), "--data-only", "-L", list, "-f", "-", file).Output()
			if err != nil {
				t.Fatal(err)
			}
			if b.Len() == 0 || !bytes.Contains(want, b.Bytes()) {
				t.Errorf("-Z%s: entry %d: %d bytes that pg_restore does not write", level, id, b.Len())
			}
		}
		if n := bytes.Count(rows[many].Bytes(), []byte("\n")); n < 20000 {
			t.Errorf("-Z%s: %d rows", level, n)
		}
		for _, cut := range []int{toc.Size + 1, toc.Size + 20, len(text) / 2, len(text) - 1} {
			if err := toc.Blocks(bytes.NewReader(text[:cut]), into); err == nil {
				t.Errorf("-Z%s: no error for the first %d of %d bytes", level, cut, len(text))
			}
		}
	}
}
