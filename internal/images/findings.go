package images

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
	"rehearsal/internal/run"
)

// kept is how many findings of a store are held in memory, some 30 MB of them: for the terminal, for JSON, for a repair.
const kept = 50_000

// findings are what the comparison of a store has found: all are counted and on the list, and the first that matter are
// kept.
type findings struct {
	n     counts
	files int64 // of production's among them
	kept  []Finding
	list  pathList
}

type counts map[Kind]int64

func (n counts) discrepancies() int64 { return n.of(Kind.Discrepancy) }
func (n counts) unchecked() int64     { return n.of(Kind.Unchecked) }

func (n counts) of(kind func(Kind) bool) (sum int64) {
	for k, one := range n {
		if kind(k) {
			sum += one
		}
	}
	return sum
}

// add takes findings in any order.
func (fs *findings) add(found ...Finding) error {
	slices.SortFunc(found, func(a, b Finding) int { return tree.ComparePaths(a.Path, b.Path) })
	for _, f := range found {
		fs.n[f.Kind]++
		if f.counted {
			fs.files++
		}
		if (f.Kind.Discrepancy() || f.Kind.Unchecked()) && len(fs.kept) < kept {
			fs.kept = append(fs.kept, f)
		}
		if err := fs.list.add(f); err != nil {
			return err
		}
	}
	return nil
}

// end puts the list in the place of the last run's.
func (fs *findings) end() error {
	slices.SortFunc(fs.kept, func(a, b Finding) int { return tree.ComparePaths(a.Path, b.Path) })
	return fs.list.publish()
}

// beyond is how many findings that matter were not kept.
func (fs *findings) beyond() int64 {
	return fs.n.discrepancies() + fs.n.unchecked() - int64(len(fs.kept))
}

// pathList is every finding of a store in the user's cache folder: a line for each, names quoted as Go does, and beside it
// the bare names of the discrepancies, each ended by a NUL byte. Nobody sees half of it: it has another name until
// publish.
type pathList struct {
	path  string
	lines listFile
	names listFile
}

type listFile struct {
	*bufio.Writer
	file *os.File
}

func newPathList(store string) (pathList, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return pathList{}, run.Fail(run.Usage, "set HOME or XDG_CACHE_HOME", "the list of paths has no place: %w", err)
	}
	dir := filepath.Join(cache, "rehearsal", "images")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return pathList{}, fmt.Errorf("making a place for the list of paths: %w", err)
	}
	l := pathList{path: filepath.Join(dir, store)}
	for _, f := range []*listFile{&l.lines, &l.names} {
		if f.file, err = os.CreateTemp(dir, "."+store+"-"); err != nil {
			l.discard()
			return pathList{}, fmt.Errorf("beginning the list of paths: %w", err)
		}
		f.Writer = bufio.NewWriter(f.file)
	}
	return l, nil
}

func (l *pathList) add(f Finding) error {
	_, err := fmt.Fprintf(l.lines, "%s\t%s\t%d\t%s\t%d\t%s\t%q\t%s\n", f.Kind, f.Side,
		f.Production.Size, stamp(f.Production), f.Backup.Size, stamp(f.Backup), f.Path, f.Why)
	if err == nil && f.Kind.Discrepancy() {
		prefix := ""
		if f.Path[0] == '#' || f.Path[0] == ';' { // which rsync takes for a comment
			prefix = "./"
		}
		_, err = fmt.Fprintf(l.names, "%s%s\x00", prefix, f.Path)
	}
	if err != nil {
		return fmt.Errorf("writing the list of paths: %w", err)
	}
	return nil
}

// publish gives the files their names.
func (l *pathList) publish() error {
	for _, f := range []struct {
		listFile
		name string
	}{{l.lines, l.path}, {l.names, l.bareNames()}} {
		if err := errors.Join(f.Flush(), f.file.Close()); err != nil {
			return fmt.Errorf("writing the list of paths: %w", err)
		}
		if err := os.Rename(f.file.Name(), f.name); err != nil {
			return fmt.Errorf("writing the list of paths: %w", err)
		}
	}
	return nil
}

func (l *pathList) bareNames() string { return l.path + ".paths0" }

// discard removes what was not published.
func (l *pathList) discard() {
	for _, f := range []listFile{l.lines, l.names} {
		if f.file != nil {
			_ = f.file.Close()
			_ = os.Remove(f.file.Name())
		}
	}
}

func stamp(s wire.Seen) string {
	if s.Mtime == 0 {
		return "-"
	}
	return time.Unix(0, s.Mtime).UTC().Format(time.RFC3339)
}
