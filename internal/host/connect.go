package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/melbahja/goph"
	"golang.org/x/crypto/ssh"

	"rehearsal/internal/run"
)

// Variables, so that a test need not wait as long.
var (
	// patience is for TCP connect, key exchange and authentication together. ssh.ClientConfig.Timeout covers the
	// first alone: a server that accepts and says nothing would hold us for ever (golang/go#15113).
	patience = 15 * time.Second
	// heartbeat is how often an idle connection is asked for a sign of life; two unanswered ones end it. A line
	// that dies is noticed after two to three heartbeats: OpenSSH's ServerAliveInterval 15, CountMax 3.
	heartbeat = 15 * time.Second
)

// conn is one SSH connection to a host. goph's own dialling has no timeout, jump host or choice of host key
// algorithms, so we dial and hand the client over.
type conn struct {
	*goph.Client
	line     *line
	sessions int // guarded by Host.mu

	gone  chan struct{}         // closed when the connection has ended
	ended atomic.Pointer[error] // why; set before gone is closed
}

// connect dials, proves the host key and logs in.
func (h *Host) connect(ctx context.Context) (*conn, error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := h.handshake(limited)
	if err == nil {
		return c, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("connecting to %s: %w", h.spec.Name, ctx.Err())
	}
	if limited.Err() != nil {
		return nil, run.Fail(run.Unreachable, "is the host up, and an SSH server on that port? Try `"+h.trySSH()+"`",
			"%s (%s) did not let us in within %v", h.spec.Name, h.route.address(), patience)
	}
	return nil, err
}

func (h *Host) handshake(ctx context.Context) (*conn, error) {
	t, err := newTrust(h.route, h.spec.HostKey)
	if err != nil {
		return nil, err
	}
	ids, err := newIdentities(h.route, h.spec.Identity)
	if err != nil {
		return nil, err
	}
	defer ids.Close()
	raw, err := h.dial(ctx)
	if err != nil {
		return nil, err
	}
	// Closing is what stops a handshake.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	l := &line{Conn: raw}
	l.heard.Store(time.Now().UnixNano())
	sshConn, channels, requests, err := ssh.NewClientConn(l, h.route.address(), &ssh.ClientConfig{
		User:              h.route.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(ids.signers()...)},
		HostKeyCallback:   t.check,
		HostKeyAlgorithms: t.algorithms,
	})
	switch {
	case err == nil && stop():
		c := &conn{Client: &goph.Client{Client: ssh.NewClient(sshConn, channels, requests)}, line: l, gone: make(chan struct{})}
		h.attend(c)
		return c, nil
	case err == nil: // it came too late
		sshConn.Close()
		return nil, ctx.Err()
	case t.refusal != nil:
		return nil, t.refusal
	case t.verified && ctx.Err() == nil:
		return nil, ids.refused(h.route, err)
	}
	return nil, run.Fail(run.Unreachable, "is that an SSH server? Try `"+h.trySSH()+"`", "talking to %s (%s): %w", h.spec.Name, h.route.address(), err)
}

// dial opens the TCP connection, from here or from the jump host.
func (h *Host) dial(ctx context.Context) (net.Conn, error) {
	if h.jump != nil {
		raw, err := h.jump.DialContext(ctx, "tcp", h.route.address())
		if err != nil && !errors.As(err, new(*run.Error)) && ctx.Err() == nil {
			err = run.Fail(run.Unreachable, "is the host up, and is its address right as the jump host sees it? Try `"+h.trySSH()+"`", "reaching %s: %w", h.spec.Name, err)
		}
		return raw, err
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", h.route.address())
	if err != nil {
		return nil, run.Fail(run.Unreachable, "is the host up, and is its address right? Try `"+h.trySSH()+"`", "connecting to %s: %w", h.spec.Name, err)
	}
	return raw, nil
}

// trySSH is the command with which a person sees what we saw.
func (h *Host) trySSH() string {
	args := []string{"ssh", "-v", "-p", h.route.port}
	if h.jump != nil {
		args = append(args, "-J", fmt.Sprintf("%s@%s:%s", h.jump.route.user, h.jump.route.host, h.jump.route.port))
	}
	return Quote(append(args, h.route.user+"@"+h.route.host)...)
}

// line is the network connection below an SSH connection. It notes when the other side was last heard.
type line struct {
	net.Conn
	heard atomic.Int64
}

func (l *line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

func (l *line) silence() time.Duration { return time.Since(time.Unix(0, l.heard.Load())) }

// attend keeps a connection alive, and notices its end.
func (h *Host) attend(c *conn) {
	h.tasks.Go(func() {
		err := c.Wait()
		c.end(h.errLost(err))
		close(c.gone)
	})
	h.tasks.Go(func() { c.ping(heartbeat) })
	h.tasks.Go(func() { h.listen(c, heartbeat) })
}

// ping makes an idle peer say something. An answer that hangs blocks it until listen ends the connection.
func (c *conn) ping(every time.Duration) {
	for c.sleep(every) {
		if c.line.silence() >= every {
			_, _, _ = c.SendRequest("keepalive@openssh.com", true, nil)
		}
	}
}

// listen ends a connection that was silent for two heartbeats. It goes by any byte received and not by the
// answers to ping: those queue behind data, for minutes on a slow line.
func (h *Host) listen(c *conn, every time.Duration) {
	for c.sleep(every) {
		if c.line.silence() >= 2*every {
			c.drop(run.Fail(run.Unreachable, "see whether the host and the network between are up, then start again",
				"%s stopped answering: %w", h.spec.Name, io.ErrUnexpectedEOF))
			return
		}
	}
}

func (c *conn) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.gone:
		return false
	}
}

// up tells whether the connection has not ended yet, as far as we know.
func (c *conn) up() bool { return c.ended.Load() == nil }

// end notes why the connection ended; the first reason counts.
func (c *conn) end(why error) { c.ended.CompareAndSwap(nil, &why) }

// drop ends the connection. The network connection goes first: a polite goodbye would wait for a dead line.
func (c *conn) drop(why error) {
	c.end(why)
	c.line.Close()
	c.Close()
}

// lost is the reason why the connection ended, or nil while it is up. What ran on it may hear of the end a
// moment before the connection does.
func (c *conn) lost() error {
	select {
	case <-c.gone:
		return *c.ended.Load()
	case <-time.After(100 * time.Millisecond):
		return nil
	}
}

func (h *Host) errLost(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	} else {
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	}
	return run.Fail(run.Unreachable, "start again; if it happens again, look at the network between and at the host's sshd log", "the connection to %s was lost: %w", h.spec.Name, err)
}
