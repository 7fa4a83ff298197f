package host

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// writers is what all Writes of a Host share: the commands that write, the memory, and what goes wrong on the way. A
// channel carries at most its window of 2 MiB per round trip, hence several.
type writers struct {
	host *Host

	asking chan struct{} // held by who asks, or reads the answer
	asked  bool
	fit    bool

	// Fields so that a test need not wait as long, or send as much.
	chunk  int           // bytes; a multiple of block
	memory int           // chunks
	linger time.Duration // how long writers wait for the next Write

	mu       sync.Mutex
	sendings []*sending
	all      []*writer
	waiting  []*chunk // for a writer
	lent     int      // chunks in memory
	most     int      // that lent has ever been
	spare    [][]byte
	idle     *time.Timer

	breaks     // a try gets somewhere when a chunk arrives
	target int // writers that we want where there is much to send
	resume *time.Timer
}

const (
	// chunkBytes is a channel's window, so that two of them outstanding keep it full. To start a dd costs little beside.
	chunkBytes = 2 << 20
	// writeMemory is 64 MiB: what sixteen writers have under way.
	writeMemory = 32
)

func newWriters(h *Host) *writers {
	w := &writers{host: h, asking: make(chan struct{}, 1), chunk: chunkBytes, memory: writeMemory, target: firstLanes,
		breaks: newBreaks(), linger: 5 * time.Second}
	w.idle = time.AfterFunc(time.Hour, w.endIdle)
	w.idle.Stop()
	w.resume = time.AfterFunc(time.Hour, func() { w.mu.Lock(); defer w.mu.Unlock(); w.dispatch() })
	w.resume.Stop()
	return w
}

// writer is a command on the host that puts one chunk after the other where it belongs.
type writer struct {
	of     *writers
	end    context.CancelCauseFunc
	chunks chan *chunk
	over   chan struct{} // closed when nothing of it is left, here and on the host

	// Guarded by writers.mu.
	generation int
	open       bool
	ended      bool
	queue      []*chunk // sent and not confirmed, in order
}

func (w *writers) join(s *sending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle.Stop()
	w.sendings = append(w.sendings, s)
}

// leave forgets a Write. After a failure it ends the writers that have something of it, and all where nobody else
// writes, and waits for them: they must not write into what is removed next.
func (w *writers) leave(s *sending, err error) {
	w.mu.Lock()
	w.sendings = slices.DeleteFunc(w.sendings, func(other *sending) bool { return other == s })
	for _, c := range w.waiting {
		if c.of == s {
			w.put(c)
		}
	}
	w.waiting = slices.DeleteFunc(w.waiting, func(c *chunk) bool { return c.of == s })
	var ended []*writer
	for _, l := range w.all {
		if err != nil && (len(w.sendings) == 0 || slices.ContainsFunc(l.queue, func(c *chunk) bool { return c.of == s })) {
			l.end(errIdle)
			ended = append(ended, l)
		}
	}
	if len(w.sendings) == 0 {
		w.idle.Reset(w.linger)
	}
	w.mu.Unlock()
	for _, l := range ended {
		<-l.over
	}
}

func (w *writers) endIdle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sendings) > 0 {
		return
	}
	for _, l := range w.all {
		l.end(errIdle)
	}
	w.spare, w.target, w.tries, w.pause = nil, firstLanes, 0, time.Time{}
}

// giveBack is put for a chunk that was never posted.
func (w *writers) giveBack(c *chunk) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(c)
}

// post has a chunk sent.
func (w *writers) post(c *chunk) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.of.owed++
	w.waiting = append(w.waiting, c)
	w.dispatch()
}

// w.mu is held in all that follows, up to the writers' own calls.

// lend takes the memory for a chunk, if there is any.
func (w *writers) lend(c *chunk, size int) bool {
	if w.lent >= w.memory {
		return false
	}
	w.lent++
	w.most = max(w.most, w.lent)
	if n := len(w.spare); size == w.chunk && n > 0 {
		c.data, w.spare = w.spare[n-1], w.spare[:n-1]
	} else {
		c.data = make([]byte, size)
	}
	return true
}

// put takes the memory back.
func (w *writers) put(c *chunk) {
	if c.data == nil { // it had none
		return
	}
	w.lent--
	if len(c.data) == w.chunk && !c.again {
		w.spare = append(w.spare, c.data)
	}
	for _, s := range w.sendings {
		s.rouse()
	}
}

// dispatch gives the writers what they have room for, and opens others where there is more.
func (w *writers) dispatch() {
	for len(w.waiting) > 0 {
		l := w.roomy()
		if l == nil {
			break
		}
		c := w.waiting[0]
		w.waiting = w.waiting[1:]
		l.queue = append(l.queue, c)
		l.chunks <- c
	}
	w.tend()
}

// roomy is the writer that has least to do, or nil where each has enough.
func (w *writers) roomy() *writer {
	var best *writer
	for _, l := range w.all {
		if l.open && len(l.queue) < depth && (best == nil || len(l.queue) < len(best.queue)) {
			best = l
		}
	}
	return best
}

// tend opens a writer for what waits, at first up to firstLanes; as many more each time that all of them are open and
// something waits still, up to what memory can keep busy.
func (w *writers) tend() {
	if len(w.waiting) == 0 {
		return
	}
	opening := 0
	for _, l := range w.all {
		if !l.open {
			opening++
		}
	}
	if opening == 0 && len(w.all) >= w.target {
		w.target = min(w.target+firstLanes, max(1, w.memory/depth))
	}
	wait := time.Until(w.pause)
	for ; opening*depth < len(w.waiting) && len(w.all) < w.target; opening++ {
		if wait > 0 {
			w.resume.Reset(wait)
			return
		}
		if !w.open() {
			return
		}
	}
}

func (w *writers) open() bool {
	h := w.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	ctx, end := context.WithCancelCause(h.life)
	l := &writer{of: w, generation: w.generation, end: end, chunks: make(chan *chunk, depth), over: make(chan struct{})}
	w.all = append(w.all, l)
	h.tasks.Go(func() { defer end(nil); defer close(l.over); l.run(ctx) })
	return true
}

// lost takes back what a writer had not confirmed.
func (w *writers) lost(l *writer, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.ended = true
	close(l.chunks)
	for _, c := range l.queue {
		if c.again = true; c.of.err == nil && slices.Contains(w.sendings, c.of) {
			w.waiting = append(w.waiting, c)
		} else {
			w.put(c)
		}
	}
	l.queue = nil
	slices.SortStableFunc(w.waiting, func(a, b *chunk) int { return cmp.Compare(a.at, b.at) })
	w.judge(l, why)
	w.all = slices.DeleteFunc(w.all, func(other *writer) bool { return other == l })
	w.dispatch()
}

// judge decides what the end of a writer means.
func (w *writers) judge(l *writer, why error) {
	if len(w.sendings) == 0 || errors.Is(why, errIdle) || errors.Is(why, errRefused) {
		return
	}
	others := slices.ContainsFunc(w.all, func(other *writer) bool { return other != l && other.open })
	first, hopeless := w.broke(l.generation, l.open, others)
	if first && w.host.warn != nil {
		w.host.warn("writing to %s broke off and goes on where it was: %v", w.host.spec.Name, why)
	}
	if hopeless {
		w.gaveUp(why)
	}
}

// What follows is called by the writers, without w.mu.

// opened lets a writer be given chunks.
func (w *writers) opened(l *writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.open, l.generation = true, w.generation // it has outlived what broke others while it was opened
	w.dispatch()
}

// errRefused ends a writer that could not write: what it had read is no longer known.
var errRefused = errors.New("the host could not write")

// answered takes one line, "STATUS FIRST-LINE", for what a writer says of its oldest chunk. With status 0 it has written
// it, and the line is the file's size, if that was asked for.
func (w *writers) answered(l *writer, line string) error {
	var status int
	said := ""
	if _, err := fmt.Sscan(line, &status); err != nil {
		return fmt.Errorf("%w: %q", errOutOfStep, line)
	}
	if _, rest, found := strings.Cut(strings.TrimSpace(line), " "); found {
		said = rest
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.ended || len(l.queue) == 0 {
		return errOutOfStep
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	s := c.of
	s.owed--
	if l.generation == w.generation {
		w.tries = 0
	}
	if c.last {
		s.found = said
	}
	if status != 0 {
		c.again = true // it may still be on its way
		s.err = &ExitError{Host: w.host.spec.Name, Command: Cmd{Args: []string{"dd", "of=" + s.file}}.String(), Status: status, Stderr: said}
	}
	w.put(c)
	s.rouse()
	if status != 0 {
		return errRefused
	}
	w.dispatch()
	return nil
}

// placeChunks puts what follows each line of stdin, "LAST BLOCK LENGTH PATH", into a file, from that block on, and answers
// with a status and a line. Behind the last of a file it is brought to disk and counted.
//
//   - read takes a byte at a time from what cannot seek, so that dd finds the data where they begin.
//   - fullblock has dd wait for all of its one input block, however small the pieces that the pipe has. It seeks by output
//     blocks.
//   - A dd whose input ends before its block does says "0+1 records in" (POSIX) and no more: that is no chunk written, and
//     nobody is left to be answered.
//   - A path is decoded by printf %b. The dot keeps line feeds at its end, which $() drops.
//   - A dd that failed may have left some of its input. That must never be taken for requests.
const placeChunks = brought + `umask 077
nl='
'
while read -r last block length path; do
	case $path in
	*\\*) file=$(printf '%b.' "$path") file=${file%.} ;;
	*) file=$path ;;
	esac
	said= status=0
	if [ "$length" != 0 ]; then
		said=$(dd of="$file" ibs="$length" obs=65536 count=1 seek="$block" conv=notrunc iflag=fullblock 2>&1)
		status=$?
		case $status$said in
		01+0\ *) ;;
		0*) exit ;;
		esac
	fi
	if [ $status = 0 ] && [ "$last" = last ]; then
		said=$(brought "$file" 2>&1)
		status=$?
	fi
	printf '%s %s\n' $status "${said%%"$nl"*}"
	[ $status = 0 ] || exit 0
done`

// run opens a session and has it write what it is given, until ctx ends or something breaks.
func (l *writer) run(ctx context.Context) {
	c := Cmd{Script: placeChunks, Env: map[string]string{"LC_ALL": "C"}, Stdin: &outgoing{c: l.chunks}}
	p, release, err := l.of.host.shell(ctx, c, 15*time.Second)
	if err != nil {
		l.of.lost(l, err)
		return
	}
	defer release()
	done := make(chan error, 1)
	go func() { done <- p.converse(func() { l.of.opened(l) }, l.answer) }()
	select {
	case err := <-done:
		l.of.lost(l, because(ctx, err))
	case <-ctx.Done():
		if !p.finish(done) {
			p.conn.drop(p.host.errClosed())
		}
		l.of.lost(l, context.Cause(ctx))
	}
}

// answer reads one answer.
func (l *writer) answer(from *bufio.Reader) error {
	line, err := from.ReadString('\n')
	if err != nil {
		return err
	}
	return l.of.answered(l, line)
}

// outgoing is the stdin of a writer's command. It ends when no chunk can come any more.
type outgoing struct {
	c    chan *chunk
	head string
	data []byte
}

func (o *outgoing) Read(p []byte) (int, error) {
	if o.head == "" && len(o.data) == 0 {
		c, ok := <-o.c
		if !ok {
			return 0, io.EOF
		}
		o.head, o.data = c.request(), c.data
	}
	n := copy(p, o.head)
	o.head = o.head[n:]
	m := copy(p[n:], o.data)
	o.data = o.data[m:]
	return n + m, nil
}
