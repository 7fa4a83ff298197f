package images

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// refers adds a database on production to the store, whose rows refer to images as query says.
func (s *stores) refers(t *testing.T, rows, query string) {
	t.Helper()
	cluster, err := lab.StartCluster(t.Context(), "shop", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	ctx := context.Background()
	if _, err := cluster.SQL(ctx, "postgres", "CREATE ROLE backup_reader LOGIN; CREATE DATABASE shop"); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.SQL(ctx, "shop", "CREATE TABLE products (image text); GRANT SELECT ON products TO backup_reader;\n"+rows); err != nil {
		t.Fatal(err)
	}
	s.References = &inventory.References{SQL: filepath.Join(t.TempDir(), "images.sql"), Database: &inventory.Database{
		Production: inventory.Server{Host: s.Production[0].Host, Socket: cluster.Socket, Port: cluster.Port, Name: "shop", User: "backup_reader"}}}
	s.query(t, query)
}

func (s *stores) query(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(s.References.SQL, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const every = "-- where the shop's images are\nSELECT image FROM products; "

func TestRowsWithoutAFileAndFilesWithoutARowAreFound(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	for _, root := range []string{s.production, s.backup} {
		s.write(t, root, "folder/\x01odd.jpg", drawn(t, 1))
		s.write(t, root, "folder/Zürich.jpg", drawn(t, 2))
		s.write(t, root, "folder-two/z.jpg", drawn(t, 3))
		s.write(t, root, "kept.tmp", nil)
	}
	s.write(t, s.production, "odd\xff.jpg", drawn(t, 30)) // no text of a database can name it
	s.refers(t, `INSERT INTO products VALUES ('a.jpg'), ('a.jpg'), ('b.jpg'), ('c.jpg'), ('d.jpg'), (NULL), ('folder/f.jpg'),
		('folder/deep/er/g.jpg'), ('folder two/h.jpg'), (E'odd\nline.jpg'), ('-rf'), ('empty.txt'), (repeat('n', 251) || '.jpg'),
		(E'folder/\x01odd.jpg'), ('folder/Zürich.jpg'), ('folder-two/z.jpg'), ('kept.tmp'),
		('gone.jpg'), ('folder/gone.jpg'), ('folder/deep/gone.jpg'), ('nowhere/gone.jpg')`, every)
	found, fields, code := s.verify(t, Options{refer: true})
	wantFound(t, found, `dangling production "gone.jpg"`, `dangling production "folder/gone.jpg"`, `dangling production "folder/deep/gone.jpg"`,
		`dangling production "nowhere/gone.jpg"`, `unreferenced production "e.jpg"`, `unreferenced production "odd\xff.jpg"`,
		`different unknown "odd\xff.jpg"`)
	wantCode(t, code, run.Differ)
	wantField(t, fields, "unreferenced", 2)
	wantField(t, fields, "files", 16)
	wantField(t, fields, "identical", 15)
	found, _, code = s.verify(t, Options{}) // as a repair compares
	wantFound(t, found, `different unknown "odd\xff.jpg"`)
	wantCode(t, code, run.Differ)
}

func TestFilesWithoutARowAreNoDiscrepancy(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	s.refers(t, "INSERT INTO products VALUES ('a.jpg')", every)
	_, fields, code := s.verify(t, Options{refer: true})
	wantField(t, fields, "unreferenced", 12)
	wantCode(t, code, run.Done)
}

func TestAQueryThatCannotSayWhichImagesThereAreIsRefused(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	s.refers(t, "INSERT INTO products VALUES ('a.jpg')", every)
	for name, c := range map[string]struct {
		query string
		code  run.Code
	}{
		"no rows":          {"SELECT image FROM products WHERE false", run.Incomplete},
		"an absolute path": {"SELECT '/srv/shop/uploads/' || image FROM products", run.Usage},
		"a way out":        {"SELECT '../' || image FROM products", run.Usage},
		"two columns":      {"SELECT image, 1 FROM products", run.Unexpected},
		"an unknown table": {"SELECT image FROM product", run.Unexpected},
		"a change":         {"WITH gone AS (DELETE FROM products RETURNING image) SELECT image FROM gone", run.Unexpected},
	} {
		t.Run(name, func(t *testing.T) {
			s.query(t, c.query)
			_, fields, code := s.verify(t, Options{refer: true})
			wantCode(t, code, c.code)
			if _, ok := fields["files"]; ok {
				t.Error("it was reported all the same")
			}
		})
	}
	s.References.SQL += ".missing"
	_, _, code := s.verify(t, Options{refer: true})
	wantCode(t, code, run.Usage)
}

// The order of the server's sort is that of the walk, whatever is in the names.
func TestTheServerSortsPathsAsTheyAreWalked(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	var rows strings.Builder
	names := []string{"x", "x y", "x-y", "x\x01y", "x\x02", "ä", "Z", "\U0001F600", "~", "x\x01", "!"}
	for _, folder := range append(names, "") {
		for _, sub := range append(names, "") {
			for _, name := range names {
				p := "order/" + folder + "/" + sub + "/f" + name
				p = strings.ReplaceAll(strings.ReplaceAll(p, "//", "/"), "//", "/")
				s.write(t, s.production, p, nil)
				s.write(t, s.backup, p, nil)
				rows.WriteString("INSERT INTO products VALUES ('" + p + "');\n")
			}
		}
	}
	s.refers(t, rows.String(), every)
	found, fields, code := s.verify(t, Options{refer: true})
	wantField(t, fields, "unreferenced", 13)
	if len(found) != 13 || code != run.Done {
		t.Errorf("code %d, found %q", code, found[:min(len(found), 30)])
	}
}
