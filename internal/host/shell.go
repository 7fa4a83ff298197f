package host

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"rehearsal/internal/run"
)

// shell opens a session for a command that answers one request after the other. release gives it back. Opening takes a
// login, where no connection has room, and three round trips: it may take so much longer than logging in.
func (h *Host) shell(ctx context.Context, c Cmd, longer time.Duration) (p *process, release func(), err error) {
	r, err := c.encode()
	if err != nil {
		return nil, nil, err
	}
	limited, cancel := context.WithTimeout(ctx, patience+deliberation+longer)
	defer cancel()
	s, conn, err := h.session(limited)
	if err != nil {
		return nil, nil, because(ctx, err)
	}
	return newProcess(h, conn, s, c, r), func() { s.Close(); h.release(conn) }, nil
}

// converse starts the command and has answer read one answer after the other, until stdout ends. What answer itself says
// is wrong ends the conversation at once; an error of reading is explained by how the command ended.
func (p *process) converse(opened func(), answer func(from *bufio.Reader) error) error {
	stdin, stdout, stderr, err := p.start()
	if err != nil {
		return p.ended(err)
	}
	var noise sync.WaitGroup
	noise.Go(func() { p.readStderr(stderr) })
	go p.feed(stdin) // until the requests end, or the session
	opened()
	from := bufio.NewReaderSize(stdout, 32<<10)
	if _, found := skip(from, p.remote.marker, &p.stdout); found {
		for {
			if err := answer(from); errors.Is(err, errOutOfStep) || errors.Is(err, errRefused) {
				return err
			} else if err != nil {
				break
			}
		}
	}
	err = p.session.Wait()
	noise.Wait()
	if lost := p.conn.lost(); lost != nil {
		return lost
	}
	if err = p.ended(err); err == nil {
		err = run.Fail(run.Unreachable, "look at the host's sshd log", "a shell on %s ended: %w", p.host.spec.Name, io.ErrUnexpectedEOF)
	}
	return err
}

// finish ends a command that answers, and says whether the host has said that it ended, which takes a while at most. It
// ends by itself when it finds its stdin or stdout closed; one that waits for a disk is killed.
func (p *process) finish(done <-chan error) bool {
	p.session.Close()
	soon, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if within(soon, done) {
		return true
	}
	late, cancel := context.WithTimeout(context.Background(), stopping)
	defer cancel()
	select {
	case <-done:
		return true
	case <-p.conn.gone:
		return true
	case pid := <-p.pid:
		return p.host.kill(late, pid) == nil && within(late, done)
	case <-late.Done():
		return false
	}
}

// because is why something failed, which is why ctx ended where it has.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// breaks is what is known of a line that broke under several commands that share their work. Tries begin some time apart,
// however long one takes: what has worked for that long is tried again as soon as it breaks.
type breaks struct {
	// Fields so that a test need not wait as long.
	backoff  time.Duration // between the first tries after a break; doubled for each further one
	attempts int           // in vain, before those who wait fail

	generation int       // of the commands; the next begins when one breaks
	tries      int       // since the last one that got somewhere
	due        time.Time // when the last one was
	pause      time.Time // before which none is opened
}

// settling is for all of a host's connections to end with their line: a try on one that has yet to would be a break more.
const settling = 50 * time.Millisecond

func newBreaks() breaks { return breaks{backoff: 250 * time.Millisecond, attempts: 12} }

// broke takes in that a command ended, of a generation, open or not, while others are open or none is. Of all that one
// break ends, the first counts: the others are of the same generation. One that could not be opened while others are open
// is tried again later, in silence. first says that a person should hear of it, hopeless that there were too many.
func (b *breaks) broke(generation int, open, others bool) (first, hopeless bool) {
	now := time.Now()
	counts := generation == b.generation && (open || !others)
	if counts {
		b.generation++
		b.tries++
		b.due = b.due.Add(min(b.backoff<<min(b.tries-1, 16), longestBackoff))
		if soon := now.Add(settling); b.due.Before(soon) {
			b.due = soon
		}
	}
	switch {
	case counts, !others && b.due.Before(b.pause):
		b.pause = b.due
	case generation == b.generation:
		b.pause = now.Add(longestBackoff)
	}
	return counts && b.tries == 1, b.tries > b.attempts && !others
}
