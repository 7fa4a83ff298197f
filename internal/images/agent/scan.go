package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rehearsal/internal/images/content"
	"rehearsal/internal/images/index"
	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
)

const (
	// readers is how many files are read at once. Measured on two cores beside a reader of production's: its p99 grew
	// 1.5 times with 4, 6.8 times with 16 that did not give way.
	readers = 4
	// walkers is how many folders are listed at once; with cold metadata the disk wants a queue, and 8 fill it.
	walkers = 8
	// ahead is how many chunks may wait for their files to be read, so that the readers have work while one of them
	// reads a large file.
	ahead = 128
	// syncEvery is how much reading a crash of the host may cost.
	syncEvery = 5 * time.Second
	// tell is how often the runner hears how far we are.
	tell = 500 * time.Millisecond
)

// scan is the state of a tree on its way to the runner and into the index.
type scan struct {
	wire.ScanRequest
	conn    *wire.Conn
	root    *tree.Root
	old     *index.Reader // nil where there is none
	new     *index.Writer
	policy  policy
	jobs    chan job
	order   chan *batch // as the chunks were walked
	folders *folders
	notices []wire.Notice
	noticed int // bytes of them

	files, bytes, readFiles, readBytes, expected atomic.Int64

	ignored, special, postponed int64
}

// batch is a chunk and what becomes of its entries.
type batch struct {
	*tree.Chunk
	entries []index.Entry
	left    atomic.Int32  // jobs that have not been done, and the walk itself
	done    chan struct{} // closed when none is left
}

// job is a file to be read.
type job struct {
	*batch
	i   int
	old expectation
}

func (a *agent) scan(ctx context.Context, payload []byte) (err error) {
	s := &scan{conn: a.conn, jobs: make(chan job, 256), order: make(chan *batch, ahead)}
	if s.ScanRequest, err = wire.Decode[wire.ScanRequest](payload); err != nil {
		return err
	}
	if s.Version != wire.Version {
		return &wire.Failure{Reason: wire.Old, Message: fmt.Sprintf("the agent speaks version %d, the runner %d", wire.Version, s.Version)}
	}
	if s.root, err = openRoot(s.Root); err != nil {
		return err
	}
	defer s.root.Close()
	unlock, err := lock(s.State)
	if err != nil {
		return err
	}
	defer unlock()
	s.Ignore = append(s.Ignore, tree.Drafts)
	if err := s.open(index.Header{Root: s.Root, Algorithm: s.Algorithm}); err != nil {
		return err
	}
	summary, err := s.run(ctx)
	if err != nil {
		_ = s.new.Close() // what it could not write, it said before
		if reason(err) == wire.DiskFull {
			err = &wire.Failure{Reason: wire.DiskFull, Path: s.State, Message: "writing the index: " + plain(err)}
		}
		return err
	}
	totals, err := s.new.Seal()
	if err == nil {
		err = s.forget()
	}
	if err != nil {
		return &wire.Failure{Reason: reason(err), Path: s.State, Message: "writing the index: " + err.Error()}
	}
	if len(totals.Ages) > 0 {
		summary.Oldest = time.Unix(int64(totals.Ages[0].Read), 0)
	}
	return a.conn.WriteJSON(wire.Totals, summary)
}

func openRoot(path string) (*tree.Root, error) {
	root, err := tree.OpenRoot(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &wire.Failure{Reason: wire.NoRoot, Path: path, Message: "there is no such folder"}
	case errors.Is(err, unix.ENOTDIR):
		return nil, &wire.Failure{Reason: wire.NotFolder, Path: path, Message: "it is not a folder"}
	case errors.Is(err, fs.ErrPermission):
		return nil, &wire.Failure{Reason: wire.Denied, Path: path, Message: plain(err)}
	}
	return root, err
}

// lock makes this agent the only one that works on the index in state, until it ends or unlock is called.
func lock(state string) (unlock func(), err error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, &wire.Failure{Reason: reason(err), Path: state, Message: err.Error()}
	}
	f, err := os.OpenFile(filepath.Join(state, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, &wire.Failure{Reason: reason(err), Path: state, Message: err.Error()}
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &wire.Failure{Reason: wire.Locked, Path: state, Message: "another run works on this index"}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func reason(err error) wire.Reason {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return wire.DiskFull
	}
	return wire.NoState
}

// open opens the index of the last run, with what an interrupted one has added, and begins a new one.
func (s *scan) open(header index.Header) error {
	hello := wire.Greeting{Version: wire.Version}
	resumed, err := index.Resume(s.State, header)
	if err != nil {
		return &wire.Failure{Reason: reason(err), Path: s.State, Message: "going on with an interrupted run: " + err.Error()}
	}
	hello.Resumed = resumed
	s.old, err = index.Open(s.State, header)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		hello.Index = err.Error()
	}
	var totals index.Totals
	if s.old != nil {
		totals, _ = s.old.Totals()
	}
	s.expected.Store(totals.Files)
	now := time.Now()
	began, err := s.began(now)
	if err != nil {
		return &wire.Failure{Reason: reason(err), Path: s.State, Message: "marking a full run: " + err.Error()}
	}
	s.policy = newPolicy(s.ScanRequest, totals, now, began)
	if s.new, err = index.Create(s.State, header); err != nil {
		return &wire.Failure{Reason: reason(err), Path: s.State, Message: "beginning the index: " + err.Error()}
	}
	hello.Clock = time.Now()
	return s.conn.WriteJSON(wire.Hello, hello)
}

// fullMark is the file in state whose mtime is when a full run began that is not complete.
const fullMark = "full"

// began is when this run began, or the full run that it goes on with: what was read since then is read.
func (s *scan) began(now time.Time) (time.Time, error) {
	if !s.Full {
		return now, nil
	}
	mark := filepath.Join(s.State, fullMark)
	info, err := os.Stat(mark)
	if err == nil {
		return info.ModTime(), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return now, err
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return now, err
	}
	return now, os.Chtimes(mark, now, now)
}

// forget ends a full run that was interrupted: this one is complete.
func (s *scan) forget() error {
	if err := os.Remove(filepath.Join(s.State, fullMark)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// run walks, reads and tells. A chunk passes three hands: the walk's, which compares its entries with the old index;
// the readers', in any order; and finish's, in the walk's order.
func (s *scan) run(ctx context.Context) (wire.Summary, error) {
	if s.old != nil {
		defer s.old.Close()
	}
	if s.old == nil || s.Full {
		// A thread that waits for the disk keeps one of the runtime's processors until its monitor notices, after 20 µs at best
		// and some 70 as kernels time it, of the 300 that a small file takes. With as many as there are cores, and 2 of those,
		// the disk had less than half of the readers' requests: a cold first run took 1.4 times as long.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + readers)
	}
	limit := content.NewLimit(s.Limit)
	stopTelling := s.tellProgress()
	defer stopTelling()
	if s.expected.Load() == 0 {
		counting, cancel := context.WithCancel(ctx)
		defer cancel()
		go s.count(counting)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(s.order)
		defer close(s.jobs)
		return s.root.Walk(ctx, tree.Options{Workers: walkers, Ignore: s.Ignore}, func(c *tree.Chunk) error { return s.visit(ctx, c) })
	})
	for range readers {
		g.Go(func() error { return s.read(ctx, limit) })
	}
	g.Go(func() error { return s.finish(ctx) })
	if err := g.Wait(); err != nil {
		return wire.Summary{}, err
	}
	stopTelling()
	damaged := 0
	if s.old != nil {
		damaged = s.old.Damaged()
	}
	return wire.Summary{
		Count: s.counted(), Folders: s.folders.sent, Sum: s.folders.total,
		Ignored: s.ignored, Special: s.special, Postponed: s.postponed, Damaged: damaged,
	}, nil
}

// count learns how many files there are, for the time left, faster than they can be read.
func (s *scan) count(ctx context.Context) {
	var files atomic.Int64
	root, err := tree.OpenRoot(s.Root)
	if err != nil {
		return
	}
	defer root.Close()
	if root.Count(ctx, tree.Options{Workers: 1, Ignore: s.Ignore}, &files) == nil {
		s.expected.Store(files.Load())
	}
}

func (s *scan) counted() wire.Count {
	return wire.Count{
		Files: s.files.Load(), Bytes: s.bytes.Load(),
		ReadFiles: s.readFiles.Load(), ReadBytes: s.readBytes.Load(), Expected: s.expected.Load(),
	}
}

// tellProgress tells the runner how far we are, until stop is called. That a word of it is lost is no matter: the
// conversation's next one fails.
func (s *scan) tellProgress() (stop func()) {
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(tell)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = s.conn.WriteJSON(wire.Progress, s.counted())
			case <-stopping:
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stopping)
		<-stopped
	})
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// visit decides what of a chunk is to be read, and hands it on.
func (s *scan) visit(ctx context.Context, c *tree.Chunk) error {
	b := batches.Get().(*batch)
	b.Chunk, b.entries, b.done = c, slices.Grow(b.entries[:0], len(c.Entries)), nil
	var jobs []job
	for i := range c.Entries {
		e := &c.Entries[i]
		var old *index.Entry
		if s.old != nil {
			old = s.old.Find(c.Path, e.Name)
		}
		entry, read := s.policy.decide(e, old)
		b.entries = append(b.entries, entry)
		if read {
			jobs = append(jobs, job{b, i, expect(old)})
		}
	}
	if len(jobs) > 0 {
		b.done = make(chan struct{})
		b.left.Store(int32(len(jobs)))
		// Inodes of a folder tend to lie on the disk in their order: 1.2 times as fast on a cold cache.
		slices.SortFunc(jobs, func(x, y job) int { return cmp.Compare(x.entries[x.i].Inode, y.entries[y.i].Inode) })
	}
	select {
	case s.order <- b:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, j := range jobs {
		select {
		case s.jobs <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// read is one of the readers.
func (s *scan) read(ctx context.Context, limit *content.Limit) error {
	r, err := content.NewReader(content.Options{Algorithm: s.Algorithm, Deep: s.Deep, Limit: limit,
		Heard: func(bytes int) { s.readBytes.Add(int64(bytes)) }})
	if err != nil {
		return err
	}
	for j := range s.jobs {
		entry := &j.entries[j.i]
		result, err := readEntry(ctx, r, j.Folder, entry.Kind, entry.Name)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			entry.Kind = gone
		case err != nil: // the second look says why
			entry.Flags &^= index.Known
		default:
			s.policy.learn(entry, result, j.old)
			s.readFiles.Add(1)
		}
		if j.left.Add(-1) == 0 {
			close(j.done)
		}
	}
	return nil
}

func readEntry(ctx context.Context, r *content.Reader, f *tree.Folder, kind tree.Kind, name []byte) (content.Result, error) {
	if kind == tree.Link {
		return r.Link(f, name)
	}
	return r.Read(ctx, f, name)
}

// finish takes the chunks in the walk's order, writes the new index and tells the runner.
func (s *scan) finish(ctx context.Context) error {
	s.folders = &folders{FolderWriter: wire.NewFolderWriter(s.conn), seed: s.Seed, side: s.Side}
	synced := time.Now()
	read := int64(0)
	for b := range s.order {
		if b.done != nil {
			select {
			case <-b.done:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := s.finishBatch(b); err != nil {
			return err
		}
		if time.Since(synced) > syncEvery {
			if now := s.readFiles.Load(); now != read {
				if err := s.new.Sync(); err != nil {
					return err
				}
				read = now
			}
			synced = time.Now()
			if err := s.folders.Flush(); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil { // the walk ended early
		return ctx.Err()
	}
	if err := s.folders.Flush(); err != nil {
		return err
	}
	return s.flushNotices()
}

func (s *scan) finishBatch(b *batch) error {
	if b.First {
		if err := s.new.Folder(b.Path); err != nil {
			return err
		}
		s.folders.begin(b.Names)
		s.ignored += int64(b.Ignored)
	}
	for i := range b.entries {
		if err := s.finishEntry(b, &b.entries[i]); err != nil {
			return err
		}
	}
	if b.Last {
		if b.Err != nil {
			s.folders.unequal()
			if err := s.notice(wire.Notice{Path: slices.Clone(b.Path), Folder: b.Err.Error()}); err != nil {
				return err
			}
		}
		if err := s.folders.end(b.Path); err != nil {
			return err
		}
	}
	b.Release()
	b.Chunk = nil
	batches.Put(b)
	return nil
}

func (s *scan) finishEntry(b *batch, e *index.Entry) error {
	switch e.Kind {
	case gone:
		return nil
	case tree.File:
		s.bytes.Add(e.Size)
	case tree.Pipe, tree.Socket, tree.Device:
		s.special++
	}
	s.files.Add(1)
	s.folders.add(e)
	if e.Flags&postponed != 0 {
		s.postponed += e.Size
		e.Flags &^= postponed
	}
	if e.Damage != 0 {
		if err := s.notice(wire.Notice{Path: tree.AppendPath(nil, b.Path, e.Name)}); err != nil {
			return err
		}
	}
	return s.new.Add(e)
}

func (s *scan) notice(n wire.Notice) error {
	s.notices = append(s.notices, n)
	s.noticed += len(n.Path) + len(n.Folder)
	if s.noticed < wire.Much {
		return nil
	}
	return s.flushNotices()
}

func (s *scan) flushNotices() error {
	if len(s.notices) == 0 {
		return nil
	}
	err := s.conn.WriteJSON(wire.Notices, s.notices)
	s.notices, s.noticed = s.notices[:0], 0
	return err
}
