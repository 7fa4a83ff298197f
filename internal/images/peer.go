package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"rehearsal/internal/deploy"
	"rehearsal/internal/host"
	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// peer is one folder of one side, and what its agents say of it.
type peer struct {
	side  Side
	at    inventory.Tree
	root  string // at's path, absolute
	host  *host.Host
	agent *deploy.Agent
	life  context.Context // of the agents, which outlive the steps
	warn  func(format string, args ...any)

	scanner *session // has scanned, and lists
	looker  *session
	store   string
	request wire.ScanRequest

	folders *queue
	greeted chan struct{} // closed when an agent has begun to walk
	began   time.Time     // when that was
	notices []wire.Notice
	hello   wire.Greeting
	skew    time.Duration // how far the host's clock is ahead of ours
	summary wire.Summary
	count   atomic.Pointer[wire.Count]
	wan     int64 // bytes of sessions that have ended
}

func (p *peer) String() string { return fmt.Sprintf("%s:%s", p.host.Name(), p.root) }

// bytes is how much went over the line.
func (p *peer) bytes() int64 {
	n := p.wan
	for _, s := range []*session{p.scanner, p.looker} {
		if s != nil {
			n += s.Bytes()
		}
	}
	return n
}

func (p *peer) close() {
	for _, s := range []*session{p.scanner, p.looker} {
		if s != nil {
			s.Close()
		}
	}
}

// request is what the peers of a store are asked for.
func request(store *inventory.ImageStore, o Options, seed uint64) wire.ScanRequest {
	return wire.ScanRequest{
		Version: wire.Version, Algorithm: store.Hash, Seed: seed, Side: rand.Uint64(), Reread: store.Reread, Full: o.Full, Deep: o.Deep,
		Limit: store.ReadLimit, Ignore: store.Ignore,
	}
}

// begin has the peer scanned on its host, from now on.
func (p *peer) begin(w *walks, h *host.Host, agent *deploy.Agent) {
	p.host, p.agent, p.root = h, agent, h.Path(p.at.Path)
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(p.root))
	p.request.Root, p.request.State = p.root, h.State("images", fmt.Sprintf("%s-%08x", p.store, sum.Sum32()))
	w.Go(func() error { return p.scan(w.ctx) })
}

// wait returns when an agent walks, or ctx has ended.
func (p *peer) wait(ctx context.Context) error {
	select {
	case <-p.greeted:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	// attempts is how often is tried what an agent or a line was lost for before the run gives up.
	attempts = 6
	// backoff is the wait before the second attempt; it doubles.
	backoff = time.Second
)

// scan has the peer walked and read, by an agent that is put there where it is missing. A line that is cut and an agent
// that is killed cost what was read in the last seconds: the agent goes on where its index ends, and the digests that were
// heard before are passed over.
func (p *peer) scan(ctx context.Context) (err error) {
	defer func() { p.folders.end(err) }()
	err = p.again(ctx, func() error { return p.scanOnce(ctx) })
	if !p.agent.Missing(err) {
		return err
	}
	if err := p.agent.Put(ctx); err != nil {
		return err
	}
	return p.again(ctx, func() error { return p.scanOnce(ctx) })
}

// again does what may lose its agent or its line, until it has not.
func (p *peer) again(ctx context.Context, do func() error) error {
	for attempt := 1; ; attempt++ {
		err := do()
		var failed *wire.Failure
		locked := attempt > 1 && errors.As(err, &failed) && failed.Reason == wire.Locked // by the agent that was lost
		if err == nil || ctx.Err() != nil || attempt == attempts || !locked && !lost(err) {
			return err
		}
		wait := backoff << (attempt - 1)
		p.warn("%s: %v; going on in %s", p, err, run.Duration(wait))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lost tells whether an agent ended without an answer, or the line to it.
func lost(err error) bool {
	var exit *host.ExitError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &exit) && exit.Status > 128
}

// renew starts an agent in the place of s, which is nil or has ended.
func (p *peer) renew(s *session) *session {
	if s != nil {
		p.wan += s.Bytes()
		s.Close()
	}
	return start(p.life, p.host, p.agent)
}

func (p *peer) scanOnce(ctx context.Context) error {
	p.notices, p.summary = nil, wire.Summary{}
	p.scanner = p.renew(p.scanner)
	scanner := p.scanner
	stop := context.AfterFunc(ctx, scanner.Close)
	defer stop()
	asked := time.Now()
	if err := p.scanner.WriteJSON(wire.Scan, p.request); err != nil {
		_, _, _, why := p.scanner.receive() // which knows why it takes nothing
		return errors.Join(why, err)
	}
	passing := p.folders.again()
	var heard tally
	for {
		frame, payload, done, err := p.scanner.receive()
		if err != nil {
			return err
		}
		if done {
			return heard.holds(p)
		}
		switch frame {
		case wire.Hello:
			if p.hello, err = wire.Decode[wire.Greeting](payload); err == nil {
				p.skew = skew(p.hello.Clock, asked, time.Now())
				p.greet()
			}
		case wire.Progress:
			var c wire.Count
			if c, err = wire.Decode[wire.Count](payload); err == nil {
				p.count.Store(&c)
			}
		case wire.Digests:
			err = p.folders.add(payload, passing, &heard)
		case wire.Notices:
			var more []wire.Notice
			more, err = wire.Decode[[]wire.Notice](payload)
			p.notices = append(p.notices, more...)
		case wire.Totals:
			p.summary, err = wire.Decode[wire.Summary](payload)
			p.count.Store(&p.summary.Count)
			heard.total = true
		default:
			err = fmt.Errorf("%w: a frame %q within the answer to a scan", wire.ErrCorrupt, frame)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
}

// greet says that an agent has begun. It may be not the first one.
func (p *peer) greet() {
	select {
	case <-p.greeted:
	default:
		p.began = time.Now()
		close(p.greeted)
	}
}

// skew is how far at least a clock is ahead of ours that was read between asked and heard; below 0 it is behind.
func skew(clock, asked, heard time.Time) time.Duration {
	if clock.Before(asked) {
		return clock.Sub(asked)
	}
	return max(0, clock.Sub(heard))
}

// tally is what was heard of a scan's answer, to be held against its end.
type tally struct {
	folders int64
	sum     uint64
	total   bool
}

func (h *tally) holds(p *peer) error {
	if !h.total || h.folders != p.summary.Folders || h.sum != p.summary.Sum {
		return fmt.Errorf("%s: %w: %d folders were heard of, %d were sent", p, wire.ErrCorrupt, h.folders, p.summary.Folders)
	}
	return nil
}

// queue holds the digests of a peer until the other side's are there, packed as they came: some 20 bytes a folder.
type queue struct {
	mu     sync.Mutex
	more   sync.Cond // a frame, or the end
	frames []queued
	ended  bool
	err    error
	last   []byte // the folder that was heard of last
	any    bool

	reader *wire.FolderReader // of the frame that is being read; the comparison's
}

// queued is a frame, of which the first records are passed over.
type queued struct {
	payload []byte
	pass    int
}

func newQueue() *queue {
	q := &queue{}
	q.more.L = &q.mu
	return q
}

// again begins the answer anew: what was heard before is passed over. It returns up to where, nil for nowhere.
func (q *queue) again() []byte {
	if !q.any {
		return nil
	}
	return append([]byte{}, q.last...)
}

// add takes a frame, whose records up to the folder passing have been heard before.
func (q *queue) add(payload []byte, passing []byte, heard *tally) error {
	r := wire.NewFolderReader(payload)
	pass := 0
	var f wire.Folder
	for r.Next(&f) {
		heard.folders++
		for _, s := range f.Sums {
			heard.sum += s
		}
		if passing != nil && tree.Compare(f.Path, passing) <= 0 {
			pass++
			continue
		}
		if q.any && tree.Compare(f.Path, q.last) <= 0 {
			return fmt.Errorf("%w: folders out of order", wire.ErrCorrupt)
		}
		q.last, q.any = append(q.last[:0], f.Path...), true
	}
	if r.Err() != nil {
		return r.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.frames = append(q.frames, queued{bytes.Clone(payload), pass})
	q.more.Signal()
	return nil
}

func (q *queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended, q.err = true, err
	q.more.Signal()
}

// next reads the next folder into f, and waits for it; false after the last.
func (q *queue) next(f *wire.Folder) (bool, error) {
	for {
		if q.reader != nil && q.reader.Next(f) {
			return true, nil
		}
		q.mu.Lock()
		for len(q.frames) == 0 && !q.ended {
			q.more.Wait()
		}
		if len(q.frames) == 0 {
			defer q.mu.Unlock()
			return false, q.err
		}
		frame := q.frames[0]
		q.frames[0] = queued{}
		q.frames = q.frames[1:]
		q.mu.Unlock()
		q.reader = wire.NewFolderReader(frame.payload)
		for range frame.pass {
			q.reader.Next(f)
		}
	}
}

// look looks at paths once more. The answers are in the order of the paths.
func (p *peer) look(ctx context.Context, req wire.LookRequest) (seen []wire.Seen, err error) {
	req.Root = p.root
	for paths := req.Paths; len(paths) > 0; {
		n, bytes := 0, 0
		for n < len(paths) && bytes < wire.Much {
			bytes += len(paths[n])
			n++
		}
		req.Paths, paths = paths[:n], paths[n:]
		err := p.again(ctx, func() error {
			some, err := p.lookOnce(ctx, req)
			if err == nil {
				seen = append(seen, some...)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return seen, nil
}

func (p *peer) lookOnce(ctx context.Context, req wire.LookRequest) ([]wire.Seen, error) {
	if p.looker == nil || p.looker.over() {
		p.looker = p.renew(p.looker)
	}
	looker := p.looker
	stop := context.AfterFunc(ctx, looker.Close)
	defer stop()
	if err := looker.WriteJSON(wire.Look, req); err != nil {
		_, _, _, why := looker.receive() // which knows why it takes nothing
		return nil, errors.Join(why, err)
	}
	var seen []wire.Seen
	err := looker.seen(func(one wire.Seen) error {
		seen = append(seen, one)
		return nil
	})
	if err == nil && len(seen) != len(req.Paths) {
		err = fmt.Errorf("%w: %d answers to %d paths", wire.ErrCorrupt, len(seen), len(req.Paths))
	}
	return seen, err
}

// list is the source of what is in the buckets.
func (p *peer) list(ctx context.Context, buckets []wire.Bucket) source {
	return p.indexed(ctx, wire.List, func(s *session) error {
		w := wire.NewBucketWriter(s.Conn)
		for _, b := range buckets {
			if err := w.Add(b); err != nil {
				return err
			}
		}
		return w.End()
	}, (*session).seen)
}

// names is the source of the paths of everything that was scanned.
func (p *peer) names(ctx context.Context) source {
	return p.indexed(ctx, wire.Name, func(*session) error { return nil }, func(s *session, each func(wire.Seen) error) error {
		return s.answer(func(payload []byte) error {
			r := wire.NewNameReader(payload)
			for path, ok := r.Next(); ok; path, ok = r.Next() {
				if err := each(wire.Seen{Path: path}); err != nil {
					return err
				}
			}
			return r.Err()
		})
	})
}

// indexed is a source of what the peer's index holds. What was heard before a line was lost is passed over.
func (p *peer) indexed(ctx context.Context, t wire.Type, ask func(*session) error, answer func(*session, func(wire.Seen) error) error) source {
	return func(each func(wire.Seen) error) error {
		var last []byte
		return p.again(ctx, func() error {
			if p.scanner.over() {
				p.scanner = p.renew(p.scanner)
			}
			s := p.scanner
			stop := context.AfterFunc(ctx, s.Close)
			defer stop()
			asked := make(chan error, 1)
			go func() {
				err := s.WriteJSON(t, wire.IndexRequest{Root: p.root, State: p.request.State, Algorithm: p.request.Algorithm, Seed: p.request.Seed})
				if err == nil {
					err = ask(s)
				}
				asked <- err
			}()
			from := last
			err := answer(s, func(one wire.Seen) error {
				if from != nil && tree.ComparePaths(one.Path, from) <= 0 {
					return nil
				}
				last = one.Path
				return each(one)
			})
			if err != nil {
				return err
			}
			return <-asked
		})
	}
}
