package host

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"rehearsal/internal/run"
)

// lanes is what all Reads of a Host share: the lanes themselves, the memory, and what goes wrong on the way. All of it is
// decided in one place, dispatch, whenever something changes.
//
// Memory for a span is taken before it is asked for, so a lane never waits for a writer, and one that is silent while it
// owes something is broken. Spans are made in a file's order, and a Read that has none gets one whatever else is held: no
// Read ever waits for another's writer.
type lanes struct {
	host *Host

	// Fields so that a test need not wait as long, or fill as much.
	span     int           // bytes; a multiple of block
	stall    time.Duration // how long a lane may be silent while it owes something
	linger   time.Duration // how long lanes wait for the next Read
	interval time.Duration // over which throughput is measured

	mu      sync.Mutex
	streams []*stream // oldest first
	all     []*lane
	again   []*span // of broken lanes
	held    int64   // bytes of memory of all spans
	most    int64   // that held has ever been
	spare   [][]byte
	idle    *time.Timer

	breaks // a try gets somewhere when a byte comes
	resume *time.Timer

	target  int // lanes that we want where there is much to read
	best    float64
	flat    int  // times that more lanes did not carry more
	busy    bool // more lanes would have had something to do
	since   time.Time
	carried int64
}

const (
	// defaultMemory is what Reads of one Host hold unless told otherwise.
	defaultMemory = 64 << 20
	// spanBytes makes starting a dd cost a twentieth of what encrypting its output does. Two of them outstanding keep a
	// channel's window of 2 MiB full.
	spanBytes = 2 << 20
	depth     = 2
	// firstLanes are opened at once where there is enough to read; more come as long as they help.
	firstLanes = 4
	// longestBackoff and attempts together outlast a router that starts anew.
	longestBackoff = 15 * time.Second
)

func newLanes(h *Host) *lanes {
	r := &lanes{host: h, span: spanBytes, stall: 15 * time.Second, breaks: newBreaks(),
		linger: 5 * time.Second, interval: 500 * time.Millisecond, target: firstLanes}
	r.idle = time.AfterFunc(time.Hour, r.endIdle)
	r.idle.Stop()
	r.resume = time.AfterFunc(time.Hour, func() { r.mu.Lock(); defer r.mu.Unlock(); r.tend() })
	r.resume.Stop()
	return r
}

func (r *lanes) memory() int64 {
	if r.host.Memory > 0 {
		return r.host.Memory
	}
	return defaultMemory
}

// join takes up a stream.
func (r *lanes) join(s *stream) error {
	if s.size < 0 {
		return fmt.Errorf("%s on %s: a size of %d", s.file, r.host.spec.Name, s.size)
	}
	s.count = max(1, int((s.size+int64(r.span)-1)/int64(r.span)))
	s.ready = make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams = append(r.streams, s)
	r.dispatch()
	return nil
}

// leave forgets a stream. What is on its way still comes, and is dropped, unless nobody reads any more: then the lanes
// end, after a failure at once.
func (r *lanes) leave(s *stream, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.streams, s) {
		return
	}
	r.forget(s)
	switch {
	case len(r.streams) > 0:
		r.dispatch()
	case err != nil:
		r.endAll()
	default:
		r.idle.Reset(r.linger)
	}
}

// forget drops what was made of a stream.
func (r *lanes) forget(s *stream) {
	r.streams = slices.DeleteFunc(r.streams, func(other *stream) bool { return other == s })
	r.again = slices.DeleteFunc(r.again, func(sp *span) bool { return sp.of == s })
	for _, sp := range s.spans {
		if sp.dropped = true; sp.lane == nil {
			r.put(sp)
		}
	}
	s.spans = nil
}

func (r *lanes) endIdle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.streams) == 0 {
		r.endAll()
	}
}

// endAll ends the lanes, and forgets what was learnt on them.
func (r *lanes) endAll() {
	for _, l := range r.all {
		l.end(errIdle)
	}
	r.all, r.spare = nil, nil
	r.target, r.best, r.flat = firstLanes, 0, 0
	r.tries, r.pause = 0, time.Time{}
}

// next takes the first span of a stream once it is done. Its memory stays taken until release.
func (r *lanes) next(s *stream) (*span, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if len(s.spans) == 0 || !s.spans[0].done {
		return nil, nil
	}
	sp := s.spans[0]
	s.spans = s.spans[1:]
	return sp, nil
}

// release gives back the memory of a span that was written.
func (r *lanes) release(sp *span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(sp)
	r.dispatch()
}

// r.mu is held in all that follows, up to the lanes' own calls.

func (r *lanes) put(sp *span) {
	r.held -= int64(sp.want)
	sp.of.held -= int64(sp.want)
	if cap(sp.buf) == r.span && len(r.streams) > 0 {
		r.spare = append(r.spare, sp.buf[:0])
	}
}

// dispatch gives the lanes what they have room for, and opens others where there is more.
func (r *lanes) dispatch() {
	for {
		l := r.roomy()
		if r.busy = l == nil && r.unmade() != nil; l == nil {
			break
		}
		sp := r.take()
		if sp == nil {
			break
		}
		sp.lane = l
		if len(l.queue) == 0 {
			l.heard, l.pinged = time.Now(), false
			l.watch.Reset(r.stall)
		}
		l.queue = append(l.queue, sp)
		l.owed += int64(sp.want)
		l.requests <- sp.request()
	}
	r.tend()
}

// roomy is the lane that owes least, or nil where each owes enough.
func (r *lanes) roomy() *lane {
	var best *lane
	for _, l := range r.all {
		if l.open && l.owed < int64(depth*r.span) && len(l.queue) < mostRequests && (best == nil || l.owed < best.owed) {
			best = l
		}
	}
	return best
}

// take is the next span to ask for: what a broken lane still owed, or a new one.
func (r *lanes) take() *span {
	if len(r.again) > 0 {
		sp := r.again[0]
		r.again = r.again[1:]
		return sp
	}
	s := r.unmade()
	if s == nil {
		return nil
	}
	sp := &span{of: s, index: s.made, at: int64(s.made) * int64(r.span)}
	sp.want = int(min(int64(r.span), s.size-sp.at))
	sp.buf = r.buffer(sp.want)
	s.made++
	s.spans = append(s.spans, sp)
	s.held += int64(sp.want)
	r.held += int64(sp.want)
	r.most = max(r.most, r.held)
	return sp
}

func (r *lanes) buffer(size int) []byte {
	if n := len(r.spare); size == r.span && n > 0 {
		buf := r.spare[n-1]
		r.spare = r.spare[:n-1]
		return buf
	}
	return make([]byte, 0, size)
}

// unmade is the stream that may have another span and holds least, or nil. The first span is every stream's right, and
// is not to be had from the others' share.
func (r *lanes) unmade() *stream {
	var best *stream
	n, span := int64(len(r.streams)), int64(r.span)
	for _, s := range r.streams {
		shared := r.held+span <= r.memory()-n*span && s.held+span <= r.memory()/n
		if s.made < s.count && (s.held == 0 || shared) && (best == nil || s.held < best.held) {
			best = s
		}
	}
	return best
}

// tend opens lanes as long as there is enough to read for another.
func (r *lanes) tend() {
	wait := time.Until(r.pause)
	for n := r.wanted(); len(r.all) < n; {
		if wait > 0 {
			r.resume.Reset(wait)
			return
		}
		if !r.open() {
			return
		}
	}
}

// wanted is one lane for all that one can owe, up to the target.
func (r *lanes) wanted() int {
	each := int64(depth * r.span)
	n := min(int64(r.target), max(1, r.memory()/each))
	var bytes int64
	for _, s := range r.streams {
		for _, sp := range s.spans {
			if !sp.done {
				bytes += int64(sp.want)
			}
		}
		bytes += s.size - int64(s.made)*int64(r.span)
		if bytes >= n*each {
			return int(n)
		}
	}
	return int(max(min(int64(len(r.streams)), 1), (bytes+each-1)/each))
}

func (r *lanes) open() bool {
	h := r.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed { // nobody would wait for it
		return false
	}
	ctx, end := context.WithCancelCause(h.life)
	l := &lane{of: r, marker: "\nrehearsal-" + rand.Text(), generation: r.generation, end: end, requests: make(chan string, mostRequests)}
	r.all = append(r.all, l)
	r.since = time.Time{}
	h.tasks.Go(func() { defer end(nil); l.run(ctx) })
	return true
}

// lost takes back what a lane owed.
func (r *lanes) lost(l *lane, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = slices.DeleteFunc(r.all, func(other *lane) bool { return other == l })
	l.ended = true
	close(l.requests)
	if l.watch != nil {
		l.watch.Stop()
	}
	for _, sp := range l.queue {
		// The lane may be at it still, behind what it has published.
		sp.lane = nil
		if sp.dropped {
			sp.buf = nil
			r.put(sp)
			continue
		}
		sp.buf = append(make([]byte, 0, sp.want), sp.buf[:min(len(sp.buf), max(0, sp.want-1))/block*block]...)
		r.again = append(r.again, sp)
	}
	l.queue = nil
	slices.SortStableFunc(r.again, func(a, b *span) int { return cmp.Compare(a.index, b.index) })
	if len(r.streams) > 0 {
		r.judge(l, err)
		r.dispatch()
	}
}

// judge decides what the end of a lane means.
func (r *lanes) judge(l *lane, why error) {
	if errors.Is(why, errIdle) || errors.Is(why, errOutOfStep) && l.open {
		return
	}
	others := slices.ContainsFunc(r.all, func(l *lane) bool { return l.open })
	first, hopeless := r.broke(l.generation, l.open, others)
	if first && r.host.warn != nil {
		r.host.warn("reading from %s broke off and goes on where it was: %v", r.host.spec.Name, why)
	}
	if hopeless {
		r.giveUp(why)
	}
}

// giveUp fails everybody who reads.
func (r *lanes) giveUp(why error) {
	err := run.Fail(run.Unreachable, run.HintOf(why), "reading from %s: not a byte in %d attempts: %w", r.host.spec.Name, r.attempts, why)
	for _, s := range slices.Clone(r.streams) {
		s.err = err
		s.wake()
		r.forget(s)
	}
	r.endAll()
}

func (s *stream) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// measure sees whether more lanes carry more. Two steps in vain end that: the second is on a connection of its own.
func (r *lanes) measure(now time.Time, n int) {
	r.carried += int64(n)
	if r.since.IsZero() || slices.ContainsFunc(r.all, func(l *lane) bool { return !l.open }) {
		r.since, r.carried = now, 0
	}
	took := now.Sub(r.since)
	if took < r.interval {
		return
	}
	rate := float64(r.carried) / took.Seconds()
	r.since, r.carried = now, 0
	if !r.busy || len(r.all) < r.target || r.flat == 2 {
		return
	}
	if r.flat++; rate > 1.1*r.best {
		r.best, r.flat = rate, 0
	}
	if r.flat < 2 && int64(r.target*depth*r.span) < r.memory() {
		r.target += firstLanes
		r.tend()
	}
}

// What follows is called by the lanes, without r.mu.

// begin has a session for a lane.
func (r *lanes) begin(l *lane, c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.heard = time.Now()
	l.watch = time.AfterFunc(r.stall, func() { r.look(l, c) })
}

// opened lets a lane be asked.
func (r *lanes) opened(l *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.all, l) {
		l.open, l.generation = true, r.generation // it has outlived what broke others while it was opened
		r.dispatch()
	}
}

// asked is what a lane was asked for first, and has not answered yet, and what has arrived of it on another.
func (r *lanes) asked(l *lane) (*span, []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(l.queue) == 0 {
		return nil, nil
	}
	return l.queue[0], l.queue[0].buf
}

// heard has more of a span from a lane. It returns false where nobody listens to it any more.
func (r *lanes) heard(l *lane, sp *span, buf []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.ended {
		return false
	}
	n := len(buf) - len(sp.buf)
	sp.buf = buf
	l.heard = time.Now()
	if l.generation == r.generation {
		r.tries = 0
	}
	r.measure(l.heard, n)
	return true
}

// answered has all of a span that the host has.
func (r *lanes) answered(l *lane, sp *span, has int, identity string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.ended {
		return
	}
	l.queue = l.queue[1:]
	l.owed -= int64(sp.want)
	l.heard = time.Now()
	sp.buf, sp.lane, sp.identity, sp.err, sp.done = sp.buf[:has], nil, identity, err, true
	if sp.dropped {
		r.put(sp)
	}
	sp.of.wake()
	r.dispatch()
}

// look sees whether a lane has been silent for too long. Then the connection is asked for a sign of life, and half as much
// later ends where there was none, and the lane alone where there was.
func (r *lanes) look(l *lane, c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	silent := time.Since(l.heard)
	file := ""
	switch {
	case len(l.queue) > 0:
		file = l.queue[0].of.file
	case l.open:
		return // it owes nothing
	}
	switch {
	case silent < r.stall:
		l.pinged = false
		l.watch.Reset(r.stall - silent)
	case !l.pinged:
		l.pinged = true
		l.watch.Reset(r.stall / 2)
		go c.ask()
	default:
		go l.stalled(c, file)
	}
}
