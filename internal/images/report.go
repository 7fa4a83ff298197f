package images

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"rehearsal/internal/images/wire"
	"rehearsal/internal/run"
)

// shown is how many paths are printed; the others are in the list.
const shown = 20

// report prints the comparisons and is the target's error.
func report(t *run.Target, all []*comparison) error {
	sum := summary{oldest: time.Now(), discrepancies: []map[string]any{}, unchecked: []map[string]any{}}
	for _, c := range all {
		if err := c.print(t); err != nil {
			return err
		}
		sum.add(c, len(all) > 1)
	}
	sum.set(t)
	switch {
	case sum.count.discrepancies() > 0:
		return run.Fail(run.Differ, "look at the list of paths above; `mage images:verify -full` reads every byte again",
			"%d of %d images differ from their backup", sum.count.discrepancies(), sum.files)
	case sum.count.unchecked() > 0:
		return run.Fail(run.Incomplete, "make them readable for our users on the hosts, or list them under ignore: in the inventory",
			"%d paths could not be compared", sum.count.unchecked())
	}
	return nil
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

func (c *comparison) counts() counts {
	n := counts{}
	for _, f := range c.findings {
		n[f.Kind]++
	}
	return n
}

// identical is how many files of production the backup has, too.
func (c *comparison) identical() int64 {
	n := files(c.production)
	for _, f := range c.findings {
		if folder := strings.HasSuffix(string(f.Path), "/"); f.Production.State != wire.Absent && !folder {
			n--
		}
	}
	return n
}

// oldest is when the bytes were read that were read longest ago.
func (c *comparison) oldest() time.Time {
	oldest := time.Now()
	for _, p := range c.peers() {
		if o := p.summary.Oldest; !o.IsZero() && o.Before(oldest) {
			oldest = o
		}
	}
	return oldest
}

// total adds up a number over peers.
func total(peers []*peer, number func(*peer) int64) (sum int64) {
	for _, p := range peers {
		sum += number(p)
	}
	return sum
}

func sizeOf(p *peer) int64      { return p.summary.Bytes }
func readOf(p *peer) int64      { return p.summary.ReadBytes }
func postponedOf(p *peer) int64 { return p.summary.Postponed }
func ignoredOf(p *peer) int64   { return p.summary.Ignored }
func specialOf(p *peer) int64   { return p.summary.Special }

func (c *comparison) print(t *run.Target) error {
	bytes, read := total(c.peers(), sizeOf), total(c.peers(), readOf)
	t.Printf("\n%s: production has %d files, %s; the backup %d, %s", c.Name,
		files(c.production), run.Bytes(total(c.production, sizeOf)), files(c.backup), run.Bytes(total(c.backup, sizeOf)))
	n := c.counts()
	rows := [][]string{{"  identical", strconv.FormatInt(c.identical(), 10)}}
	for _, k := range []Kind{Missing, Extra, Different, Damaged, Unreadable, Changing, Pending} {
		if n[k] > 0 {
			rows = append(rows, []string{"  " + string(k), strconv.FormatInt(n[k], 10)})
		}
	}
	t.Table(nil, rows)
	t.Printf("  read now: %s of %s; the oldest reading is %s old", run.Bytes(read), run.Bytes(bytes), run.Age(time.Since(c.oldest())))
	t.Printf("  over the line: %s", run.Bytes(total(c.peers(), (*peer).bytes)))
	if i := total(c.peers(), ignoredOf); i > 0 {
		t.Printf("  ignored: %d names by %s", i, strings.Join(c.Ignore, " "))
	}
	if s := total(c.peers(), specialOf); s > 0 {
		t.Printf("  special: %d pipes, sockets and devices, compared by kind alone", s)
	}
	if p := total(c.peers(), postponedOf); p > 0 {
		t.Printf("  touched: %s whose ctime alone has changed wait for their turn to be read; -full reads them now", run.Bytes(p))
	}
	return c.printFindings(t)
}

func (c *comparison) printFindings(t *run.Target) error {
	list, err := c.save()
	if err != nil {
		return run.Fail(run.Unexpected, "", "writing the list of paths: %w", err)
	}
	var rows [][]string
	for _, f := range c.findings {
		if f.Kind != Pending && len(rows) < shown {
			rows = append(rows, []string{"  " + string(f.Kind), string(f.Side), name(f.Path), f.Why})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	t.Printf("")
	t.Table(nil, rows)
	t.Printf("  the whole list: %s\n  their names, for rsync --from0 --files-from: %s", list, list+".paths0")
	return nil
}

// save writes the findings into the user's cache: a line for each, names quoted as Go does, and beside it the bare names, each
// ended by a NUL byte. Those of the run before are replaced.
func (c *comparison) save() (list string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "rehearsal", "images")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var lines, names strings.Builder
	for _, f := range c.findings {
		fmt.Fprintf(&lines, "%s\t%s\t%d\t%s\t%d\t%s\t%q\t%s\n", f.Kind, f.Side, f.Production.Size, stamp(f.Production.Mtime), f.Backup.Size, stamp(f.Backup.Mtime), f.Path, f.Why)
		if f.Kind.Discrepancy() {
			names.Write(f.Path)
			names.WriteByte(0)
		}
	}
	list = filepath.Join(dir, c.Name)
	if err := os.WriteFile(list, []byte(lines.String()), 0o600); err != nil {
		return "", err
	}
	return list, os.WriteFile(list+".paths0", []byte(names.String()), 0o600)
}

func stamp(mtime int64) string {
	if mtime == 0 {
		return "-"
	}
	return time.Unix(0, mtime).UTC().Format(time.RFC3339)
}

// name is a path for JSON and for people.
func name(path []byte) string {
	if utf8.Valid(path) {
		return string(path)
	}
	quoted := strconv.Quote(string(path))
	return quoted[1 : len(quoted)-1]
}

// summary is the JSON object of all stores together.
type summary struct {
	count                    counts
	files, bytes, read, wan  int64
	identical                int64
	oldest                   time.Time
	discrepancies, unchecked []map[string]any
}

func (s *summary) add(c *comparison, several bool) {
	if s.count == nil {
		s.count = counts{}
	}
	for k, n := range c.counts() {
		s.count[k] += n
	}
	s.files += files(c.production)
	s.bytes += total(c.production, sizeOf)
	s.read += total(c.peers(), readOf)
	s.wan += total(c.peers(), (*peer).bytes)
	s.identical += c.identical()
	if o := c.oldest(); o.Before(s.oldest) {
		s.oldest = o
	}
	for _, f := range c.findings {
		one := map[string]any{"path": name(f.Path), "kind": f.Kind, "side": f.Side, "why": f.Why}
		if several {
			one["store"] = c.Name
		}
		switch {
		case f.Kind.Discrepancy():
			s.discrepancies = append(s.discrepancies, one)
		case f.Kind.Unchecked():
			s.unchecked = append(s.unchecked, one)
		}
	}
}

func (s *summary) set(t *run.Target) {
	for _, field := range []struct {
		key   string
		value any
	}{
		{"files", s.files}, {"bytes", s.bytes}, {"read_bytes", s.read}, {"wan_bytes", s.wan},
		{"identical", s.identical}, {"pending", s.count[Pending]}, {"unchecked", s.count.unchecked()},
		{"oldest_reading", s.oldest.UTC().Format(time.RFC3339)},
		{"discrepancies", slices.Clip(s.discrepancies)}, {"unchecked_paths", slices.Clip(s.unchecked)},
	} {
		t.Set(field.key, field.value)
	}
}
