package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"rehearsal/internal/run"
)

const (
	// sessionsPerConnection is below sshd's default MaxSessions 10, with room for ending a command.
	sessionsPerConnection = 8
	// sessionsThroughJump is less: all sessions of a connection share the one channel through the jump host, and
	// a channel carries at most its window of 2 MiB per round trip (x/crypto ssh/channel.go, channelWindowSize).
	sessionsThroughJump = 2
	// maxDials is below sshd's default MaxStartups 10, above which it drops some who are logging in.
	maxDials = 4
)

// grant answers one waiter for a session.
type grant struct {
	c   *conn
	err error
}

// session opens a session on a connection that has room, and dials another connection where none has. A host
// that allows fewer sessions than we thought teaches us how many. Release must be called once with the conn.
func (h *Host) session(ctx context.Context) (session, *conn, error) {
	for attempt := 0; ; attempt++ {
		c, err := h.take(ctx)
		if err != nil {
			return nil, nil, err
		}
		s, err := c.open(ctx)
		if err == nil {
			return s, c, nil
		}
		var refused *ssh.OpenChannelError
		alone := h.returned(c, errors.As(err, &refused))
		switch {
		case ctx.Err() != nil:
			return nil, nil, fmt.Errorf("waiting for a session on %s: %w", h.spec.Name, ctx.Err())
		case refused == nil:
			lost := c.lost()
			if lost == nil {
				return nil, nil, fmt.Errorf("opening a session on %s: %w", h.spec.Name, err)
			}
			if attempt > 0 {
				return nil, nil, lost
			}
			// Nothing has been started on that connection: another one will do.
		case alone && attempt == 6:
			return nil, nil, run.Fail(run.Unreachable, "see MaxSessions in the host's sshd_config; it has to be 1 or more", "%s opens no session: %w", h.spec.Name, err)
		case alone: // sshd may not have forgotten the session before yet
			c.sleep(10 * time.Millisecond << attempt)
		}
	}
}

// openAhead opens a session for whoever comes next, which saves a round trip. Not where the server had to refuse one: it
// may have room for one session alone.
func (c *conn) openAhead() {
	s, err := c.newSession()
	if err != nil {
		c.full.Store(true)
		return
	}
	select {
	case c.spare <- s:
	default:
		s.Close()
	}
}

// open is newSession with a context, or the session that was opened ahead. One that comes too late is closed.
func (c *conn) open(ctx context.Context) (session, error) {
	select {
	case s := <-c.spare:
		if !c.full.Load() {
			go c.openAhead()
		}
		return s, nil
	default:
	}
	type result struct {
		s   session
		err error
	}
	opened := make(chan result, 1)
	go func() {
		s, err := c.newSession()
		opened <- result{s, err}
	}()
	select {
	case r := <-opened:
		return r.s, r.err
	case <-c.gone: // one that is asked for in that moment may never be answered
		return nil, c.lost()
	case <-ctx.Done():
		go func() {
			if r := <-opened; r.err == nil {
				r.s.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// take reserves room for a session on a connection.
func (h *Host) take(ctx context.Context) (*conn, error) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, h.errClosed()
	}
	if c := h.free(); c != nil {
		c.sessions++
		h.mu.Unlock()
		return c, nil
	}
	mine := make(chan grant, 1)
	h.queue = append(h.queue, mine)
	h.grow()
	h.mu.Unlock()
	select {
	case g := <-mine:
		return g.c, g.err
	case <-ctx.Done():
		h.leave(mine)
		return nil, fmt.Errorf("waiting for a session on %s: %w", h.spec.Name, ctx.Err())
	}
}

// leave gives up a place in the queue, or what was granted meanwhile.
func (h *Host) leave(mine chan grant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.queue, mine); i >= 0 {
		h.queue = slices.Delete(h.queue, i, i+1)
	} else if g := <-mine; g.err == nil {
		g.c.sessions--
		h.serve()
	}
}

func (h *Host) release(c *conn) { h.returned(c, false) }

// returned gives back the room for a session. Where the host refused to open it though others are open on
// that connection, their number is the host's limit; returned tells whether none was.
func (h *Host) returned(c *conn, refused bool) (alone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.sessions--
	if refused && c.sessions > 0 {
		h.limit = min(h.limit, c.sessions)
	}
	h.serve()
	return c.sessions == 0
}

// free is the connection with the most room, or nil. h.mu is held, as in all that follows.
func (h *Host) free() *conn {
	var best *conn
	for _, c := range h.conns {
		if c.up() && c.sessions < h.limit && (best == nil || c.sessions < best.sessions) {
			best = c
		}
	}
	return best
}

// serve hands out what room there is, and dials where it does not suffice.
func (h *Host) serve() {
	for len(h.queue) > 0 {
		c := h.free()
		if c == nil {
			break
		}
		c.sessions++
		h.queue[0] <- grant{c: c}
		h.queue = h.queue[1:]
	}
	h.grow()
}

// refuse answers the n first in the queue with an error.
func (h *Host) refuse(n int, err error) {
	for _, waiting := range h.queue[:n] {
		waiting <- grant{err: err}
	}
	h.queue = h.queue[n:]
}

// grow dials what the queue needs beyond what is being dialled for it already.
func (h *Host) grow() {
	for !h.closed && h.dialling < maxDials && h.dialling*h.limit < len(h.queue) {
		h.dialling++
		h.tasks.Go(h.dialAnother)
	}
}

func (h *Host) dialAnother() {
	c, err := h.another(h.life)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dialling--
	if err != nil {
		h.refuse(min(h.limit, len(h.queue)), err)
	} else {
		h.adopt(c)
	}
	h.serve()
}

// adopt takes a connection into use until it ends, or ends it where Close was faster.
func (h *Host) adopt(c *conn) {
	if h.closed {
		c.drop(h.errClosed())
		return
	}
	h.conns = append(h.conns, c)
	go c.openAhead()
	h.tasks.Go(func() {
		<-c.gone
		h.mu.Lock()
		defer h.mu.Unlock()
		h.conns = slices.DeleteFunc(h.conns, func(other *conn) bool { return other == c })
		h.serve()
	})
}
