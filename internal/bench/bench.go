package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"rehearsal/internal/run"
)

// Options of a run of the benchmarks.
type Options struct {
	Dir    string // for the labs, which are below it as long as they are needed; it may be a lab's own
	Binary string // the compiled magefiles
	Only   string // the part to measure; empty: every one
	Rounds int    // how often every contender runs
	Write  string // the Markdown file to write; empty: none

	Rows int // of all tables of the database together

	Files    int           // in the tree of small images; that of large ones has a hundredth of it
	Many     int           // files in the tree that only the agents walk; 0: that is not measured
	Distance time.Duration // round trip to the backup that is far away
	Cold     bool          // drop the machine's page cache before what finds it cold, which takes root
}

// The smallest sizes that measure anything: below, a run is nothing but round trips.
const (
	minRows  = 600
	minFiles = 60
)

// benchmarks are the parts of the report, in its order.
var benchmarks = []struct {
	title, only string
	measure     func(ctx context.Context, t *run.Target, o Options) (*part, error)
}{
	{"Restore", "restore", measureRestore},
	{"Images", "images", measureImages},
}

// Run makes a lab for each benchmark, has every contender do its work o.Rounds times, in turn, and reports. Whatever ends
// it, the labs are taken down. A figure that is not reached is a warning; an error is a contender that failed. What was
// measured before is written all the same.
func Run(ctx context.Context, t *run.Target, o Options) error {
	switch {
	case o.Rows < minRows || o.Files < minFiles || o.Rounds < 1 || o.Many < 0:
		return run.Fail(run.Usage, "", "-rows must be %d at least, -files %d, -rounds 1, -many 0", minRows, minFiles)
	case o.Only != "" && o.Only != "restore" && o.Only != "images":
		return run.Fail(run.Usage, "", "-only must be restore or images, not %q", o.Only)
	}
	if err := lock(t, o.Dir); err != nil {
		return err
	}
	for _, b := range benchmarks {
		if o.Only != "" && o.Only != b.only {
			continue
		}
		p, err := b.measure(ctx, t, o)
		if err != nil {
			return err
		}
		p.title = b.title
		p.show(t)
		if o.Write == "" {
			continue
		}
		if err := p.write(t, o.Write); err != nil {
			return err
		}
	}
	return nil
}

// lock keeps a second benchmark out of dir until the target ends: it would take the lab of the first for one that a
// killed run left.
func lock(t *run.Target, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = run.Fail(run.Locked, "wait for it", "another benchmark runs in %s", dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	t.Cleanup("the lock on "+dir, func(context.Context) error {
		_ = os.Remove(dir) // unless it holds something
		return f.Close()
	})
	return nil
}

// room refuses a disk that would be full half-way. flag is what n is the number of.
func room(dir, flag string, n int, each int64) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return fmt.Errorf("asking for the free disk of %s: %w", dir, err)
	}
	free, need := int64(disk.Bavail)*int64(disk.Bsize), int64(n)*each
	if free < need {
		return run.Fail(run.Usage, "make room, or take fewer: "+flag+"="+strconv.Itoa(n/10), "%s=%d needs about %s in %s, which has %s free",
			flag, n, run.Bytes(need), dir, run.Bytes(free))
	}
	return nil
}

// inTurn calls do for every contender in every round; whoever is first finds another machine than whoever is last.
func inTurn[C any](contenders []C, rounds int, do func(round int, c C) error) error {
	for round := range rounds {
		first := round % max(1, len(contenders))
		for _, c := range slices.Concat(contenders[first:], contenders[:first]) {
			if err := do(round, c); err != nil {
				return err
			}
		}
	}
	return nil
}
