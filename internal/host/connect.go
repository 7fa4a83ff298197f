package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/melbahja/goph"
	"golang.org/x/crypto/ssh"

	"rehearsal/internal/run"
)

// Variables, so that a test need not wait as long.
var (
	// patience is for TCP connect and key exchange together. ssh.ClientConfig.Timeout covers the
	// first alone: a server that accepts and says nothing would hold us for ever (golang/go#15113).
	patience = 15 * time.Second
	// deliberation is for authentication, once the host key is proved: a host that asks a directory or a name server
	// which does not answer lets us in all the same, later. LoginGraceTime is 120 seconds by default.
	deliberation = 45 * time.Second
	// heartbeat is how often an idle connection is asked for a sign of life; two unanswered ones end it. A line
	// that dies is noticed after two to three heartbeats: OpenSSH's ServerAliveInterval 15, CountMax 3.
	heartbeat = 15 * time.Second
)

// conn is one connection to a host. goph's own dialling has no timeout, jump host or choice of host key
// algorithms, so we dial and hand the client over.
type conn struct {
	wire
	ssh      *secure // the wire again, for what SSH alone has; nil where the host is this machine
	sessions int     // guarded by Host.mu

	spare chan session // one that was opened ahead
	full  atomic.Bool  // a session was refused

	gone  chan struct{}         // closed when the connection has ended
	ended atomic.Pointer[error] // why; set before gone is closed
}

func newConn(w wire) *conn {
	c := &conn{wire: w, spare: make(chan session, 1), gone: make(chan struct{})}
	c.ssh, _ = w.(*secure)
	return c
}

// connect dials, proves the host key and logs in. A server that hangs up before it says a word is dialled again a few
// times: MaxStartups drops whoever comes while others log in.
func (h *Host) connect(ctx context.Context) (*conn, error) {
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		c, err := h.connectOnce(ctx)
		if !errors.Is(err, errTurnedAway) || pause > longestPause {
			return c, err
		}
		select {
		case <-time.After(pause + rand.N(pause)):
		case <-ctx.Done():
			return nil, fmt.Errorf("connecting to %s: %w", h.spec.Name, ctx.Err())
		}
	}
}

// longestPause ends the dialling after some five seconds.
const longestPause = 2 * time.Second

// errTurnedAway is a server that hung up before it began to speak SSH.
var errTurnedAway = errors.New("it hung up before it spoke SSH")

func (h *Host) connectOnce(ctx context.Context) (*conn, error) {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var greeted atomic.Bool
	slow := time.AfterFunc(patience, func() { cancel(h.tooSlow(greeted.Load())) })
	defer slow.Stop()
	c, err := h.handshake(limited, func() {
		greeted.Store(true)
		slow.Reset(deliberation)
	})
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("connecting to %s: %w", h.spec.Name, ctx.Err())
	case limited.Err() != nil:
		return nil, context.Cause(limited)
	}
	return nil, err
}

func (h *Host) tooSlow(greeted bool) error {
	if greeted {
		return run.Fail(run.Unreachable, "look at what its sshd asks for each login: UseDNS, PAM, AuthorizedKeysCommand. Try `"+h.trySSH()+"`",
			"%s (%s) proved its host key and did not decide within %v whether to let us in", h.spec.Name, h.route.address(), deliberation)
	}
	return run.Fail(run.Unreachable, "is the host up, and an SSH server on that port? Try `"+h.trySSH()+"`",
		"%s (%s) did not let us in within %v", h.spec.Name, h.route.address(), patience)
}

// handshake calls greeted once the host key is proved.
func (h *Host) handshake(ctx context.Context, greeted func()) (*conn, error) {
	t, err := h.trust()
	if err != nil {
		return nil, err
	}
	ids, err := h.identify(ctx)
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
	l := &line{Conn: raw, opening: &opening{}}
	l.heard.Store(time.Now().UnixNano())
	var banner string
	sshConn, channels, requests, err := ssh.NewClientConn(l, h.route.address(), &ssh.ClientConfig{
		Config:            ssh.Config{KeyExchanges: keyExchanges},
		User:              h.route.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(ids.signers(l.opening)...)},
		HostKeyAlgorithms: t.algorithms,
		HostKeyCallback: func(hostname string, remote net.Addr, key ssh.PublicKey) error {
			err := t.check(hostname, remote, key)
			if err == nil {
				greeted()
			}
			return err
		},
		BannerCallback: func(message string) error { banner = message; return nil }, // the last one tells of an expired account
	})
	switch {
	case err == nil && stop():
		c := newConn(&secure{Client: &goph.Client{Client: ssh.NewClient(sshConn, channels, requests)}, line: l})
		h.attend(c)
		h.keepAlive(c)
		h.knows(ids.used)
		return c, nil
	case err == nil: // it came too late
		sshConn.Close()
		return nil, ctx.Err()
	case t.refusal != nil:
		return nil, t.refusal
	case t.verified && ctx.Err() == nil:
		return nil, h.notLetIn(ids, banner, err)
	}
	return nil, h.notGreeted(l.greeting(), err)
}

// keyExchanges are all that x/crypto holds safe: by itself it leaves out diffie-hellman-group16-sha512 and
// -group-exchange-sha256, which some hardened hosts have alone. The last is for hosts with an OpenSSH before 6.5.
var keyExchanges = append(ssh.SupportedAlgorithms().KeyExchanges, ssh.InsecureKeyExchangeDH14SHA1)

// notGreeted says why a server did not get as far as its host key.
func (h *Host) notGreeted(greeting string, err error) error {
	var algorithms *ssh.AlgorithmNegotiationError
	name, address := h.spec.Name, h.route.address()
	switch {
	case errors.As(err, &algorithms):
		return h.tooOld(algorithms)
	case strings.Contains(greeting, "SSH-"):
		return run.Fail(run.Unreachable, fmt.Sprintf("see LoginGraceTime in sshd_config of %s: a login takes several round trips. Its sshd log tells more", name),
			"%s (%s) hung up while we logged in: %w", name, address, err)
	case greeting == "", strings.Contains(greeting, "MaxStartups"), strings.Contains(greeting, "Not allowed at this time"): // sshd.c
		return run.Fail(run.Unreachable, fmt.Sprintf("start again later, or raise MaxStartups in sshd_config of %s: others who are logging in use it up. "+
			"Or this machine is shut out, by PerSourcePenalties, fail2ban or hosts.deny. Its sshd log tells which", name),
			"talking to %s (%s): %w, several times: %w", name, address, errTurnedAway, err)
	}
	return run.Fail(run.Unreachable, "is that an SSH server? Try `"+h.trySSH()+"`", "talking to %s (%s): %w", name, address, err)
}

// tooOld says which algorithms we would need; what is no algorithm in the lists (RFC 8308, 2.1) does not help anybody.
func (h *Host) tooOld(e *ssh.AlgorithmNegotiationError) error {
	list := func(algorithms []string) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(algorithms), func(a string) bool {
			return strings.HasPrefix(a, "ext-info-") || strings.HasPrefix(a, "kex-strict-")
		}), ", ")
	}
	keyword := "Ciphers"
	switch {
	case e.What == "key exchange":
		keyword = "KexAlgorithms"
	case e.What == "host key":
		keyword = "HostKeyAlgorithms (and make such a key: ssh-keygen -A)"
	case strings.HasSuffix(e.What, "MAC"):
		keyword = "MACs"
	}
	return run.Fail(run.Unreachable, fmt.Sprintf("update OpenSSH on %s, or let %s in its sshd_config have one of %s", h.spec.Name, keyword, list(e.SupportedAlgorithms)),
		"%s (%s) has no %s that is safe: it offers %s", h.spec.Name, h.route.address(), e.What, list(e.RequestedAlgorithms))
}

// notLetIn says why a server that we know did not let us in. It tells us little, by design; its log tells more.
func (h *Host) notLetIn(ids *identities, banner string, err error) error {
	refused := ids.refused(h.route, err)
	if banner = strings.Join(strings.Fields(banner), " "); banner != "" {
		refused = fmt.Errorf("%w; it says %q", refused, shorten(banner))
	}
	others := "AllowUsers, AllowGroups, an expired account, a login shell that is not there"
	if h.route.user == "root" {
		others = "PermitRootLogin, " + others
	}
	if !strings.Contains(err.Error(), "unable to authenticate") { // it ended the connection
		others = "MaxAuthTries and more keys than that, LoginGraceTime, an account that PAM does not take, " + others
	}
	return run.Fail(run.Unreachable, fmt.Sprintf("%s; the sshd log of %s tells if it is something else: %s", run.HintOf(refused), h.spec.Name, others), "%w", refused)
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

// line is the network connection below an SSH connection. It notes when the other side was last heard, and how it began.
type line struct {
	net.Conn
	heard atomic.Int64

	mu      sync.Mutex
	first   []byte
	opening *opening
}

func (l *line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.heard.Store(time.Now().UnixNano())
		l.note(p[:n])
	}
	return n, err
}

// note keeps what comes first: an SSH server's version, or what another server, or one that is busy, has to say.
func (l *line) note(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	const most = 256
	l.opening.take(p)
	l.first = append(l.first, p[:min(len(p), most-len(l.first))]...)
}

func (l *line) greeting() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.first)
}

func (l *line) silence() time.Duration { return time.Since(time.Unix(0, l.heard.Load())) }

// attend notices the end of a connection.
func (h *Host) attend(c *conn) {
	h.tasks.Go(func() {
		err := c.wait()
		c.end(h.errLost(err))
		close(c.gone)
	})
}

// keepAlive notices the end of a line that does not tell.
func (h *Host) keepAlive(c *conn) {
	h.tasks.Go(func() { c.ping(heartbeat) })
	h.tasks.Go(func() { h.listen(c, heartbeat) })
}

// ping makes an idle peer say something. An answer that hangs blocks it until listen ends the connection.
func (c *conn) ping(every time.Duration) {
	for c.sleep(every) {
		if c.silence() >= every {
			c.ask()
		}
	}
}

// listen ends a connection that was silent for two heartbeats. It goes by any byte received and not by the
// answers to ping: those queue behind data, for minutes on a slow line.
func (h *Host) listen(c *conn, every time.Duration) {
	for c.sleep(every) {
		if c.silence() >= 2*every {
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

// drop ends the connection.
func (c *conn) drop(why error) {
	c.end(why)
	c.cut()
}

// lost is the reason why the connection ended, or nil while it is up. What ran on it may hear of the end a
// moment before the connection does.
func (c *conn) lost() error {
	select {
	case <-c.gone:
	case <-time.After(100 * time.Millisecond):
	}
	if why := c.ended.Load(); why != nil {
		return *why
	}
	return nil
}

func (h *Host) errLost(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	} else {
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	}
	return run.Fail(run.Unreachable, "start again; if it happens again, look at the network between and at the host's sshd log", "the connection to %s was lost: %w", h.spec.Name, err)
}
