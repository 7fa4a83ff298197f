package host

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Access is what another machine needs to log in to a host as we are logged in to it, once it has an agent that signs
// (Cmd.Lend). There is no secret in it.
type Access struct {
	Address    string   `json:"address"`    // host:port, as ssh_config resolves it here
	User       string   `json:"user"`       // never empty
	Name       string   `json:"name"`       // host:port of the host in known_hosts
	HostKeys   []string `json:"host_keys"`  // as in known_hosts, without the host: "ssh-ed25519 AAAA…", "@cert-authority ssh-rsa AAAA…"
	Algorithms []string `json:"algorithms"` // of host keys, the best known first
	Key        string   `json:"key"`        // the public key that was let in, as in authorized_keys
}

const certAuthority = "@cert-authority "

// Access says how we are logged in to the host. It fails, with code Unreachable, where no key has let us in.
func (h *Host) Access() (Access, error) {
	key, err := h.key()
	if err != nil {
		return Access{}, err
	}
	t, err := h.trust()
	if err != nil {
		return Access{}, err
	}
	a := Access{Address: h.route.address(), User: h.route.user, Name: t.name, Algorithms: t.algorithms, Key: authorizedKey(key)}
	for _, known := range t.keys {
		line := authorizedKey(known)
		if known.Cert {
			line = certAuthority + line
		}
		a.HostKeys = append(a.HostKeys, line)
	}
	return a, nil
}

func authorizedKey(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// key is the public half of what has let us in.
func (h *Host) key() (ssh.PublicKey, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.letIn == nil {
		return nil, run.Fail(run.Unreachable, fmt.Sprintf("have %s let %s in by a key alone", h.spec.Name, h.route.user), "no key was needed to log in to %s, so there is none to lend", h.spec.Name)
	}
	return h.letIn, nil
}

func (h *Host) knows(key ssh.PublicKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.letIn = key
}

// DialAccess is Dial by an Access: to that address, without a jump host or ssh_config, believing those host keys alone,
// with that one key of the agent at SSH_AUTH_SOCK. The agent is told which host key the session is bound to before it
// is asked to sign (session-bind@openssh.com), which is what one that is lent asks for.
func DialAccess(ctx context.Context, spec *inventory.Host, a Access) (*Host, error) {
	r := &route{name: spec.Name, user: a.User, agent: os.Getenv("SSH_AUTH_SOCK"), direct: true}
	var err error
	if r.host, r.port, err = net.SplitHostPort(a.Address); err != nil {
		return nil, fmt.Errorf("the address of %s: %w", spec.Name, err)
	}
	h := newHost(spec, r)
	h.trust = func() (*trust, error) { return a.trust(r) }
	h.identify = func(ctx context.Context) (*identities, error) { return a.identities(ctx, r) }
	if _, err := h.begin(ctx); err != nil {
		return nil, err
	}
	return h.arrive(ctx)
}

// identities is the one key, if the agent has it.
func (a Access) identities(ctx context.Context, r *route) (*identities, error) {
	want, _, _, _, err := ssh.ParseAuthorizedKey([]byte(a.Key))
	if err != nil {
		return nil, fmt.Errorf("the key for %s: %w", r.name, err)
	}
	ids := &identities{}
	for _, key := range ids.askAgent(ctx, r) {
		if same(key.PublicKey(), want) {
			ids.add(key)
		}
	}
	if len(ids.keys) == 0 {
		ids.Close()
		return nil, run.Fail(run.Unreachable, strings.Join(append(ids.notes, "is the program that lends the key still there?"), "; "),
			"the agent that was lent for %s does not hold %s", r.name, describe(want))
	}
	return ids, nil
}

// trust believes the host keys and authorities of an Access.
func (a Access) trust(r *route) (*trust, error) {
	t := &trust{name: a.Name}
	for _, line := range a.HostKeys {
		text, authority := strings.CutPrefix(line, certAuthority)
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("a host key of %s: %w", r.name, err)
		}
		t.keys = append(t.keys, knownhosts.PublicKey{PublicKey: key, Cert: authority})
	}
	t.prefer(a.Algorithms)
	t.judge = func(_ string, remote net.Addr, got ssh.PublicKey) error {
		err := t.certificates().CheckHostKey(a.Name, remote, got)
		if err == nil {
			return nil
		}
		if _, certified := got.(*ssh.Certificate); certified {
			return explain(r, a.Name, got, err)
		}
		return changed(r, got, t.described()+" (as where this was started from)")
	}
	return t, nil
}

// certificates checks a host key against keys, and a certificate against the authorities among them, as known_hosts does.
func (t *trust) certificates() *ssh.CertChecker {
	has := func(key ssh.PublicKey, authority bool) bool {
		return slices.ContainsFunc(t.keys, func(known knownhosts.PublicKey) bool { return known.Cert == authority && same(known, key) })
	}
	return &ssh.CertChecker{
		IsHostAuthority: func(authority ssh.PublicKey, _ string) bool { return has(authority, true) },
		HostKeyFallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if has(key, false) {
				return nil
			}
			return errNotHeld
		},
	}
}

func (t *trust) described() string {
	var keys []string
	for _, key := range t.keys {
		keys = append(keys, describe(key))
	}
	return strings.Join(keys, " or ")
}
