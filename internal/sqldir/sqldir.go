// Package sqldir is the folder of SQL that a team edits for one database: columns.yaml, accounts.sql,
// neutralize.sql, events.sql and checks/*.sql. It reads them whole before anything runs, so that a missing file
// is said in the first second; what they mean is for others to say.
package sqldir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Files are the files of one folder.
type Files struct {
	Dir        string
	Columns    File            // columns.yaml
	Accounts   postgres.Script // accounts.sql; no Text where there is no such file
	Neutralize postgres.Script // neutralize.sql
	Events     postgres.Query  // events.sql
	Checks     []Check         // checks/*.sql, sorted by file name
}

// File is a text and where it was read.
type File struct {
	Name string
	Text string
}

// Check is one business check: a query that must return no row.
type Check struct {
	Name string // its first comment line, or the file's name
	postgres.Query
}

// Load reads the folder dir. A file that must exist and does not is run.Usage with an example to start from;
// accounts.sql may be missing (Accounts says so where it is needed).
func (f *Files) Load(dir string) error {
	f.Dir = dir
	var neutralize, events, accounts File
	for _, file := range []struct {
		name string
		into *File
	}{{"columns.yaml", &f.Columns}, {"neutralize.sql", &neutralize}, {"events.sql", &events}} {
		var err error
		if *file.into, err = read(dir, file.name); err != nil {
			return err
		}
	}
	accounts, err := read(dir, "accounts.sql")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.Accounts = postgres.Script{File: accounts.Name, Text: accounts.Text}
	f.Neutralize = postgres.Script{File: neutralize.Name, Text: neutralize.Text}
	f.Events = postgres.Query{File: events.Name, Text: events.Text}
	return f.loadChecks()
}

// NeedAccounts fails with run.Usage where there is no accounts.sql for the people of accounts.yaml.
func (f *Files) NeedAccounts() error {
	if f.Accounts.Text != "" {
		return nil
	}
	_, err := read(f.Dir, "accounts.sql")
	return err
}

func (f *Files) loadChecks() error {
	names, err := filepath.Glob(filepath.Join(escape(f.Dir), "checks", "*.sql"))
	if err != nil {
		return fmt.Errorf("listing the checks in %s: %w", f.Dir, err)
	}
	for _, name := range names {
		file, err := read(f.Dir, filepath.Join("checks", filepath.Base(name)))
		if err != nil {
			return err
		}
		f.Checks = append(f.Checks, Check{Name: title(file), Query: postgres.Query{File: file.Name, Text: file.Text}})
	}
	return nil
}

// escape keeps a folder's own name from being taken for a pattern.
func escape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func title(f File) string {
	for line := range strings.Lines(f.Text) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "--"); ok && strings.TrimSpace(text) != "" {
			return strings.TrimSpace(text)
		}
		if strings.TrimSpace(line) != "" {
			break
		}
	}
	return filepath.Base(f.Name)
}

func read(dir, name string) (File, error) {
	file := filepath.Join(dir, name)
	text, err := os.ReadFile(file)
	if err != nil {
		return File{}, run.Fail(run.Usage, "sql/shop/"+filepath.ToSlash(name)+" of this repository is an example to start from",
			"reading the SQL of the database: %w", err)
	}
	if strings.TrimSpace(string(text)) == "" {
		return File{}, run.Fail(run.Usage, "sql/shop/"+filepath.ToSlash(name)+" of this repository is an example to start from", "%s is empty", shown(file))
	}
	return File{Name: shown(file), Text: string(text)}, nil
}

// shown is the file as a person in the working directory would name it.
func shown(file string) string {
	wd, err := os.Getwd()
	if err != nil {
		return file
	}
	if rel, err := filepath.Rel(wd, file); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return file
}
