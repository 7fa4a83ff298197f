package tree

import (
	"context"
	"sync"
	"sync/atomic"
)

// Options say how to walk.
type Options struct {
	Workers int      // folders, or chunks of a large one, that are looked at at once; 0 is 8, which are the fastest on a cold SSD and no slower than 2 on a warm one
	Ignore  []string // path.Match patterns: one without '/' is for names, of files and folders; one with '/' for whole relative paths
}

// Walk calls visit with every chunk of every folder, in the order of Compare, from this goroutine. A folder without
// files has a chunk too. visit must see to it that Release is called on each chunk, whatever it returns, once nobody needs
// it any more; chunksInUse may be in use at a time, and Walk waits for releases, so nobody may wait for later
// chunks to release one.
//
// A file or folder that vanishes during the walk is left out. What cannot be looked at comes with an error in its Entry
// or Chunk; a folder that became something else since its parent was listed is a chunk with ENOTDIR or ELOOP. Walk itself
// fails with the error of visit, at once; with that of ctx; or with path.ErrBadPattern.
func (r *Root) Walk(ctx context.Context, o Options, visit func(*Chunk) error) error {
	w, err := newWalk(r, o)
	if err != nil {
		return err
	}
	return w.run(ctx, o.Workers, visit)
}

// Count adds to files what Walk will find, by names alone: an estimate that takes a quarter of the walk's time. What
// cannot be listed is not counted.
func (r *Root) Count(ctx context.Context, o Options, files *atomic.Int64) error {
	w, err := newWalk(r, o)
	if err != nil {
		return err
	}
	w.count = files
	return w.run(ctx, o.Workers, nil)
}

const (
	// chunksInUse bounds memory (14 MB) and open folders, together with the number of workers.
	chunksInUse = 128
	// largeFolder is the number of names above which a folder is listed only when it is the next to be visited: of
	// such a listing, there must be one at a time.
	largeFolder = 64 << 10
)

// walk is the state of one Walk. Its list holds, in the order of the walk and from the first place not yet visited,
// slots, each a unit of work that a worker took, and sources, each of more units. Workers take the first unit of the
// first source. So whatever is in use or done stands behind the chunk that is visited next or is that chunk, and there
// is always a place left for it: it cannot wait for itself.
type walk struct {
	root    *Root
	ignore  ignore
	count   *atomic.Int64
	stopped atomic.Bool

	mu    sync.Mutex
	work  sync.Cond // a unit may be taken, or all is done
	ready sync.Cond // the first slot is done, or stopped
	first *node
	inUse int
	free  []*Chunk
}

// node is a slot, or with a source, one.
type node struct {
	next  *node
	unit  unit
	done  bool
	chunk *Chunk // of a slot that is done; nil where the folder is gone
	*source
}

// unit is a folder to list, or where files is not nil, files of it to look at.
type unit struct {
	path     []byte
	open     *Folder
	files    *names
	from, to int
	err      error
}

// source is what is left to do in a listed folder: first its files, for whose sake it stays open, then its subfolders.
// One that is later has not been listed.
type source struct {
	path    []byte
	later   bool
	open    *Folder
	files   *names
	file    int
	err     error
	folders names
	folder  int
}

func newWalk(r *Root, o Options) (*walk, error) {
	ig, err := newIgnore(o.Ignore)
	w := &walk{root: r, ignore: ig, first: &node{source: &source{later: true}}}
	w.work.L, w.ready.L = &w.mu, &w.mu
	return w, err
}

func (w *walk) run(ctx context.Context, workers int, visit func(*Chunk) error) error {
	if workers <= 0 {
		workers = 8
	}
	defer context.AfterFunc(ctx, w.stop)()
	var running sync.WaitGroup
	defer w.discard()
	defer running.Wait()
	defer w.stop()
	for range workers {
		running.Go(w.worker)
	}
	for {
		c, more := w.next()
		switch {
		case !more:
			return ctx.Err()
		case c == nil:
			continue
		}
		if err := visit(c); err != nil {
			return err
		}
	}
}

// next takes the first slot off the list once it is done, and returns its chunk, if it has one. more is false at the
// end, and when the walk was stopped.
func (w *walk) next() (c *Chunk, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.first != nil && !w.first.done && !w.stopped.Load() {
		w.ready.Wait()
	}
	if w.first == nil || w.stopped.Load() {
		return nil, false
	}
	c = w.first.chunk
	w.first = w.first.next
	if c == nil {
		w.inUse--
	}
	if w.first == nil {
		w.work.Broadcast()
	} else {
		w.work.Signal()
	}
	return c, true
}

func (w *walk) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped.Store(true)
	w.work.Broadcast()
	w.ready.Broadcast()
}

// discard releases what was not visited.
func (w *walk) discard() {
	for n := w.first; n != nil; n = n.next {
		if n.chunk != nil {
			n.chunk.Release()
		}
		if n.source != nil && n.open != nil {
			n.open.Close()
		}
	}
}

// take waits for a unit of work and makes a slot for it. It is nil at the end.
func (w *walk) take() *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.first != nil && !w.stopped.Load() {
		before, n := w.firstSource()
		if n == nil || w.inUse == chunksInUse || n.later && before != nil {
			w.work.Wait()
			continue
		}
		slot := &node{next: n}
		var more bool
		if slot.unit, more = n.source.next(); !more {
			slot.next = n.next
		}
		if before == nil {
			w.first = slot
		} else {
			before.next = slot
		}
		if w.inUse++; w.inUse < chunksInUse {
			w.work.Signal()
		}
		return slot
	}
	return nil
}

func (w *walk) firstSource() (before, n *node) {
	for n = w.first; n != nil && n.source == nil; n = n.next {
		before = n
	}
	return before, n
}

// next is the first unit of work that is left; more, whether others are.
func (s *source) next() (u unit, more bool) {
	if s.later {
		return unit{path: s.path}, false
	}
	if s.files == nil {
		u = unit{path: AppendPath(nil, s.path, s.folders.at(s.folder))}
		s.folder++
		return u, s.folder < s.folders.len()
	}
	u = unit{path: s.path, open: s.open, files: s.files, from: s.file, to: min(s.file+ChunkSize, s.files.len())}
	if s.file = u.to; s.file < s.files.len() {
		s.open.uses.Add(1)
		return u, true
	}
	u.err = s.err
	s.open, s.files = nil, nil // the last unit has them
	return u, s.folders.len() > 0
}

// finish puts what came of a unit in its slot, and what is left to do behind it.
func (w *walk) finish(slot *node, c *Chunk, left *source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slot.chunk, slot.done, slot.unit = c, true, unit{}
	if left != nil {
		slot.next = &node{next: slot.next, source: left}
		w.work.Signal()
	}
	if slot == w.first {
		w.ready.Signal()
	}
}

// putOff makes a slot a source again: of the whole folder, once it is the next to be visited.
func (w *walk) putOff(slot *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slot.source = &source{path: slot.unit.path, later: true}
	w.inUse--
	w.work.Signal()
}

// chunk is an empty one.
func (w *walk) chunk(path []byte) *Chunk {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &Chunk{}
	if last := len(w.free) - 1; last >= 0 {
		c, w.free = w.free[last], w.free[:last]
	}
	c.walk, c.Path = w, path
	return c
}

func (w *walk) recycle(c *Chunk) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free = append(w.free, c)
	w.inUse--
	w.work.Signal()
}
