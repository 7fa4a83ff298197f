package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/run"
)

// What the agent and the runner may take.
const (
	arrivalGoal = 1.5       // seconds until the agent is on a host that is far away
	lineGoal    = 2_000_000 // bytes over the line for a large tree in which nothing differs
	memoryGoal  = 200_000_000
	perName     = 600 // bytes on disk of an empty file, its name and its place in two indexes
)

const (
	absent  = "connect, no agent on the backup far away"
	present = "connect, the agent is there"
)

// arrive measures how long it takes to put the agent on a host that is far away: what connecting takes longer with it.
func (s *site) arrive(ctx context.Context, t *run.Target, p *part, o Options) error {
	var longer []float64
	for round := range o.Rounds {
		var seconds [2]float64
		for i, name := range []string{absent, present} {
			err := t.Step(ctx, fmt.Sprintf("round %d of %d: %s", round+1, o.Rounds, name), func(ctx context.Context, step *run.Step) error {
				if err := s.withdraw(name == absent); err != nil {
					return err
				}
				r, _, err := s.verify(ctx, s.sides("faults"), true, "blake3", "0%")
				seconds[i] = r.of("connect")
				step.Detail("%.2f s", seconds[i])
				p.samples[name] = append(p.samples[name], sample{seconds: map[string]float64{name: seconds[i]}})
				return err
			})
			if err != nil {
				return err
			}
		}
		longer = append(longer, seconds[0]-seconds[1])
	}
	arrival := spreadOf(longer)
	p.goals = append(p.goals, under(fmt.Sprintf("the agent's way to a host %s of round trip away (to connect takes %.2f s with it and %.2f s without)",
		run.Duration(o.Distance), p.samples.figure(absent).Median, p.samples.figure(present).Median), arrival.Median, arrivalGoal, inSeconds))
	p.fields["arrival_seconds"] = arrival
	return nil
}

func inSeconds(n float64) string { return fmt.Sprintf("%.2f s", n) }

// withdraw removes the agent from the backup, if it shall not be there.
func (s *site) withdraw(gone bool) error {
	agents, err := filepath.Glob(filepath.Join(s.backup.State, "agent-*"))
	for _, agent := range agents {
		if gone && err == nil {
			err = os.Remove(agent)
		}
	}
	return err
}

// manyRun is a run of images:verify on a large tree.
type manyRun struct {
	Run        string  `json:"run"`
	Seconds    float64 `json:"seconds"`
	Line       int64   `json:"wan_bytes"`
	Production int64   `json:"production_rss_bytes"`
	Backup     int64   `json:"backup_rss_bytes"`
	Runner     int64   `json:"runner_rss_bytes"`
}

// walkMany has both hosts look at one tree of o.Many empty files, as if each had its own: what is of interest is what
// the agents need for so many names, and two trees would take twice the time to make.
func (s *site) walkMany(ctx context.Context, t *run.Target, p *part, o Options) error {
	if o.Many == 0 {
		p.goals = append(p.goals, goal{What: "bytes over the line and memory for 5000000 files", Goal: "below 2.0 MB and 200 MB"})
		return nil
	}
	root := filepath.Join(s.dir, "many")
	err := t.Step(ctx, fmt.Sprintf("%d empty files", o.Many), func(ctx context.Context, _ *run.Step) error { return plantMany(ctx, root, o.Many) })
	if err != nil {
		return err
	}
	table := block{title: fmt.Sprintf("%d empty files", o.Many),
		header: []string{"run", "seconds", "over the line", "agent's memory, production", "agent's memory, backup", "runner's memory"}}
	var runs []manyRun
	var line, memory int64
	seen := true
	for _, name := range []string{"first", "second"} {
		err := t.Step(ctx, fmt.Sprintf("%d empty files: %s run", o.Many, name), func(ctx context.Context, _ *run.Step) error {
			stop := watch(s.production.State, s.backup.State, s.binary)
			r, u, err := s.verify(ctx, [2]string{root, root}, false, "blake3", "1/30")
			peak := stop()
			if err == nil && (r.Files != o.Many || len(r.Discrepancies)+len(r.Unchecked) > 0) {
				err = run.Fail(run.Incomplete, "", "images:verify saw %d files of %d, and %d differences", r.Files, o.Many, len(r.Discrepancies)+len(r.Unchecked))
			}
			l := manyRun{name, u.wall.Seconds(), r.Bytes, peak[0], peak[1], peak[2]}
			seen = seen && slices.Min(peak) > 0 // a process that ends at once has not been looked at
			line, memory, runs = max(line, l.Line), max(memory, l.Production, l.Backup, l.Runner), append(runs, l)
			table.rows = append(table.rows, []string{name, fmt.Sprintf("%.1f", l.Seconds), run.Bytes(l.Line), run.Bytes(l.Production), run.Bytes(l.Backup), run.Bytes(l.Runner)})
			return err
		})
		if err != nil {
			return err
		}
	}
	p.blocks, p.fields["many"] = append(p.blocks, table), runs
	used := under(fmt.Sprintf("memory of the largest agent or the runner, %d files", o.Many), memory, memoryGoal, run.Bytes)
	if !seen {
		used.Reached = nil
	}
	p.goals = append(p.goals, used,
		under(fmt.Sprintf("bytes over the line, %d files of which none differs", o.Many), line, lineGoal, run.Bytes))
	return t.Step(ctx, "remove them", func(context.Context, *run.Step) error {
		defer syscall.Sync()
		return errors.Join(os.RemoveAll(root), s.forget())
	})
}

// plantMany makes n empty files, a hundred in a folder. None claims to be an image, which cannot be empty.
func plantMany(ctx context.Context, root string, n int) error {
	g, ctx := errgroup.WithContext(ctx)
	const workers = 4
	for w := range workers {
		g.Go(func() error {
			for i := w * 100; i < n && ctx.Err() == nil; i += workers * 100 {
				folder := filepath.Join(root, fmt.Sprintf("%03d", i/100_000), fmt.Sprintf("%03d", i/100%1000))
				if err := os.MkdirAll(folder, 0o755); err != nil {
					return err
				}
				for j := i; j < min(n, i+100); j++ {
					if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("product-%07d-large.dat", j)), nil, 0o644); err != nil {
						return err
					}
				}
			}
			return ctx.Err()
		})
	}
	defer syscall.Sync()
	return g.Wait()
}

// watch keeps, for each path, the highest peak memory of another process whose program is there or below it, until stop.
// (What getrusage says of a child is never less than the memory of who started it.)
func watch(paths ...string) (stop func() []int64) {
	peaks, stopping, stopped := make([]int64, len(paths)), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				notePeaks(peaks, paths)
			case <-stopping:
				return
			}
		}
	}()
	return func() []int64 {
		close(stopping)
		<-stopped
		return peaks
	}
}

func notePeaks(peaks []int64, paths []string) {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		program, err := os.Readlink(filepath.Join(process, "exe"))
		if err != nil || process == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		for i, path := range paths {
			if program == path || strings.HasPrefix(program, path+"/") {
				kB, _ := strconv.ParseInt(find(filepath.Join(process, "status"), vmHWM), 10, 64)
				peaks[i] = max(peaks[i], kB*1024)
			}
		}
	}
}
