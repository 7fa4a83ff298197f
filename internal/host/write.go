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

// Write puts the size bytes of r into a file on the host, mode 0600, in a folder that exists, and is what to use for a
// file that may be large or a host that may be far away: what r gives is cut into chunks, in order, and several writers,
// which all Writes of a Host share, bring them to their places. The file must not be there yet, or be no longer than it
// is to be. Once Write returns nil it is on disk, and the host has counted its bytes.
//
// A line that breaks is dialled again, and what the host had not confirmed is sent again; whoever dialled with DialFor is
// warned once. After many attempts in vain Write fails with run.Unreachable. What the host refuses is an *ExitError, a
// file that has another size in the end a *SizeError. When Write fails, or ctx ends, nothing on the host writes to the
// file any more once it returns, unless the host is out of reach; only a Read of r that is under way is waited for.
// Of all Writes together no more than 64 MiB wait in memory.
func (h *Host) Write(ctx context.Context, file string, r io.Reader, size int64) error {
	if size < 0 {
		return fmt.Errorf("%s on %s: a size of %d", file, h.spec.Name, size)
	}
	file = h.Path(file)
	able, err := h.writers.able(ctx)
	switch {
	case err != nil:
		return err
	case !able:
		return h.writeAlone(ctx, file, r, size)
	}
	return h.writers.write(ctx, &sending{file: file, size: size, wake: make(chan struct{}, 1)}, r)
}

// takesBlocks succeeds where dd can be told to wait for all of a block. GNU's, busybox' and FreeBSD's can; of others a
// pipe's short read would be taken for the whole.
const takesBlocks = `dd iflag=fullblock count=0 </dev/null >/dev/null 2>&1`

// able tells whether the host has what writers need, which is asked once.
func (w *writers) able(ctx context.Context) (bool, error) {
	select {
	case w.asking <- struct{}{}:
		defer func() { <-w.asking }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if w.asked {
		return w.fit, nil
	}
	err := w.host.Run(ctx, Cmd{Script: takesBlocks})
	var exit *ExitError
	if err != nil && !errors.As(err, &exit) {
		return false, err
	}
	w.asked, w.fit = true, err == nil
	return w.fit, nil
}

// brought says how much of the file $1 there is, once that is on disk. Where sync(1) takes no file it writes everything;
// where it says that a disk fails it is believed.
const brought = `brought() {
	true >>"$1" || return
	trouble=$(sync -- "$1" 2>&1) || case $trouble in
	*rror* | *space* | *quota*) echo "$trouble" >&2; return 1 ;;
	*) sync || return ;;
	esac
	wc -c <"$1"
}
`

// writeAlone is Write over one channel, for a host of a plainer dd. A line that breaks ends it.
func (h *Host) writeAlone(ctx context.Context, file string, r io.Reader, size int64) error {
	var out strings.Builder
	err := h.Run(ctx, Cmd{Script: brought + `umask 077; cat >"$1" && brought "$1"`, Args: []string{file},
		Env: map[string]string{"LC_ALL": "C"}, Stdin: &exactly{r: r, want: size}, Stdout: &out})
	if err != nil {
		return fmt.Errorf("%s on %s: %w", file, h.spec.Name, err)
	}
	return h.counted(file, size, out.String())
}

// counted holds the size that the host has counted against the one that was sent.
func (h *Host) counted(file string, size int64, text string) error {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return fmt.Errorf("%s on %s: not a size: %q", file, h.spec.Name, text)
	}
	if n != size {
		return &SizeError{Host: h.spec.Name, File: file, Want: size, Size: n}
	}
	return nil
}

// exactly is an input that fails unless it has so many bytes.
type exactly struct {
	r       io.Reader
	n, want int64
}

func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.n += int64(n)
	if e.n > e.want || err == io.EOF && e.n < e.want {
		return 0, fmt.Errorf("it has %d bytes instead of %d", e.n, e.want)
	}
	return n, err
}

// sending is one Write. What follows wake is guarded by writers.mu.
type sending struct {
	file string
	size int64
	wake chan struct{}

	owed  int    // chunks that are not confirmed
	found string // the size that the host has counted
	err   error  // nothing more is sent
}

// chunk is a part of a file that is sent at once, and stays in memory until the host has confirmed it.
type chunk struct {
	of   *sending
	at   int64
	data []byte
	last bool // nothing follows: the file is brought to disk, and counted

	again bool // it was sent before, by a writer that may still hold its data
}

// request is what goes before the data.
func (c *chunk) request() string {
	last := "-"
	if c.last {
		last = "last"
	}
	return fmt.Sprintf("%s %d %d %s\n", last, c.at/block, len(c.data), encode(c.of.file))
}

func (w *writers) write(ctx context.Context, s *sending, r io.Reader) (err error) {
	w.join(s)
	defer func() { w.leave(s, err) }()
	in := &exactly{r: r, want: s.size}
	single := s.size <= int64(w.chunk)
	for at := int64(0); at == 0 || at < s.size; at += int64(w.chunk) {
		c := &chunk{of: s, at: at, last: single}
		if err := w.until(ctx, s, func() bool { return w.lend(c, int(min(int64(w.chunk), s.size-at))) }); err != nil {
			return err
		}
		if err := fill(in, c.data, at+int64(len(c.data)) == s.size); err != nil {
			w.giveBack(c)
			return fmt.Errorf("%s on %s: reading the input: %w", s.file, w.host.spec.Name, err)
		}
		w.post(c)
	}
	if err := w.until(ctx, s, func() bool { return s.owed == 0 }); err != nil {
		return err
	}
	if !single {
		w.post(&chunk{of: s, last: true})
		if err := w.until(ctx, s, func() bool { return s.owed == 0 }); err != nil {
			return err
		}
	}
	return w.host.counted(s.file, s.size, s.found)
}

// fill reads all of data, and the end of the input behind the last of it.
func fill(in io.Reader, data []byte, last bool) error {
	if _, err := io.ReadFull(in, data); err != nil {
		return err
	}
	if last {
		if _, err := io.ReadFull(in, make([]byte, 1)); err != io.EOF {
			return err
		}
	}
	return nil
}

// until waits for what ready, which is called with w.mu held, says of a Write.
func (w *writers) until(ctx context.Context, s *sending, ready func() bool) error {
	for {
		w.mu.Lock()
		err, ok := s.err, s.err == nil && ctx.Err() == nil && ready()
		w.mu.Unlock()
		if err != nil || ok {
			return err
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return fmt.Errorf("%s on %s: %w", s.file, w.host.spec.Name, ctx.Err())
		case <-w.host.life.Done():
			return w.host.errClosed()
		}
	}
}

func (s *sending) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// gaveUp fails everybody who writes.
func (w *writers) gaveUp(why error) {
	for _, s := range w.sendings {
		s.err = run.Fail(run.Unreachable, run.HintOf(why), "writing to %s: nothing arrived in %d attempts: %w", w.host.spec.Name, w.attempts, why)
		s.rouse()
	}
}
