package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	"golang.org/x/crypto/ssh"

	"rehearsal/internal/run"
)

// DialContext connects to a socket as the host sees it: network "unix" with a path or "tcp" with host:port.
// The host's user is the one a Unix socket's peer sees. An SSH channel refuses deadlines, so that a context
// never stops a query; this connection knows them, and its RemoteAddr is addr, as pgconn.CancelRequest needs.
func (h *Host) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if h.here {
		return h.dialHere(ctx, network, addr)
	}
	c, err := h.any(ctx)
	if err != nil {
		return nil, err
	}
	channel, err := c.ssh.DialContext(ctx, network, addr)
	if err != nil {
		return nil, h.explainRefusal(ctx, c, network, addr, err)
	}
	near, far := net.Pipe()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed { // nobody would wait for the copying
		channel.Close()
		return nil, h.errClosed()
	}
	var once sync.Once
	shut := func() { once.Do(func() { channel.Close(); far.Close() }) }
	h.tasks.Go(func() { defer shut(); _, _ = io.Copy(far, channel) })
	h.tasks.Go(func() { defer shut(); _, _ = io.Copy(channel, far) })
	return &tunnel{Conn: near, conn: c, remote: address{network, addr}}, nil
}

// any is a connection for a channel that is no session: MaxSessions does not count it.
func (h *Host) any(ctx context.Context) (*conn, error) {
	h.mu.Lock()
	i := slices.IndexFunc(h.conns, (*conn).up)
	if i >= 0 {
		defer h.mu.Unlock()
		return h.conns[i], nil
	}
	h.mu.Unlock()
	c, err := h.take(ctx)
	if err == nil {
		h.release(c)
	}
	return c, err
}

func (h *Host) explainRefusal(ctx context.Context, c *conn, network, addr string, err error) error {
	var refused *ssh.OpenChannelError
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case !errors.As(err, &refused):
		if lost := c.lost(); lost != nil {
			err = lost
		}
	case refused.Reason == ssh.Prohibited:
		return run.Fail(run.Unreachable, h.letForward("AllowTcpForwarding local, PermitOpen any or "+addr+", DisableForwarding no"), "connecting to %s on %s: its sshd forbids it", addr, h.spec.Name)
	case network == "unix":
		return h.explainSocket(ctx, c, addr)
	default:
		err = errors.New(refused.Message)
	}
	return fmt.Errorf("connecting to %s on %s: %w", addr, h.spec.Name, err)
}

// ErrRefused is a Unix socket that nobody listens on, or that is not there.
var ErrRefused = errors.New("connection refused or no such file")

// lookAtSocket exits with 0 where somebody listens on $1, 1 where it is no socket, 2 where only the file is certain:
// /proc/net/unix is Linux's, and does not show the sockets of containers. It exits with 3 where we may not connect, for
// which unix(7) asks for the right to write.
const lookAtSocket = `[ -S "$1" ] || exit 1; [ -w "$1" ] || exit 3; grep -qF -- " $1" /proc/net/unix 2>/dev/null || exit 2`

// explainSocket finds out why sshd did not connect to a socket: it gives one answer, "open failed", to a path
// that is not there and to a forwarding that it forbids (serverloop.c, server_request_direct_streamlocal).
func (h *Host) explainSocket(ctx context.Context, c *conn, path string) error {
	err := h.Run(ctx, Cmd{Script: lookAtSocket, Args: []string{path}})
	var exit *ExitError
	switch forbidden := h.letForward("AllowTcpForwarding local, PermitOpen any, AllowStreamLocalForwarding local, DisableForwarding no"); {
	case err == nil:
		if c.forwardsTCP(ctx) {
			forbidden = h.letForward("AllowStreamLocalForwarding local")
		}
		return run.Fail(run.Unreachable, forbidden, "connecting to %s on %s: its sshd forbids it", path, h.spec.Name)
	case errors.As(err, &exit) && exit.Status == 2:
		return run.Fail(run.Unreachable, "if its server is up, "+forbidden, "connecting to %s on %s: the socket is there, but %w", path, h.spec.Name, ErrRefused)
	case errors.As(err, &exit) && exit.Status == 3:
		return h.keptOut(path)
	case errors.As(err, &exit):
		err = ErrRefused
	}
	return fmt.Errorf("connecting to %s on %s: %w", path, h.spec.Name, err)
}

func (h *Host) keptOut(path string) error {
	return run.Fail(run.Unreachable, fmt.Sprintf("let %s write to it: unix_socket_permissions and unix_socket_group in postgresql.conf", h.route.user),
		"connecting to %s on %s: its permissions keep %s out", path, h.spec.Name, h.route.user)
}

// forwardsTCP tells whether sshd connects to TCP ports for us. What forbids those forbids Unix sockets too, all but
// AllowStreamLocalForwarding (channels.c, channel_connect_to_path). As a rule nobody listens on port 1; an answer that
// it refuses the connection is enough.
func (c *conn) forwardsTCP(ctx context.Context) bool {
	channel, err := c.ssh.DialContext(ctx, "tcp", "127.0.0.1:1")
	if err == nil {
		channel.Close()
		return true
	}
	var refused *ssh.OpenChannelError
	return errors.As(err, &refused) && refused.Reason == ssh.ConnectionFailed
}

// letForward is what gives us a socket of a host, by settings in its sshd_config; sshd does not tell which is missing.
func (h *Host) letForward(settings string) string {
	user := Quote(h.route.user)
	return fmt.Sprintf("let %s forward on %s: %s in sshd_config, and its key in authorized_keys without no-port-forwarding, and without restrict "+
		"where there is no port-forwarding. As root there: sshd -T -C user=%s,host=localhost,addr=127.0.0.1 | grep -iE 'forward|permitopen'",
		user, h.spec.Name, settings, user)
}

// tunnel is one end of a pipe to a channel. The end of its connection is not the end of the data.
type tunnel struct {
	net.Conn
	conn   *conn
	remote address
}

func (t *tunnel) RemoteAddr() net.Addr { return t.remote }

func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if err == io.EOF {
		if lost := t.conn.lost(); lost != nil {
			err = lost
		}
	}
	return n, err
}

// address is a socket as the host sees it.
type address struct{ network, text string }

func (a address) Network() string { return a.network }
func (a address) String() string  { return a.text }
