package images

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
)

// differing compares the digests of both sides as they arrive, and returns the buckets that differ. A folder that one
// side does not have differs wherever the other has something.
func differing(production, backup []*peer) ([]wire.Bucket, error) {
	p, b := newMerge(production), newMerge(backup)
	if err := cmp.Or(p.advance(), b.advance()); err != nil {
		return nil, err
	}
	var wanted []wire.Bucket
	for p.ok || b.ok {
		var err error
		switch c := p.compare(b); {
		case c < 0:
			wanted = unequal(wanted, &p.folder, &wire.Folder{Sums: []uint64{0}})
			err = p.advance()
		case c > 0:
			wanted = unequal(wanted, &b.folder, &wire.Folder{Sums: []uint64{0}})
			err = b.advance()
		default:
			wanted = unequal(wanted, &p.folder, &b.folder)
			err = cmp.Or(p.advance(), b.advance())
		}
		if err != nil {
			return nil, err
		}
	}
	return wanted, nil
}

// unequal appends the buckets in which a and b differ, cut as finely as both are. The path is a's.
func unequal(to []wire.Bucket, a, b *wire.Folder) []wire.Bucket {
	bits := min(a.Bits, b.Bits)
	one, other := fold(a, bits), fold(b, bits)
	var path []byte
	for i := range one {
		if one[i] == other[i] {
			continue
		}
		if path == nil {
			path = append([]byte{}, a.Path...)
		}
		to = append(to, wire.Bucket{Path: path, Bits: bits, Number: uint32(i)})
	}
	return to
}

// fold makes one sum of neighbours, until there are 1<<bits of them.
func fold(f *wire.Folder, bits uint8) []uint64 {
	sums := f.Sums
	for n := f.Bits; n > bits; n-- {
		half := make([]uint64, len(sums)/2)
		for i := range half {
			half[i] = sums[2*i] + sums[2*i+1]
		}
		sums = half
	}
	return sums
}

// merge is the folders of one side, whose peers may each have a share of a folder.
type merge struct {
	peers  []*peer
	heads  []wire.Folder // the next folder of each peer
	live   []bool        // whether it has one
	folder wire.Folder   // the current one
	ok     bool          // whether there is one
	begun  bool
}

func newMerge(peers []*peer) *merge {
	return &merge{peers: peers, heads: make([]wire.Folder, len(peers)), live: make([]bool, len(peers))}
}

// compare orders the current folders of two sides; a side that has ended comes last.
func (m *merge) compare(other *merge) int {
	switch {
	case !m.ok:
		return 1
	case !other.ok:
		return -1
	}
	return tree.Compare(m.folder.Path, other.folder.Path)
}

// advance goes to the next folder.
func (m *merge) advance() (err error) {
	for i, p := range m.peers {
		if m.begun && (!m.live[i] || !m.ok || !bytes.Equal(m.heads[i].Path, m.folder.Path)) {
			continue
		}
		if m.live[i], err = p.folders.next(&m.heads[i]); err != nil {
			return err
		}
	}
	m.begun, m.ok = true, false
	for i := range m.heads {
		if m.live[i] {
			m.take(&m.heads[i])
		}
	}
	return nil
}

// take makes f the current folder if it is the first, or a part of it if it is the same.
func (m *merge) take(f *wire.Folder) {
	c := -1
	if m.ok {
		c = tree.Compare(f.Path, m.folder.Path)
	}
	switch {
	case c < 0:
		m.folder = wire.Folder{Path: append(m.folder.Path[:0], f.Path...), Bits: f.Bits, Sums: slices.Clone(f.Sums)}
		m.ok = true
	case c == 0:
		bits := min(f.Bits, m.folder.Bits)
		sums := fold(&m.folder, bits)
		for i, s := range fold(f, bits) {
			sums[i] += s
		}
		m.folder.Bits, m.folder.Sums = bits, sums
	}
}

// pair is a path as the indexes of both sides know it. It is zero, with State Absent, where a side has none.
type pair struct {
	path               []byte
	production, backup wire.Seen
	unequal            bool // the indexes say so
}

// listed is what a peer lists, as it comes.
type listed struct {
	seen chan wire.Seen
	head *wire.Seen
}

// source calls each for what it knows of, in the order of tree.ComparePaths.
type source func(each func(wire.Seen) error) error

// list has all peers list the buckets at once, and calls each for every path in them, in order.
func list(ctx context.Context, production, backup []*peer, buckets []wire.Bucket, each func(pair) error) error {
	if len(buckets) == 0 {
		return nil
	}
	lists := func(peers []*peer) (all []source) {
		for _, p := range peers {
			all = append(all, p.list(ctx, buckets))
		}
		return all
	}
	return sideBySide(ctx, lists(production), lists(backup), each)
}

// sideBySide listens to all sources at once, and calls each for every path, in order, with what each side knows of it.
func sideBySide(ctx context.Context, production, backup []source, each func(pair) error) error {
	g, ctx := errgroup.WithContext(ctx)
	open := func(sources []source) (all []*listed) {
		for _, list := range sources {
			l := &listed{seen: make(chan wire.Seen, 64)}
			all = append(all, l)
			g.Go(func() error {
				err := list(func(s wire.Seen) error {
					select {
					case l.seen <- s:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				if err == nil { // else the end of the list would be taken for the end of the folder
					close(l.seen)
				}
				return err
			})
		}
		return all
	}
	sides := [2][]*listed{open(production), open(backup)}
	g.Go(func() error { return mergeLists(ctx, sides, each) })
	return g.Wait()
}

func mergeLists(ctx context.Context, sides [2][]*listed, each func(pair) error) error {
	advance := func(l *listed) error {
		select {
		case s, ok := <-l.seen:
			l.head = nil
			if ok {
				l.head = &s
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, side := range sides {
		for _, l := range side {
			if err := advance(l); err != nil {
				return err
			}
		}
	}
	for {
		var path []byte
		for _, side := range sides {
			for _, l := range side {
				if l.head != nil && (path == nil || tree.ComparePaths(l.head.Path, path) < 0) {
					path = l.head.Path
				}
			}
		}
		if path == nil {
			return nil
		}
		found := [2]wire.Seen{absent, absent}
		for i, side := range sides {
			for _, l := range side {
				if l.head == nil || !bytes.Equal(l.head.Path, path) {
					continue
				}
				found[i] = together(found[i], *l.head)
				if err := advance(l); err != nil {
					return err
				}
			}
		}
		p := pair{path: path, production: found[0], backup: found[1]}
		p.unequal = !same(p.production, p.backup)
		if err := each(p); err != nil {
			return err
		}
	}
}

// together is what one side knows of a path that two of its folders may have. Different copies are a side that cannot
// be compared: nobody knows which one is served.
func together(a, b wire.Seen) wire.Seen {
	switch {
	case a.State == wire.Absent:
		return b
	case b.State == wire.Absent || same(a, b):
		return a
	}
	a.State, a.Text = wire.Unreadable, "two folders of this side have it, and differ"
	return a
}
