package images

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/images/index"
	"rehearsal/internal/images/wire"
	"rehearsal/internal/run"
)

// perLook is how many paths are looked at again at once.
const perLook = 256

// settle lists what differs, has both sides look at it once more, and judges.
func settle(ctx context.Context, s *run.Step, all []*comparison) error {
	g, ctx := errgroup.WithContext(ctx)
	var looked atomic.Int64
	for _, c := range all {
		g.Go(func() error {
			again := func(batch []pair) error {
				s.Detail("%d paths", looked.Add(int64(len(batch))))
				return c.settle(ctx, batch)
			}
			if err := c.settleDiffering(ctx, again); err != nil {
				return err
			}
			return c.settleNotices(again)
		})
	}
	return g.Wait()
}

// settleDiffering settles what the digests have found.
func (c *comparison) settleDiffering(ctx context.Context, again func([]pair) error) error {
	for _, p := range c.peers() {
		for _, n := range p.notices {
			if n.Folder == "" {
				c.damaged[string(n.Path)] = true
			}
		}
	}
	var batch []pair
	err := list(ctx, c.production, c.backup, c.differing, func(p pair) error {
		if !p.unequal && p.production.Damage == 0 {
			return nil
		}
		delete(c.damaged, string(p.path))
		batch = append(batch, p)
		if len(batch) < perLook {
			return nil
		}
		defer func() { batch = batch[:0] }()
		return again(batch)
	})
	if err != nil {
		return err
	}
	return again(batch)
}

// settleNotices judges the folders that could not be listed, and the damaged files that are alike on both sides.
func (c *comparison) settleNotices(again func([]pair) error) error {
	for _, p := range c.peers() {
		for _, n := range p.notices {
			if n.Folder == "" {
				continue
			}
			if err := c.found.add(Finding{Path: append(n.Path, '/'), Kind: Unreadable, Side: p.side, Why: n.Folder}); err != nil {
				return err
			}
		}
	}
	var batch []pair
	for path := range c.damaged {
		batch = append(batch, pair{path: []byte(path), production: wire.Seen{State: wire.Present}, backup: wire.Seen{State: wire.Present}})
	}
	for part := range slices.Chunk(batch, perLook) {
		if err := again(part); err != nil {
			return err
		}
	}
	return nil
}

// settle has all peers look at the paths, and at their bytes where both sides have them.
func (c *comparison) settle(ctx context.Context, batch []pair) error {
	var onlyStat, read []pair
	for _, p := range batch {
		if p.production.State == wire.Absent || p.backup.State == wire.Absent {
			onlyStat = append(onlyStat, p)
		} else {
			read = append(read, p)
		}
	}
	var found []Finding
	for _, part := range []struct {
		pairs []pair
		read  bool
	}{{onlyStat, false}, {read, true}} {
		some, err := c.look(ctx, part.pairs, part.read)
		if err != nil {
			return err
		}
		found = append(found, some...)
	}
	return c.found.add(found...)
}

func (c *comparison) look(ctx context.Context, pairs []pair, read bool) (found []Finding, err error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	req := wire.LookRequest{Algorithm: c.Hash, Deep: c.Deep, Limit: c.ReadLimit, Read: read}
	for _, p := range pairs {
		req.Paths = append(req.Paths, p.path)
	}
	g, looking := errgroup.WithContext(ctx)
	answers := make([][]wire.Seen, len(c.peers()))
	for i, p := range c.peers() {
		g.Go(func() (err error) {
			answers[i], err = p.look(looking, req)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, was := range pairs {
		now := [2]wire.Seen{absent, absent}
		for j, a := range answers {
			side := 0
			if j >= len(c.production) {
				side = 1
			}
			now[side] = together(now[side], a[i])
		}
		remember(&now[0], was.production)
		remember(&now[1], was.backup)
		if f := judge(was.path, now[0], now[1], c.times()); f.Kind != Identical {
			f.counted = was.production.State == wire.Present
			found = append(found, f)
		}
	}
	return found, nil
}

// remember adds what the index knows and a look cannot see: what the bytes are where they were not read, and what they
// were before.
func remember(now *wire.Seen, was wire.Seen) {
	if now.State != wire.Present || was.Flags&index.Known == 0 {
		return
	}
	if now.Flags&index.Known == 0 && now.Kind == was.Kind && now.Size == was.Size && now.Mtime == was.Mtime {
		now.Flags, now.Hash, now.Damage = now.Flags|index.Known, was.Hash, was.Damage
	}
	if was.Flags&index.Rotted != 0 && now.Hash == was.Hash {
		now.Flags |= index.Rotted
		now.Was = was.Was
	}
}

func (c *comparison) times() times {
	now := time.Now()
	return times{production: now.Add(c.production[0].skew), backup: now.Add(c.backup[0].skew), lag: c.MaxLag}
}
