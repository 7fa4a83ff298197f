package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/run"
)

// sends is how many files travel at once. They share what a Host has for reading and writing; many small ones wait for
// round trips only.
const sends = 16

// sender carries the files of a spool to a draft, each hashed as it passes: first those that seem to be finished while
// pg_dump writes others, and in the end all that have not arrived in the size that they have then. pg_dump only appends
// to a file of data, so one of the same size is the same.
type sender struct {
	from  *host.Host
	spool string
	draft *archive.Draft

	ctx    context.Context // of all that is sent; ends with the first error
	cancel context.CancelFunc
	group  *errgroup.Group
	slots  chan struct{}

	mu     sync.Mutex
	parts  map[string]*part
	ended  bool // pg_dump: what is sent now is sent by rest
	listen func(int64)
}

// part is one file of the spool.
type part struct {
	turn sync.Mutex    // held while it is sent
	sent *archive.File // as it arrived last; guarded by turn

	// Guarded by sender.mu.
	size   int64 // at the last look
	still  int   // looks since it has grown
	tries  int   // to send it while pg_dump was running
	asked  bool  // to be sent, or on its way
	passed int64 // bytes
}

func newSender(ctx context.Context, from *host.Host, spool string, draft *archive.Draft) *sender {
	s := &sender{from: from, spool: spool, draft: draft, slots: make(chan struct{}, sends), parts: map[string]*part{}}
	ctx, s.cancel = context.WithCancel(ctx)
	s.group, s.ctx = errgroup.WithContext(ctx)
	return s
}

// stop ends all that is sent and waits for it.
func (s *sender) stop() {
	if s != nil {
		s.end()
		s.cancel()
		_ = s.group.Wait()
	}
}

// end lets look send nothing more.
func (s *sender) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// failed is why something could not be sent; nil where nothing has failed, or ctx has ended.
func (s *sender) failed(ctx context.Context) error {
	if s.ctx.Err() == nil || ctx.Err() != nil {
		return nil
	}
	s.end()
	return s.group.Wait()
}

// watch looks at the spool until ctx ends, tells how much pg_dump has written, which it does not say itself, and has
// sent what seems to be finished.
func (s *sender) watch(ctx context.Context, every time.Duration, wrote func(int64)) {
	var seen int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		files, err := s.list(ctx)
		if err != nil {
			continue // the next look tells; pg_dump's own error is what counts
		}
		var total int64
		for _, f := range files {
			total += f.Bytes
			s.look(f)
		}
		if total > seen {
			wrote(total - seen)
			seen = total
		}
	}
}

// look has a file sent that has not grown between two looks. One that grew after all has to rest twice as long the next
// time, so that it is not sent over and over.
func (s *sender) look(f archive.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.part(f.Name)
	if f.Bytes != p.size || f.Bytes == 0 {
		p.size, p.still = f.Bytes, 0
		return
	}
	p.still++
	if f.Name == "dump/toc.dat" || p.asked || s.ended || p.still != 1<<p.tries {
		return
	}
	p.tries++
	p.asked = true
	s.group.Go(func() error {
		err := s.early(p, f)
		s.mu.Lock()
		defer s.mu.Unlock()
		p.asked, p.still = false, 0
		return err
	})
}

// early sends a file that may still grow.
func (s *sender) early(p *part, f archive.File) error {
	if err := s.slot(); err != nil {
		return err
	}
	defer s.leave()
	p.turn.Lock()
	defer p.turn.Unlock()
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if ended || p.sent != nil && p.sent.Bytes == f.Bytes {
		return nil
	}
	err := s.send(p, f)
	var unread *unreadError
	var size *host.SizeError
	if errors.As(err, &unread) && (errors.As(err, &size) || run.CodeOf(err) == run.Incomplete) {
		return nil // it has grown
	}
	return err
}

// rest sends what has not arrived of the files that pg_dump has left, largest first, and returns what has.
func (s *sender) rest(files []archive.File, progress func(int64)) ([]archive.File, error) {
	s.mu.Lock()
	s.ended, s.listen = true, progress
	for _, p := range s.parts {
		progress(p.passed)
	}
	s.mu.Unlock()
	arrived := make([]archive.File, len(files))
	for i, f := range files {
		if s.slot() != nil {
			break
		}
		s.group.Go(func() error {
			defer s.leave()
			s.mu.Lock()
			p := s.part(f.Name)
			s.mu.Unlock()
			p.turn.Lock()
			defer p.turn.Unlock()
			if p.sent == nil || p.sent.Bytes != f.Bytes {
				if err := s.send(p, f); err != nil {
					return err
				}
			}
			arrived[i] = *p.sent
			return nil
		})
	}
	if err := s.group.Wait(); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(arrived, func(f archive.File) bool { return f.Name == "" }) {
		return nil, context.Cause(s.ctx)
	}
	return arrived, nil
}

func (s *sender) slot() error {
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

func (s *sender) leave() { <-s.slots }

// part is what is known of a file. s.mu is held.
func (s *sender) part(name string) *part {
	p, ok := s.parts[name]
	if !ok {
		p = &part{}
		s.parts[name] = p
	}
	return p
}

func (s *sender) pass(p *part, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.passed += n
	if s.listen != nil {
		s.listen(n)
	}
}

// list returns the files of the spool, largest first. Their names have no blanks.
func (s *sender) list(ctx context.Context) ([]archive.File, error) {
	out, err := s.from.Output(ctx, host.Cmd{Script: `cd -- "$1" && LC_ALL=C ls -ln`, Args: []string{s.spool}})
	if err != nil {
		return nil, fmt.Errorf("listing the dump on %s: %w", s.from.Name(), err)
	}
	var files []archive.File
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "-") {
			continue
		}
		fields := strings.Fields(line) // mode links uid gid bytes month day time name
		if len(fields) != 9 {
			return nil, fmt.Errorf("listing the dump on %s: %q", s.from.Name(), line)
		}
		n, err := strconv.ParseInt(fields[4], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("listing the dump on %s: %q", s.from.Name(), line)
		}
		files = append(files, archive.File{Name: "dump/" + fields[8], Bytes: n})
	}
	slices.SortStableFunc(files, func(a, b archive.File) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return files, nil
}

// unreadError is a file of the spool that could not be read, or not in the size that it had.
type unreadError struct {
	host string
	err  error
}

func (e *unreadError) Error() string { return fmt.Sprintf("reading the dump on %s: %v", e.host, e.err) }
func (e *unreadError) Unwrap() error { return e.err }

// send carries one file; what arrives is what was read, to the byte that was counted, or an error. p.turn is held.
func (s *sender) send(p *part, f archive.File) error {
	s.mu.Lock()
	before := p.passed
	s.mu.Unlock()
	s.pass(p, -before)
	p.sent = nil
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	pr, pw := io.Pipe()
	var reading sync.WaitGroup
	reading.Go(func() {
		if err := s.from.Read(ctx, pw, path.Join(s.spool, path.Base(f.Name)), f.Bytes); err != nil {
			pw.CloseWithError(&unreadError{s.from.Name(), err})
			return
		}
		pw.Close()
	})
	file, err := s.draft.Put(ctx, f.Name, pr, f.Bytes, func(n int64) { s.pass(p, n) })
	pr.CloseWithError(errors.New("the backup host takes no more of it"))
	stop()
	reading.Wait()
	var unread *unreadError
	switch {
	case errors.As(err, &unread):
		return unread
	case err != nil:
		return err
	case file.Bytes != f.Bytes:
		return fmt.Errorf("%s has %d bytes on %s and %d arrived", f.Name, f.Bytes, s.from.Name(), file.Bytes)
	}
	p.sent = &file
	return nil
}
