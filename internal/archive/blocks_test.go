package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

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
	levels := []string{"0", "1", "6"}
	knows, err := c.SQL(ctx, "postgres", "SELECT current_setting('server_version_num')::int >= 160000")
	if err != nil {
		t.Fatal(err)
	}
	if knows == "t" {
		levels = append(levels, "zstd", "zstd:19")
	}
	for _, level := range levels {
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
			if strings.HasPrefix(e.Tag, "Many") {
				many = e.ID
				if !slices.Equal(columns, []string{"id", "a, b"}) {
					t.Errorf("columns %q", columns)
				}
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

func TestAStreamOfZstdIsUnpackedWhateverItsSize(t *testing.T) {
	random := make([]byte, 3*wholeBytes)
	_, _ = rand.Read(random)
	for name, rows := range map[string][]byte{
		"none":                       {},
		"few":                        []byte("1\tx\n\\.\n"),
		"many that pack to few":      bytes.Repeat([]byte("1\tthe same in every row\n"), 2*wholeRows/23),
		"many that cannot be packed": random,
	} {
		var packed, got bytes.Buffer
		w, err := zstd.NewWriter(&packed, zstd.WithZeroFrames(true), zstd.WithWindowSize(zstdWindow))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(rows)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		file := bytes.Clone(packed.Bytes())
		if err := Unzstd(&got, &packed); err != nil || !bytes.Equal(got.Bytes(), rows) {
			t.Errorf("%s: %d of %d bytes, %v", name, got.Len(), len(rows), err)
		}
		for _, cut := range []int{0, 3, len(file) / 2, len(file) - 1} {
			if err := Unzstd(io.Discard, bytes.NewReader(file[:cut])); err == nil {
				t.Errorf("%s: no error for %d of %d bytes", name, cut, len(file))
			}
		}
	}
}

func TestAStreamOfZstdThatNeedsMoreMemoryThanPgRestoreGivesItIsRefused(t *testing.T) {
	// A frame's header says the window: 1<<(10+17) bytes are 128 MB. Then a last block with one byte as it is (RFC 8878).
	for exponent, want := range map[byte]string{17: "x", 18: ""} {
		var rows bytes.Buffer
		frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1<<3 | 1, 0, 0, 'x'}
		err := Unzstd(&rows, bytes.NewReader(frame))
		if rows.String() != want || (err == nil) != (want != "") {
			t.Errorf("a window of 1<<%d bytes: %q, %v", 10+exponent, rows.String(), err)
		}
		if err := Unzstd(io.Discard, bytes.NewReader(frame[:9])); err == nil {
			t.Error("a stream that is cut short is none")
		}
	}
}
