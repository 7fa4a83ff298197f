package host

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"rehearsal/internal/run"
)

// trust says which host keys are the host's own.
type trust struct {
	name       string                 // host:port of the host in known_hosts
	keys       []knownhosts.PublicKey // its own, and those of authorities that certify it
	algorithms []string               // of host keys, those we know a key for first
	judge      ssh.HostKeyCallback
	verified   bool  // check has accepted the key
	refusal    error // what check said otherwise: the handshake's own error hides it
}

// newTrust believes the key that the inventory pins and, where it pins none, known_hosts.
func newTrust(r *route, pinned string) (*trust, error) {
	t := &trust{name: strings.ToLower(r.address())}
	var err error
	if pinned != "" {
		t.judge, err = t.pin(r, pinned)
	} else {
		t.judge, err = t.readKnownHosts(r)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (t *trust) check(hostname string, remote net.Addr, key ssh.PublicKey) error {
	t.refusal = t.judge(hostname, remote, key)
	t.verified = t.refusal == nil
	return t.refusal
}

func (t *trust) pin(r *route, pinned string) (ssh.HostKeyCallback, error) {
	want, _, _, _, err := ssh.ParseAuthorizedKey([]byte(pinned))
	if err != nil {
		return nil, run.Fail(run.Unreachable, `write it as known_hosts does, without the host: host_key: "ssh-ed25519 AAAA…"`, "reading host_key of %s: %w", r.name, err)
	}
	t.keys = []knownhosts.PublicKey{{PublicKey: want}}
	t.prefer(signatures(want.Type()))
	return func(_ string, _ net.Addr, got ssh.PublicKey) error {
		if string(got.Marshal()) == string(want.Marshal()) {
			return nil
		}
		return changed(r, got, describe(want)+" (host_key in the inventory)")
	}, nil
}

func (t *trust) readKnownHosts(r *route) (ssh.HostKeyCallback, error) {
	db, err := knownhosts.NewDB(r.knownHosts...)
	if err != nil {
		return nil, run.Fail(run.Unreachable, "mend or remove that line, or pin host_key in the inventory", "reading known_hosts for %s: %w", r.name, err)
	}
	// A host key alias stands for itself, without a port: sshconnect.c, get_hostfile_hostname_ipaddr.
	if r.hostKeyAlias != "" {
		t.name = net.JoinHostPort(r.hostKeyAlias, "22")
	}
	name := t.name
	t.keys = db.HostKeys(name)
	t.prefer(db.HostKeyAlgorithms(name))
	known := db.HostKeyCallback()
	return func(_ string, remote net.Addr, key ssh.PublicKey) error {
		return explain(r, name, key, known(name, remote, key))
	}, nil
}

// prefer puts the algorithms of known keys first, as OpenSSH does: a server that has several keys then shows
// one we know, and one that lost that key shows another, which is a changed key and not a failed negotiation.
// A host that is not known at all shows its Ed25519 key, where it has one, and no certificate.
func (t *trust) prefer(known []string) {
	supported := ssh.SupportedAlgorithms().HostKeys
	for _, algorithm := range slices.Concat(known, []string{ssh.KeyAlgoED25519}, supported) {
		if slices.Contains(supported, algorithm) && !slices.Contains(t.algorithms, algorithm) {
			t.algorithms = append(t.algorithms, algorithm)
		}
	}
}

// signatures are the algorithms a key of one type can sign with; RFC 8332 gave RSA several.
func signatures(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// explain turns known_hosts' verdict on a key into an error that names both keys and the line.
func explain(r *route, name string, got ssh.PublicKey, verdict error) error {
	var mismatch *xknownhosts.KeyError
	var revoked *xknownhosts.RevokedError
	switch {
	case verdict == nil:
		return nil
	case errors.As(verdict, &revoked):
		return run.Fail(run.Unreachable, "give the host a new key: this one is known to be in other hands",
			"%s (%s) offered a revoked host key, %s (@revoked in %s:%d)", r.name, r.address(), describe(got), revoked.Revoked.Filename, revoked.Revoked.Line)
	case !errors.As(verdict, &mismatch):
		return run.Fail(run.Unreachable, "compare the host's certificate with the @cert-authority line in known_hosts", "the host key of %s (%s) was not accepted: %w", r.name, r.address(), verdict)
	case len(mismatch.Want) == 0:
		return unknown(r, name, got)
	}
	var wants []string
	for _, want := range mismatch.Want {
		wants = append(wants, fmt.Sprintf("%s (%s:%d)", describe(want.Key), want.Filename, want.Line))
	}
	return changed(r, got, strings.Join(wants, " or "))
}

func changed(r *route, got ssh.PublicKey, wants string) error {
	return run.Fail(run.Unreachable,
		"somebody may be between you and the host. Only if you know that it got a new key, and its fingerprint is the one offered, replace the expected one",
		"the host key of %s (%s) has changed: expected %s, it offered %s", r.name, r.address(), wants, describe(got))
}

func unknown(r *route, name string, got ssh.PublicKey) error {
	line := knownhosts.Line([]string{name}, got)
	_, pin, _ := strings.Cut(line, " ")
	learn := fmt.Sprintf("ssh-keyscan -p %s %s >> ~/.ssh/known_hosts", Quote(r.port), Quote(r.host))
	if r.hostKeyAlias != "" || !r.direct { // ssh-keyscan knows neither
		learn = fmt.Sprintf("printf '%%s\\n' %s >> ~/.ssh/known_hosts", Quote(line))
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(got.Type(), "ssh-"), "-") // ed25519, ecdsa, rsa
	return run.Fail(run.Unreachable,
		fmt.Sprintf("if that is its fingerprint (on the host: ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub), run `%s`, or write into the inventory: host_key: %q", kind, learn, pin),
		"the host key of %s (%s) is not known: it offered %s", r.name, r.address(), describe(got))
}

func describe(key ssh.PublicKey) string { return key.Type() + " " + ssh.FingerprintSHA256(key) }
