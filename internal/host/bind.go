package host

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// binding tells an agent which session it is asked to sign for, and has the host's signature prove that the session is
// with that host: PROTOCOL.agent of OpenSSH, 1. Its fields are those of the message.
type binding struct {
	HostKey    []byte
	Session    []byte // the exchange hash of the first key exchange
	Signature  []byte // of Session, by HostKey
	Forwarding bool   // the session passes the agent on; it is not what the agent signs for
}

const sessionBind = "session-bind@openssh.com"

// tell gives a binding to an agent. One that knows no such thing signs all the same.
func (b binding) tell(a agent.ExtendedAgent) { _, _ = a.Extension(sessionBind, ssh.Marshal(b)) }

// proved verifies the signature and returns the key that made it.
func (b binding) proved() (ssh.PublicKey, error) {
	key, err := ssh.ParsePublicKey(b.HostKey)
	if err != nil {
		return nil, err
	}
	var signature ssh.Signature
	if err := ssh.Unmarshal(b.Signature, &signature); err != nil {
		return nil, err
	}
	return key, key.Verify(b.Session, &signature)
}

// opening is what a server says first, in the clear (RFC 4253, 4 to 8): its version, and packets without a MAC up to its
// answer in the key exchange, which has its host key and what that has signed. x/crypto tells a client the key alone.
type opening struct {
	mu      sync.Mutex
	said    []byte // what is not understood yet
	version bool   // it has been read
	closed  bool   // the rest is of no interest
	answer  keyExchangeReply
}

// keyExchangeReply is SSH_MSG_KEXDH_REPLY, SSH_MSG_KEX_ECDH_REPLY or SSH_MSG_KEX_DH_GEX_REPLY. SSH_MSG_KEX_DH_GEX_GROUP has
// the number of the first two, and one field less.
type keyExchangeReply struct {
	HostKey   []byte `sshtype:"31|33"`
	Public    []byte
	Signature []byte
}

const (
	// longestOpening is well above what a key exchange of any kind takes.
	longestOpening = 256 << 10
	msgNewKeys     = 21
)

// take reads on.
func (o *opening) take(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.said = append(o.said, p...)
	for !o.closed && o.next() {
	}
	if o.closed = o.closed || len(o.said) > longestOpening; o.closed {
		o.said = nil
	}
}

// next understands a line before and with the version, or a packet after it, and tells whether there was a whole one.
func (o *opening) next() bool {
	if !o.version {
		line, rest, found := bytes.Cut(o.said, []byte("\n"))
		if found {
			o.said, o.version = rest, bytes.HasPrefix(line, []byte("SSH-"))
		}
		return found
	}
	if len(o.said) < 6 {
		return false
	}
	length, padding := binary.BigEndian.Uint32(o.said), uint32(o.said[4])
	switch {
	case length > longestOpening || length < padding+2:
		o.closed = true // that is no SSH
		return false
	case uint32(len(o.said)) < 4+length:
		return false
	}
	payload := o.said[5 : 4+length-padding]
	var answer keyExchangeReply
	if err := ssh.Unmarshal(payload, &answer); err == nil {
		o.answer, o.closed = answer, true
		return false
	}
	o.closed = payload[0] == msgNewKeys
	o.said = o.said[4+length:]
	return true
}

// binding is of the session with that ID.
func (o *opening) binding(session []byte) binding {
	o.mu.Lock()
	defer o.mu.Unlock()
	return binding{HostKey: o.answer.HostKey, Session: session, Signature: o.answer.Signature}
}

// used is a key of which we hear when it signs.
type used struct {
	ssh.AlgorithmSigner
	before func(data []byte)
}

func (u used) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	u.before(data)
	return u.AlgorithmSigner.SignWithAlgorithm(random, data, algorithm)
}

// signers are the keys for a login over a connection that opened so. The agent is told what session it signs for.
func (ids *identities) signers(o *opening) []ssh.Signer {
	var signers []ssh.Signer
	for _, key := range ids.keys {
		signers = append(signers, used{key.AlgorithmSigner, func(data []byte) {
			ids.used = key.PublicKey()
			var begin struct {
				Session []byte
				Rest    []byte `ssh:"rest"`
			}
			if key.agent != nil && ssh.Unmarshal(data, &begin) == nil {
				o.binding(begin.Session).tell(key.agent)
			}
		}})
	}
	return signers
}

// errNotHeld is a key that we do not have any more.
var errNotHeld = errors.New("the key is not to be had any more")

// signed has one of the keys sign for a session that is reached by way of these.
func (ids *identities) signed(public ssh.PublicKey, way []binding, data []byte, algorithm string) (*ssh.Signature, error) {
	i := slices.IndexFunc(ids.keys, func(key identity) bool { return same(key.PublicKey(), public) })
	if i < 0 {
		return nil, errNotHeld
	}
	key := ids.keys[i]
	if key.agent != nil {
		for _, b := range way {
			b.tell(key.agent)
		}
	}
	return key.SignWithAlgorithm(rand.Reader, data, algorithm)
}
