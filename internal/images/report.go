package images

import (
	"math"
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
	sum := summary{count: counts{}, oldest: time.Now(), discrepancies: []mention{}, unchecked: []mention{}}
	for _, c := range all {
		c.print(t)
		sum.add(c)
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

// total is what agents have counted, together, and what that took on the line.
type total struct {
	wire.Summary
	wan int64
}

func summed(peers []*peer) (sum total) {
	for _, p := range peers {
		s := &p.summary
		sum.Files, sum.Bytes, sum.ReadBytes = sum.Files+s.Files, sum.Bytes+s.Bytes, sum.ReadBytes+s.ReadBytes
		sum.Ignored, sum.Special, sum.Postponed = sum.Ignored+s.Ignored, sum.Special+s.Special, sum.Postponed+s.Postponed
		if sum.Oldest.IsZero() || !s.Oldest.IsZero() && s.Oldest.Before(sum.Oldest) {
			sum.Oldest = s.Oldest
		}
		sum.wan += p.bytes()
	}
	return sum
}

// identical is how many files of production the backup has, too.
func (c *comparison) identical() int64 { return summed(c.production).Files - c.found.files }

func (c *comparison) print(t *run.Target) {
	production, backup, both := summed(c.production), summed(c.backup), summed(c.peers())
	t.Printf("\n%s: production has %d files, %s; the backup %d, %s", c.Name,
		production.Files, run.Bytes(production.Bytes), backup.Files, run.Bytes(backup.Bytes))
	rows := [][]string{{"  identical", strconv.FormatInt(c.identical(), 10)}}
	for _, k := range kinds {
		if n := c.found.n[k]; n > 0 {
			rows = append(rows, []string{"  " + string(k), strconv.FormatInt(n, 10)})
		}
	}
	t.Table(nil, rows)
	t.Printf("  read now: %s of %s; the oldest reading is %s old", run.Bytes(both.ReadBytes), run.Bytes(both.Bytes), run.Age(time.Since(both.oldest())))
	t.Printf("  over the line: %s", run.Bytes(both.wan))
	if both.Ignored > 0 {
		t.Printf("  ignored: %d names by %s", both.Ignored, strings.Join(c.Ignore, " "))
	}
	if both.Special > 0 {
		t.Printf("  special: %d pipes, sockets and devices, compared by kind alone", both.Special)
	}
	if both.Postponed > 0 {
		t.Printf("  touched: %s whose ctime alone has changed wait for their turn to be read; -full reads them now", run.Bytes(both.Postponed))
	}
	c.printFindings(t)
}

// oldest is when the bytes were read that were read longest ago; now where there are none.
func (s *total) oldest() time.Time {
	if s.Oldest.IsZero() {
		return time.Now()
	}
	return s.Oldest
}

func (c *comparison) printFindings(t *run.Target) {
	var rows [][]string
	for _, f := range c.found.kept[:min(len(c.found.kept), shown)] {
		rows = append(rows, []string{"  " + string(f.Kind), string(f.Side), name(f.Path), f.Why})
	}
	if len(rows) > 0 {
		t.Printf("")
		t.Table(nil, rows)
	}
	if len(rows) > 0 || c.found.n[Pending]+c.found.n[Unreferenced] > 0 {
		t.Printf("  the whole list: %s", c.found.list.path)
	}
	if len(rows) > 0 {
		t.Printf("  the names, for rsync --from0 --files-from: %s", c.found.list.bareNames())
	}
	if more := c.found.beyond(); more > 0 {
		t.Warn("%s: %d more paths are on the list alone: %s", c.Name, more, c.found.list.path)
	}
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
	files, identical         int64
	bytes, read, wan         int64
	oldest                   time.Time
	walked                   time.Duration
	referenced               bool
	discrepancies, unchecked []mention
}

// mention is a finding in JSON.
type mention struct {
	Store string `json:"store"`
	Path  string `json:"path"`
	Kind  Kind   `json:"kind"`
	Side  Side   `json:"side"`
	Why   string `json:"why"`
}

func (c *comparison) mention(f Finding) mention {
	return mention{c.Name, name(f.Path), f.Kind, f.Side, f.Why}
}

func (s *summary) add(c *comparison) {
	for k, n := range c.found.n {
		s.count[k] += n
	}
	production, both := summed(c.production), summed(c.peers())
	s.files, s.bytes, s.identical = s.files+production.Files, s.bytes+production.Bytes, s.identical+c.identical()
	s.read, s.wan = s.read+both.ReadBytes, s.wan+both.wan
	if o := both.oldest(); o.Before(s.oldest) {
		s.oldest = o
	}
	s.walked = max(s.walked, c.walked)
	s.referenced = s.referenced || c.References != nil
	for _, f := range c.found.kept {
		if f.Kind.Discrepancy() {
			s.discrepancies = append(s.discrepancies, c.mention(f))
		} else {
			s.unchecked = append(s.unchecked, c.mention(f))
		}
	}
}

func (s *summary) set(t *run.Target) {
	for _, field := range []struct {
		key   string
		value any
	}{
		{"files", s.files}, {"bytes", s.bytes}, {"read_bytes", s.read}, {"wan_bytes", s.wan},
		{"walk_seconds", math.Round(1000*s.walked.Seconds()) / 1000},
		{"identical", s.identical}, {"pending", s.count[Pending]}, {"unchecked", s.count.unchecked()},
		{"oldest_reading", s.oldest.UTC().Format(time.RFC3339)},
		{"discrepancies", s.discrepancies}, {"unchecked_paths", s.unchecked},
	} {
		t.Set(field.key, field.value)
	}
	if s.referenced {
		t.Set("unreferenced", s.count[Unreferenced])
	}
}
