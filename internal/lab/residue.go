package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Residue is what a search of staging's disk for production's people found.
type Residue struct {
	Values int      // how many e-mail addresses, names and phones were searched for
	Files  int      // files searched: tables, indexes, WAL, logs
	Bytes  int64    // their size
	Found  []string // files that hold one
}

// people are the raw values that must not reach staging, one a line.
const people = `SELECT email FROM customers UNION SELECT full_name FROM customers UNION SELECT mobile FROM customers
	UNION SELECT email FROM staff UNION SELECT name FROM staff`

// Residue searches every file of staging's PostgreSQL and of our own folder there for the e-mail addresses, names
// and phones of production's shop, but those of except: admins have their real ones.
func (l *Lab) Residue(ctx context.Context, except ...string) (Residue, error) {
	var r Residue
	text, err := l.Production.SQL(ctx, "shop", people)
	if err != nil {
		return r, err
	}
	var values []string
	for _, v := range strings.Split(text, "\n") {
		if len(v) > 5 && !slices.Contains(except, v) {
			values = append(values, v)
		}
	}
	r.Values = len(values)
	if r.Values == 0 {
		return r, errors.New("production has no people to search for")
	}
	if _, err := l.Staging.SQL(ctx, "postgres", "CHECKPOINT"); err != nil { // what is in memory comes to disk
		return r, err
	}
	err = filepath.WalkDir(l.Path("staging"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // files of a running server come and go
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			r.Files++
			r.Bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	r.Found, err = holding(ctx, values, l.Path("staging"))
	return r, err
}

// holding lists the files below dir that hold one of the values as they are.
func holding(ctx context.Context, values []string, dir string) ([]string, error) {
	patterns, err := os.CreateTemp("", "rehearsal-values-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(patterns.Name())
	_, err = patterns.WriteString(strings.Join(values, "\n") + "\n")
	if err := errors.Join(err, patterns.Close()); err != nil {
		return nil, err
	}
	grep := exec.CommandContext(ctx, "grep", "-rlaF", "-f", patterns.Name(), "--", dir)
	grep.Env = append(os.Environ(), "LC_ALL=C")
	out, err := grep.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil, nil // nothing found
	}
	if err != nil && len(out) == 0 { // files that vanished meanwhile make it 2, too
		return nil, fmt.Errorf("searching %s: %w", dir, err)
	}
	return strings.Fields(string(out)), nil
}
