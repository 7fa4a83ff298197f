package images

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/images/index"
	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// copiers is how many files are copied at once: one SSH channel carries 2 MiB a round trip.
const copiers = 4

// Repair compares the stores as Verify does, and copies what is certain: files that are missing on the backup, and those
// whose bytes or structure tell which side is wrong. Nothing is deleted, a file that is replaced is kept in the host's
// state folder below replaced/DATE, and what nothing tells about stays as it is. With dryRun it prints what it would do.
//
// An error has code Differ where something was left, Incomplete where something could not be compared. A cancelled
// copy leaves the file as it was.
func Repair(ctx context.Context, t *run.Target, stores []*inventory.ImageStore, dryRun bool) error {
	all, err := compare(ctx, t, stores, Options{})
	if err != nil {
		return err
	}
	var orders []*order
	left, n, beyond := []mention{}, counts{}, int64(0)
	for _, c := range all {
		for _, f := range c.found.kept {
			if o := c.order(f); o != nil {
				orders = append(orders, o)
			} else {
				n[f.Kind]++
				left = append(left, c.mention(f))
			}
		}
		beyond += c.found.beyond()
	}
	tell(t, orders, left)
	if dryRun {
		t.Printf("\nnothing was copied; `mage images:repair` does it")
		return nil
	}
	var refused []error
	if len(orders) > 0 {
		err = t.Step(ctx, "copy", func(ctx context.Context, s *run.Step) (err error) {
			refused, err = carryOut(ctx, s, orders)
			return err
		})
		for _, why := range refused {
			t.Warn("%v", why)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case len(refused) > 0:
		return run.Fail(run.Differ, "run it again: what changed since is compared anew", "%d of %d images could not be copied; the first: %w",
			len(refused), len(orders), refused[0])
	case beyond > 0:
		return run.Fail(run.Differ, "run it again for the others", "%d more images differ than one run repairs", beyond)
	case n.discrepancies() > 0:
		return run.Fail(run.Differ, "decide by hand which side is right, copy it, and verify again", "nothing tells which side is right of what is left: %d", n.discrepancies())
	case n.unchecked() > 0:
		return run.Fail(run.Incomplete, "make them readable for our users on the hosts", "%d paths could not be compared", n.unchecked())
	}
	return nil
}

// order is a file to be copied.
type order struct {
	*comparison
	Finding
	from, to *peer
	put      wire.PutRequest
}

// order is how a finding is mended, or nil where nobody can be certain.
func (c *comparison) order(f Finding) *order {
	right, wrong := f.Production, f.Backup
	from, to := c.production, c.backup
	switch healer := f.healer(); {
	case healer == Nobody || len(c.production) > 1 || len(c.backup) > 1: // with several folders nobody knows which one to write to
		return nil
	case healer == Backup:
		right, wrong, from, to = wrong, right, to, from
	}
	o := &order{comparison: c, Finding: f, from: from[0], to: to[0]}
	o.put = wire.PutRequest{
		Root: o.to.root, Path: f.Path, Algorithm: c.Hash, Hash: right.Hash,
		Absent: wrong.State == wire.Absent, Replaces: wrong.Hash,
		Keep: o.to.host.State("replaced", time.Now().UTC().Format("2006-01-02T150405Z"), c.Name, path.Clean("/"+string(f.Path))),
	}
	return o
}

// healer is the side whose copy is certain to be right.
func (f *Finding) healer() Side {
	p, b := f.Production, f.Backup
	sound := func(s wire.Seen) bool {
		return s.State == wire.Present && s.Kind == tree.File && s.Flags&index.Known != 0 && s.Damage == 0 && s.Flags&index.Rotted == 0
	}
	sameTime := p.Mtime/int64(time.Second) == b.Mtime/int64(time.Second)
	switch {
	case f.Kind == Missing && sound(p):
		return Production
	case f.Kind != Different && f.Kind != Damaged || p.Kind != b.Kind || p.Kind != tree.File:
		return Nobody
	case f.Kind == Damaged && f.Side == Backup && sound(p):
		return Production
	case f.Kind == Damaged && f.Side == Production && sound(b) && sameTime: // else production's is another upload
		return Backup
	case f.Kind == Different && f.Side == Backup && sound(p) && b.Was == p.Hash:
		return Production
	case f.Kind == Different && f.Side == Production && sound(b) && p.Was == b.Hash:
		return Backup
	}
	return Nobody
}

// tell prints the plan and sets the fields of the JSON object.
func tell(t *run.Target, orders []*order, left []mention) {
	type copied struct {
		Store string `json:"store"`
		Path  string `json:"path"`
		Kind  Kind   `json:"kind"`
		From  Side   `json:"from"`
		To    Side   `json:"to"`
		Why   string `json:"why"`
	}
	copies := []copied{}
	var rows [][]string
	for _, o := range orders {
		copies = append(copies, copied{o.Name, name(o.Path), o.Kind, o.from.side, o.to.side, o.Why})
		rows = append(rows, []string{"  copy to " + string(o.to.side), name(o.Path), string(o.Kind) + ": " + o.Why})
	}
	for _, m := range left {
		rows = append(rows, []string{"  leave", m.Path, string(m.Kind) + ": " + m.Why})
	}
	t.Set("copies", copies)
	t.Set("left", left)
	t.Printf("\n%d to copy, %d to leave", len(orders), len(left))
	t.Table(nil, rows[:min(len(rows), 10*shown)])
	if more := len(rows) - 10*shown; more > 0 {
		t.Printf("  and %d more", more)
	}
}

// carryOut copies, several files at once, each over channels of its own. What cannot be copied for a reason of its own is
// refused, and does not keep the others.
func carryOut(ctx context.Context, s *run.Step, orders []*order) (refused []error, err error) {
	var bytes int64
	for _, o := range orders {
		bytes += o.size()
	}
	s.Expect(bytes)
	g, ctx := errgroup.WithContext(ctx)
	next := make(chan *order)
	g.Go(func() error {
		defer close(next)
		for _, o := range orders {
			select {
			case next <- o:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	var mu sync.Mutex
	done := 0
	for range min(copiers, len(orders)) {
		g.Go(func() error {
			c := copier{}
			defer c.close()
			for o := range next {
				err := c.copy(ctx, s, o)
				if err != nil {
					err = fmt.Errorf("copying %s from %s to %s: %w", name(o.Path), o.from, o.to, err)
				}
				if err != nil && !ofTheFile(err) {
					return err
				}
				mu.Lock()
				if done++; err != nil {
					refused = append(refused, err)
				}
				s.Count(done, len(orders), "files")
				mu.Unlock()
			}
			return nil
		})
	}
	return refused, g.Wait()
}

// ofTheFile tells whether an error is one that other files need not meet.
func ofTheFile(err error) bool {
	var f *wire.Failure
	return errors.As(err, &f) && (f.Reason == wire.Changed || f.Reason == wire.Other)
}

// copier is the agents that one of the copiers has started.
type copier map[*peer]*session

func (c copier) copy(ctx context.Context, s *run.Step, o *order) error {
	for _, p := range []*peer{o.from, o.to} {
		if c[p] == nil {
			c[p] = start(ctx, p.host, p.agent)
		}
	}
	err := o.carryOut(s, c[o.from], c[o.to])
	if err != nil { // one of the two may be in the middle of it
		c.close()
	}
	return err
}

func (c copier) close() {
	for p, s := range c {
		s.Close()
		delete(c, p)
	}
}

func (o *order) size() int64 {
	if o.from.side == Production {
		return o.Finding.Production.Size
	}
	return o.Finding.Backup.Size
}

// carryOut copies the file. The agent there reads what it has written before it gives it the name.
func (o *order) carryOut(s *run.Step, from, to *session) error {
	if err := from.WriteJSON(wire.Get, wire.GetRequest{Root: o.from.root, Path: o.Path}); err != nil {
		return err
	}
	if err := to.WriteJSON(wire.Put, o.put); err != nil {
		return err
	}
	got := false
	for {
		frame, payload, done, err := from.receive()
		if err != nil {
			return err
		}
		if done {
			break
		}
		switch frame {
		case wire.Data:
			s.Add(int64(len(payload)))
			err = to.Write(wire.Data, payload)
		case wire.Got:
			got = true
			err = to.Write(wire.End, slices.Clone(payload))
		}
		if err != nil {
			_, _, _, why := to.receive() // which knows why it takes no more
			return errors.Join(why, err)
		}
	}
	if !got {
		return wire.ErrCorrupt
	}
	for {
		if _, _, done, err := to.receive(); done || err != nil {
			return err
		}
	}
}
