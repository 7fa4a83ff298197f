package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"rehearsal/internal/run"
)

// ErrNoAgent is an sshd that forwards no agent.
var ErrNoAgent = errors.New("its sshd forwards no agent")

// lend opens a session whose command has an agent, on a connection of its own: sshd forwards one agent for all sessions
// of a connection (session.c, session_auth_agent_req), and ends its socket with it.
func (h *Host) lend(ctx context.Context, lent *Host) (session, *conn, func(), error) {
	l, err := newLoan(lent)
	if err != nil {
		return nil, nil, nil, err
	}
	done, err := h.busy()
	if err != nil {
		return nil, nil, nil, err
	}
	defer done()
	c, release, err := h.alone(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.drop(ctx.Err()) })
	s, err := h.forward(c, l)
	if !stop() {
		err = fmt.Errorf("waiting for a session on %s: %w", h.spec.Name, ctx.Err())
	}
	if err != nil {
		release()
		return nil, nil, nil, err
	}
	return s, c, release, nil
}

// busy has Close wait until done.
func (h *Host) busy() (done func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, h.errClosed()
	}
	h.tasks.Add(1)
	return h.tasks.Done, nil
}

// alone makes a connection that is nobody else's. It ends with release, or with Close.
func (h *Host) alone(ctx context.Context) (c *conn, release func(), err error) {
	dialling, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.life, cancel)()
	c, err = h.another(dialling)
	switch {
	case err != nil && h.life.Err() != nil:
		return nil, nil, h.errClosed()
	case err != nil:
		return nil, nil, err
	}
	forget := context.AfterFunc(h.life, func() { c.drop(h.errClosed()) })
	return c, func() { forget(); c.drop(h.errClosed()) }, nil
}

// forward opens a session with an agent that serves a loan.
func (h *Host) forward(c *conn, l *loan) (*ssh.Session, error) {
	if c.ssh == nil {
		return nil, fmt.Errorf("%s is this machine, and not for lending a key to", h.spec.Name)
	}
	wanted := c.ssh.HandleChannelOpen("auth-agent@openssh.com")
	s, err := c.ssh.NewSession()
	if err != nil {
		return nil, h.notForwarded(c, err)
	}
	switch ok, err := s.SendRequest("auth-agent-req@openssh.com", true, nil); {
	case err != nil:
		return nil, h.notForwarded(c, err)
	case !ok:
		return nil, run.Fail(run.Unreachable, h.letForwardAgent(), "lending a key to a command on %s: %w", h.spec.Name, ErrNoAgent)
	}
	l.way = c.ssh.line.opening.binding(c.ssh.SessionID())
	l.way.Forwarding = true
	h.tasks.Go(func() { l.serve(h, wanted) })
	return s, nil
}

func (h *Host) notForwarded(c *conn, err error) error {
	if lost := c.lost(); lost != nil {
		err = lost
	}
	return fmt.Errorf("lending a key to a command on %s: %w", h.spec.Name, err)
}

func (h *Host) letForwardAgent() string {
	user := Quote(h.route.user)
	return fmt.Sprintf("let %s forward an agent on %s: AllowAgentForwarding yes and DisableForwarding no in sshd_config, and its key in authorized_keys without "+
		"no-agent-forwarding, and without restrict where there is no agent-forwarding. As root there: sshd -T -C user=%s,host=localhost,addr=127.0.0.1 | grep -iE 'allowagent|disablefor'",
		user, h.spec.Name, user)
}

// loan is a key that is lent for logging in to one host as one user. An agent that serves it tells of that one key, and
// signs nothing but a request to log in so (RFC 4252, 7), in a session of which the host itself has signed that it is with
// the host.
type loan struct {
	of      *Host
	key     ssh.PublicKey
	way     binding // to the machine that the key is lent to
	refused sync.Once
	serving atomic.Int32
}

func newLoan(lent *Host) (*loan, error) {
	key, err := lent.key()
	if err != nil {
		return nil, err
	}
	return &loan{of: lent, key: key}, nil
}

// mostAgents is how many connections to the agent are served at once. Each lasts for a login.
const mostAgents = 16

// serve takes the connections to the agent, until the connection that they come over ends.
func (l *loan) serve(h *Host, wanted <-chan ssh.NewChannel) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for channel := range wanted {
		if l.serving.Add(1) > mostAgents {
			l.serving.Add(-1)
			_ = channel.Reject(ssh.ResourceShortage, "too many at once")
			continue
		}
		h.tasks.Go(func() {
			defer l.serving.Add(-1)
			at, requests, err := channel.Accept()
			if err != nil {
				return
			}
			go ssh.DiscardRequests(requests)
			defer at.Close()
			(&visit{loan: l}).serve(ctx, at)
		})
	}
}

// visit is one connection to the agent. Like OpenSSH's agent, it signs for the one session that it has been bound to.
type visit struct {
	*loan
	bound *binding
}

// Messages of the agent's protocol: draft-ietf-sshm-ssh-agent, 6.1.
const (
	agentFailure           = 5
	agentSuccess           = 6
	agentRequestIdentities = 11
	agentIdentitiesAnswer  = 12
	agentSignRequest       = 13
	agentSignResponse      = 14
	agentExtension         = 27

	longestRequest = 256 << 10 // of OpenSSH's agent
)

// serve answers requests until there are no more. x/crypto's own server would log, and take apart what we refuse.
func (v *visit) serve(ctx context.Context, at io.ReadWriter) {
	for {
		var length [4]byte
		if _, err := io.ReadFull(at, length[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(length[:])
		if n == 0 || n > longestRequest {
			return
		}
		var request bytes.Buffer // not made before it comes
		if _, err := io.CopyN(&request, at, int64(n)); err != nil {
			return
		}
		answer, err := v.answer(ctx, request.Bytes())
		if err != nil {
			v.refuse(err)
			answer = []byte{agentFailure}
		}
		if _, err := at.Write(ssh.Marshal(struct{ Answer []byte }{answer})); err != nil {
			return
		}
	}
}

// refuse says once why somebody did not get what they asked for.
func (l *loan) refuse(why error) {
	l.refused.Do(func() {
		if l.of.warn != nil {
			l.of.warn("the key that is lent for logging in to %s as %s was asked for something else: %v", l.of.spec.Name, l.of.route.user, why)
		}
	})
}

func (v *visit) answer(ctx context.Context, request []byte) ([]byte, error) {
	switch request[0] {
	case agentRequestIdentities:
		key := ssh.Marshal(struct {
			Blob    []byte
			Comment string
		}{v.key.Marshal(), v.of.spec.Name})
		return append([]byte{agentIdentitiesAnswer, 0, 0, 0, 1}, key...), nil
	case agentExtension:
		return v.extend(request)
	case agentSignRequest:
		signature, err := v.sign(ctx, request)
		if err != nil {
			return nil, err
		}
		return append([]byte{agentSignResponse}, ssh.Marshal(struct{ Signature []byte }{ssh.Marshal(signature)})...), nil
	}
	return nil, fmt.Errorf("request %d to an agent", request[0])
}

// extend binds the visit to a session.
func (v *visit) extend(request []byte) ([]byte, error) {
	var extension struct {
		Name string `sshtype:"27"`
		Rest []byte `ssh:"rest"`
	}
	var b binding
	if err := ssh.Unmarshal(request, &extension); err != nil {
		return nil, err
	}
	if extension.Name != sessionBind { // anybody may ask what an agent knows
		return []byte{agentFailure}, nil
	}
	if err := ssh.Unmarshal(extension.Rest, &b); err != nil {
		return nil, err
	}
	if err := v.bind(b); err != nil {
		return nil, err
	}
	return []byte{agentSuccess}, nil
}

func (v *visit) bind(b binding) error {
	if v.bound != nil {
		return errors.New("a second session over one connection to the agent")
	}
	if b.Forwarding {
		return errors.New("passing it on")
	}
	key, err := b.proved()
	if err != nil {
		return fmt.Errorf("a session whose host key did not sign it: %w", err)
	}
	t, err := v.of.trust()
	if err != nil {
		return err
	}
	if err := t.check(t.name, address{"tcp", v.of.route.address()}, key); err != nil {
		return fmt.Errorf("a login elsewhere: %w", err)
	}
	v.bound = &b
	return nil
}

// signRequest is SSH_AGENTC_SIGN_REQUEST.
type signRequest struct {
	Key   []byte `sshtype:"13"`
	Data  []byte
	Flags uint32
}

// loginRequest is what is signed to log in with a key (RFC 4252, 7). The method that binds it to the host key (PROTOCOL of
// OpenSSH, 3.1) has that key behind.
type loginRequest struct {
	Session   []byte
	Message   byte
	User      string
	Service   string
	Method    string
	Signed    bool
	Algorithm string
	Key       []byte
	Rest      []byte `ssh:"rest"`
}

const (
	msgUserauthRequest = 50
	publicKey          = "publickey"
	hostBound          = "publickey-hostbound-v00@openssh.com"
)

func (v *visit) sign(ctx context.Context, request []byte) (*ssh.Signature, error) {
	var r signRequest
	if err := ssh.Unmarshal(request, &r); err != nil {
		return nil, err
	}
	if err := v.permits(r); err != nil {
		return nil, err
	}
	return v.of.sign(ctx, v.key, []binding{v.way, *v.bound}, r)
}

// permits holds a request to sign against the loan.
func (v *visit) permits(r signRequest) error {
	var login loginRequest
	own := v.key.Marshal()
	if !bytes.Equal(r.Key, own) {
		return errors.New("a signature of another key")
	}
	if err := ssh.Unmarshal(r.Data, &login); err != nil || login.Message != msgUserauthRequest {
		return errors.New("a signature of what is no login")
	}
	switch {
	case v.bound == nil:
		return errors.New("a login by a program that does not say which host it is to: OpenSSH's does since 8.9")
	case !bytes.Equal(login.Session, v.bound.Session):
		return errors.New("a login in another session")
	case login.User != v.of.route.user:
		return fmt.Errorf("a login as %q", login.User)
	case login.Service != "ssh-connection" || !login.Signed || !bytes.Equal(login.Key, own):
		return errors.New("a login of another kind")
	case login.Method == publicKey && len(login.Rest) == 0:
		return nil
	case login.Method == hostBound && bytes.Equal(login.Rest, ssh.Marshal(struct{ HostKey []byte }{v.bound.HostKey})):
		return nil
	}
	return fmt.Errorf("a login by the method %q", login.Method)
}

// sign has the key sign that once logged us in. The agent here, if it is that which holds the key, hears of all of the way.
func (h *Host) sign(ctx context.Context, key ssh.PublicKey, way []binding, r signRequest) (*ssh.Signature, error) {
	if h.life.Err() != nil {
		return nil, h.errClosed()
	}
	ids, err := h.identify(ctx)
	if err != nil {
		return nil, err
	}
	defer ids.Close()
	algorithm := ""
	switch flags := agent.SignatureFlags(r.Flags); {
	case flags&agent.SignatureFlagRsaSha512 != 0:
		algorithm = ssh.KeyAlgoRSASHA512
	case flags&agent.SignatureFlagRsaSha256 != 0:
		algorithm = ssh.KeyAlgoRSASHA256
	}
	return ids.signed(key, way, r.Data, algorithm)
}
