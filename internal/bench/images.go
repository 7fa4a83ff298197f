package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rehearsal/internal/run"
)

// trial is one state of two trees that every peer of a list meets.
type trial struct {
	name   string
	folder string // of the forest; empty: all of it
	share  int    // of its files, as 1/share
	far    bool
	state  state
	peers  []string
}

// state is what a peer finds.
type state int

const (
	cold    state = iota // nothing is remembered, and nothing of the trees in memory
	hot                  // nothing is remembered, every byte is in memory
	known                // there was a run before
	changed              // there was a run before, and one file is another since
)

const (
	small = "small images"
	large = "large images"

	coldFirst = "first run, cold"
	hotFirst  = "first run, warm"
	coldPart  = "a twentieth, first run, cold"
	second    = "second run"
	oneFile   = "one file changed"
	farFirst  = "a quarter, far away, first run, warm"
	farSecond = "a quarter, far away, second run"
	farFile   = "a quarter, far away, one file changed"
	farPart   = "a four-hundredth, far away, first run, warm"
)

// woods are the forests, with how many of -files files each has, as 1/share, and what is tried on it. rclone asks the
// backup for each file by itself, and would take hours where the others take seconds: it gets parts.
var woods = []struct {
	forest
	share  int
	trials []trial
}{
	{forest{small, 8 << 10, 40 << 10}, 1, []trial{
		{coldFirst, "", 1, false, cold, []string{ours, rsyncAll, hashdeep}},
		{coldPart, "0/0", 20, false, cold, []string{ours, rsyncAll, rclone}},
		{hotFirst, "", 1, false, hot, []string{ours, oursFast, rsyncAll, hashdeep}},
		{second, "", 1, false, known, []string{ours, oursBare, rsyncRun, walks}},
		{oneFile, "", 1, false, changed, []string{ours, rsyncRun}},
		{farFirst, "0", 4, true, hot, []string{ours, rsyncAll, hashdeep}},
		{farSecond, "0", 4, true, known, []string{ours, rsyncRun}},
		{farFile, "0", 4, true, changed, []string{ours, rsyncRun}},
		{farPart, "0/0/0", 400, true, hot, []string{ours, rclone}},
	}},
	{forest{large, 1 << 20, 4 << 20}, 100, []trial{
		{coldFirst, "", 1, false, cold, []string{ours, rsyncAll, hashdeep}},
		{hotFirst, "", 1, false, hot, []string{ours, oursFast, rsyncAll, hashdeep}},
		{second, "", 1, false, known, []string{ours, oursBare, rsyncRun, walks}},
		{oneFile, "", 1, false, changed, []string{ours, rsyncRun}},
	}},
}

// in names a figure: what a peer took in a trial of a forest.
func in(forest, trial string, what ...string) string {
	return strings.Join(append([]string{forest + ", " + trial}, what...), ": ")
}

var imageRatios = []ratio{
	{of: in(small, coldFirst, rsyncAll), to: in(small, coldFirst, ours), least: 2},
	{of: in(small, coldPart, rclone), to: in(small, coldPart, ours), least: 3},
	{of: in(small, hotFirst, rsyncAll), to: in(small, hotFirst, oursFast), least: 1},
	{of: in(large, hotFirst, rsyncAll), to: in(large, hotFirst, oursFast), least: 1},
	{of: in(small, second, oursBare+", "+reading1), to: in(small, second, walks), most: 1.1},
	{of: in(small, second, rsyncRun), to: in(small, second, ours), least: 1},
	{of: in(small, farFirst, rsyncAll), to: in(small, farFirst, ours), least: 4},
	{of: in(small, second, oursBare), to: in(small, second, walks)},
	{of: in(small, second, ours), to: in(small, second, walks)},
	{of: in(small, hotFirst, rsyncAll), to: in(small, hotFirst, ours)},
	{of: in(large, coldFirst, rsyncAll), to: in(large, coldFirst, ours)},
	{of: in(small, coldFirst, hashdeep), to: in(small, coldFirst, ours)},
	{of: in(small, farPart, rclone), to: in(small, farPart, ours)},
}

// perImage is about what an image of -files takes on both sides, large ones included.
const perImage = 2 * (24<<10 + (5<<20)/2/100)

// measureImages has every peer compare the forests in each trial, and search for planted faults, and measures what only
// ours has: the agent, on its way and in a large tree.
func measureImages(ctx context.Context, t *run.Target, o Options) (*part, error) {
	p := &part{began: time.Now(), samples: samples{}, fields: map[string]any{}}
	p.command = fmt.Sprintf("mage bench -only=images -files=%d -many=%d -rounds=%d -write", o.Files, o.Many, o.Rounds)
	if err := errors.Join(room(o.Dir, "-files", o.Files, perImage), room(o.Dir, "-many", o.Many, perName)); err != nil {
		return nil, err
	}
	var s *site
	err := t.Step(ctx, "two hosts", func(ctx context.Context, _ *run.Step) (err error) {
		s, err = openSite(ctx, t, filepath.Join(o.Dir, "bench-images"), o)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.machine = look(programs(ctx, "ssh -V", "rsync --version", "rclone version", "hashdeep -V")...)
	for _, peer := range peers {
		if peer.missing() {
			t.Warn("%s is not measured: %s is not installed", peer.name, peer.tool)
		}
	}
	for _, measure := range []func(context.Context, *run.Target, *part, Options) error{s.findFaults, s.arrive, s.walkMany, s.compareAll} {
		if err := measure(ctx, t, p, o); err != nil {
			return nil, err
		}
	}
	compared(p, o)
	return p, nil
}

// compareAll has every peer compare every forest in each trial.
func (s *site) compareAll(ctx context.Context, t *run.Target, p *part, o Options) error {
	for _, w := range woods {
		n, sides := max(o.Files/w.share, 4), s.sides("forest")
		err := t.Step(ctx, fmt.Sprintf("%d %s", n, w.name), func(ctx context.Context, _ *run.Step) error { return w.plant(ctx, sides, n) })
		if err != nil {
			return err
		}
		for _, tr := range w.trials {
			if tr.state == cold && !o.Cold {
				continue
			}
			if err := s.try(ctx, t, p.samples, w.name, n, tr, o.Rounds); err != nil {
				return err
			}
		}
		err = t.Step(ctx, "remove them", func(context.Context, *run.Step) error {
			return errors.Join(os.RemoveAll(sides[0]), os.RemoveAll(sides[1]), s.forget())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// try has the peers of a trial compare in turn a forest of n files.
func (s *site) try(ctx context.Context, t *run.Target, all samples, forest string, n int, tr trial, rounds int) error {
	sides, files := s.sides(filepath.Join("forest", tr.folder)), filesIn(n, tr.share)
	present := slices.DeleteFunc(slices.Clone(peers), func(p peer) bool { return p.missing() || !slices.Contains(tr.peers, p.name) })
	return inTurn(present, rounds, func(round int, p peer) error {
		title := fmt.Sprintf("%s, round %d of %d: %s", in(forest, tr.name), round+1, rounds, p.name)
		return t.Step(ctx, title, func(ctx context.Context, step *run.Step) (err error) {
			undo, err := s.prepare(ctx, tr.state, p, sides, filepath.Join(s.sides("forest")[0], path(0, n)))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, undo()) }()
			sample, err := s.measure(func() (sample, error) { return p.compare(ctx, s, sides, tr.far, files) })
			if err != nil {
				return err
			}
			step.Detail("%.2f s", sample.seconds[p.name])
			seconds := map[string]float64{}
			for what, took := range sample.seconds {
				seconds[in(forest, tr.name, what)] = took
			}
			sample.seconds = seconds
			all[in(forest, tr.name, p.name)] = append(all[in(forest, tr.name, p.name)], sample)
			return p.held(sample, map[state]int{changed: 1}[tr.state])
		})
	})
}

// prepare brings two trees into the state that a peer is to find; first is an image on production, undo for afterwards.
func (s *site) prepare(ctx context.Context, want state, p peer, sides [2]string, first string) (undo func() error, err error) {
	undo = func() error { return nil }
	switch want {
	case cold:
		return undo, errors.Join(s.forget(), s.chill())
	case hot:
		return undo, errors.Join(s.forget(), warm(ctx, sides[:]...))
	}
	if _, _, err := s.verify(ctx, sides, false, cmp.Or(p.hash, "blake3"), "0%"); err != nil || want == known {
		return undo, err
	}
	return touch(first)
}

// touch makes another image of the first of a forest; undo brings it back.
func touch(image string) (undo func() error, err error) {
	data, err := os.ReadFile(image)
	if err != nil {
		return nil, err
	}
	undo = func() error { return write(image, data, taken) }
	return undo, write(image, flip(bytes.Clone(data)), taken.Add(time.Hour))
}

// measure runs do, and notes who used the processors meanwhile.
func (s *site) measure(do func() (sample, error)) (sample, error) {
	before, err := readProcessors(0, pids(s.sshds))
	if err != nil {
		return sample{}, err
	}
	done, err := do()
	if err != nil {
		return sample{}, err
	}
	after, err := readProcessors(0, pids(s.sshds))
	done.spend(before, after)
	return done, err
}
