package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"rehearsal/internal/run"
)

// Options of a run of the benchmark.
type Options struct {
	Dir    string // for the lab; must not be another lab's. It is made, and gone at the end
	Binary string // the compiled magefiles
	Rows   int    // of all tables together
	Rounds int    // how often every contender runs
	Write  string // the Markdown file to write; empty: none
}

// The smallest sizes that measure anything: below, a reset is nothing but round trips.
const (
	minRows   = 600
	minRounds = 1
)

// Run makes a lab with o.Rows rows in its production and one backup of them, has every contender fill staging
// o.Rounds times, in turn, and reports. Whatever ends it, the lab is taken down. A figure that is not reached is a
// warning; an error is a contender that failed.
func Run(ctx context.Context, t *run.Target, o Options) error {
	if o.Rows < minRows || o.Rounds < minRounds {
		return run.Fail(run.Usage, "", "-rows must be %d at least, -rounds %d", minRows, minRounds)
	}
	if err := lock(t, filepath.Dir(o.Dir)); err != nil {
		return err
	}
	a, err := build(ctx, t, o)
	if err != nil {
		return err
	}
	r := &report{rows: o.Rows, rounds: o.Rounds, began: time.Now(), samples: map[string][]sample{}}
	if r.machine, err = look(ctx, a.lab.Staging); err != nil {
		return err
	}
	for round := range o.Rounds {
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)] // whoever is first finds another machine than whoever is last
			s, err := a.measure(ctx, t, fmt.Sprintf("round %d of %d: %s", round+1, o.Rounds, c.name), c)
			if err != nil {
				return err
			}
			r.samples[c.name] = append(r.samples[c.name], s)
		}
	}
	r.show(t)
	if o.Write == "" {
		return nil
	}
	return r.write(t, o.Write)
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
