package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"rehearsal/internal/run"
)

// Read streams a file of size bytes to w, in order, and is what to use for a file that may be large or far away: one
// SSH channel carries at most its window of 2 MiB per round trip, so the file comes in spans over several lanes, which
// all Reads of a Host share. What waits in memory stays within Memory; a w that is slow slows the reading down.
//
// A line that breaks or falls silent is dialled again, and reading goes on where it was; whoever dialled with DialFor
// is warned once. After many attempts without a byte Read fails with run.Unreachable. A file of another size is a
// *SizeError, one that cannot be read an *ExitError, one that was replaced meanwhile has code Incomplete. When ctx ends,
// so does everything on the host that is not needed by another Read; only a Write of w that is under way is waited for.
func (h *Host) Read(ctx context.Context, w io.Writer, file string, size int64) error {
	err := h.lanes.read(ctx, w, &stream{file: h.Path(file), size: size, whole: true})
	var wrong *SizeError
	if errors.As(err, &wrong) && wrong.Size == size+1 {
		wrong.Size = max(size+1, h.sizeOf(ctx, wrong.File))
	}
	return err
}

// ReadStart is Read for the first n bytes of a file, or for all of one that has fewer.
func (h *Host) ReadStart(ctx context.Context, w io.Writer, file string, n int64) error {
	return h.lanes.read(ctx, w, &stream{file: h.Path(file), size: n})
}

// SizeError is a file that does not have the size that it should have.
type SizeError struct {
	Host, File string
	Want       int64
	Size       int64 // of a file that is longer it may be too small a number
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("%s on %s has %d bytes instead of %d", e.File, e.Host, e.Size, e.Want)
}

// sizeUnknown is the size of a file that could not be asked for.
const sizeUnknown = -1

// sizeOf asks for a file's size, which is worth a round trip only where it is wrong.
func (h *Host) sizeOf(ctx context.Context, file string) int64 {
	text, err := h.Output(ctx, Cmd{Script: `wc -c <"$1"`, Args: []string{file}})
	size, notNumber := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || notNumber != nil {
		return sizeUnknown
	}
	return size
}

// stream is one Read. What follows size is guarded by lanes.mu.
type stream struct {
	file  string
	size  int64
	whole bool // size is the file's, and not just how much of it is wanted

	count int     // of its spans; an empty file has one too, in which it is opened
	made  int     // spans that have been made
	spans []*span // made and not yet written, in order
	held  int64   // bytes of memory of its spans
	err   error   // nobody goes on reading
	ready chan struct{}
}

// span is a part of a file that is asked for at once. A lane fills it; then its stream writes it.
type span struct {
	of    *stream
	index int
	at    int64
	want  int
	buf   []byte // what has arrived

	lane     *lane  // that was asked for it
	identity string // of the file, before its first and after its last span was read
	done     bool   // it has all it will get
	dropped  bool   // its stream has gone
	err      error
}

func (sp *span) last() bool { return sp.index == sp.of.count-1 }

func (r *lanes) read(ctx context.Context, w io.Writer, s *stream) (err error) {
	if err := r.join(s); err != nil {
		return err
	}
	defer func() { r.leave(s, err) }()
	// w may be busy while ctx ends; the lanes need not wait for it.
	stop := context.AfterFunc(ctx, func() { r.leave(s, ctx.Err()) })
	defer stop()
	var identity string
	for i := range s.count {
		sp, err := r.first(ctx, s)
		if err != nil {
			return err
		}
		err = r.write(ctx, w, sp)
		short := len(sp.buf) < sp.want
		if i == 0 {
			identity = sp.identity
		}
		r.release(sp)
		switch {
		case err != nil:
			return err
		case i == 0 && s.wrongSize(identity):
			return &SizeError{Host: r.host.spec.Name, File: s.file, Want: s.size, Size: sizeIn(identity)}
		case i > 0 && i == s.count-1 && sp.identity != "" && sp.identity != identity:
			return run.Fail(run.Incomplete, "start again when nobody writes to it", "%s on %s was replaced or written to while it was read", s.file, r.host.spec.Name)
		case short:
			return nil
		}
	}
	return nil
}

// write hands one span on, or says why there is none.
func (r *lanes) write(ctx context.Context, w io.Writer, sp *span) error {
	if sp.err != nil {
		return sp.err
	}
	if err := ctx.Err(); err != nil {
		return r.cancelled(sp.of, err)
	}
	if _, err := w.Write(sp.buf); err != nil {
		return fmt.Errorf("%s on %s: writing the output: %w", sp.of.file, r.host.spec.Name, err)
	}
	return nil
}

// first waits for the next span that w is to get.
func (r *lanes) first(ctx context.Context, s *stream) (*span, error) {
	for {
		if sp, err := r.next(s); sp != nil || err != nil {
			return sp, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, r.cancelled(s, ctx.Err())
		case <-r.host.life.Done():
			return nil, r.host.errClosed()
		}
	}
}

func (r *lanes) cancelled(s *stream, err error) error {
	return fmt.Errorf("%s on %s: %w", s.file, r.host.spec.Name, err)
}

// An identity is "inode/size/month/day/time", as ls has them. One without a number for a size is of an ls that we do
// not understand, and proves nothing.
func (s *stream) wrongSize(identity string) bool {
	size := sizeIn(identity)
	return s.whole && size >= 0 && size != s.size
}

func sizeIn(identity string) int64 {
	parts := strings.Split(identity, "/")
	if len(parts) < 2 {
		return sizeUnknown
	}
	size, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return sizeUnknown
	}
	return size
}
