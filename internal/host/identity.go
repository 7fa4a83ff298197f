package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"rehearsal/internal/run"
)

// identity is a key that we can show to a host, with a name for people.
type identity struct {
	ssh.AlgorithmSigner
	name  string
	agent agent.ExtendedAgent // that holds it, or nil
}

// identities are the keys for one login, in the order they are offered.
type identities struct {
	keys  []identity
	notes []string      // keys that could not be used, and why
	agent net.Conn      // the agent signs while we log in
	leave func() bool   // keeps the end of a context from closing that
	used  ssh.PublicKey // of the key that signed last
}

func (ids *identities) Close() {
	if ids.agent != nil {
		ids.leave()
		ids.agent.Close()
	}
}

// newIdentities gathers the inventory's identity alone or, where it names none, what ssh would offer. The agent, which
// may ask a person, is waited for until ctx ends.
func newIdentities(ctx context.Context, r *route, file string) (*identities, error) {
	ids := &identities{}
	held := ids.askAgent(ctx, r)
	if file == "" {
		ids.gather(r, held)
		return ids, nil
	}
	key, err := ids.inventoryKey(r, file, held)
	if err != nil {
		ids.Close()
		return nil, err
	}
	ids.keys = []identity{key}
	return ids, nil
}

// gather orders keys as ssh does: those of the agent that ssh_config names, the agent's others, key files. A
// server that is offered too many (MaxAuthTries, 6) hangs up before it has seen the right one.
func (ids *identities) gather(r *route, held []identity) {
	var files []identity
	var configured []ssh.PublicKey
	for _, file := range r.identities {
		key, public, err := readKey(file)
		switch {
		case err == nil:
			files = append(files, key)
		case errors.As(err, new(*ssh.PassphraseMissingError)):
			ids.notes = append(ids.notes, fmt.Sprintf("%s needs a passphrase: run `ssh-add %s`", file, Quote(file)))
		case !errors.Is(err, fs.ErrNotExist):
			ids.notes = append(ids.notes, err.Error())
		}
		if public != nil {
			configured = append(configured, public)
		}
	}
	named := func(key identity) bool {
		return slices.ContainsFunc(configured, func(public ssh.PublicKey) bool { return same(public, key.PublicKey()) })
	}
	for _, key := range held {
		if named(key) {
			ids.add(key)
		}
	}
	for _, key := range held {
		if !r.onlyThose {
			ids.add(key)
		}
	}
	for _, key := range files {
		ids.add(key)
	}
}

func (ids *identities) add(key identity) {
	if !slices.ContainsFunc(ids.keys, func(k identity) bool { return same(k.PublicKey(), key.PublicKey()) }) {
		ids.keys = append(ids.keys, key)
	}
}

func (ids *identities) askAgent(ctx context.Context, r *route) []identity {
	if r.agent == "" {
		return nil
	}
	conn, err := net.Dial("unix", r.agent)
	if err != nil {
		ids.notes = append(ids.notes, fmt.Sprintf("the ssh-agent does not answer: %v", err))
		return nil
	}
	ids.agent, ids.leave = conn, context.AfterFunc(ctx, func() { conn.Close() })
	client := agent.NewClient(conn)
	signers, err := client.Signers()
	if err != nil {
		ids.notes = append(ids.notes, fmt.Sprintf("the ssh-agent gives no keys: %v", err))
	}
	var held []identity
	for _, signer := range signers {
		if signer, ok := signer.(ssh.AlgorithmSigner); ok { // all are
			held = append(held, identity{signer, "ssh-agent", client})
		}
	}
	return held
}

// inventoryKey is the identity that the inventory names. One with a passphrase is used through the agent: we
// never ask for a passphrase, because most runs have nobody to answer.
func (ids *identities) inventoryKey(r *route, file string, held []identity) (identity, error) {
	key, public, err := readKey(file)
	if err == nil {
		return key, nil
	}
	if errors.As(err, new(*ssh.PassphraseMissingError)) {
		for _, key := range held {
			if public != nil && same(key.PublicKey(), public) {
				return key, nil
			}
		}
		return identity{}, run.Fail(run.Unreachable, strings.Join(append(ids.notes, fmt.Sprintf("start an ssh-agent and run `ssh-add %s`", Quote(file))), "; "),
			"the identity of %s, %s, needs a passphrase, and the ssh-agent does not hold it", r.name, file)
	}
	return identity{}, run.Fail(run.Unreachable, fmt.Sprintf("set hosts.%s.identity in the inventory to a private key file that you can read", r.name), "reading the identity of %s: %w", r.name, err)
}

// readKey reads a private key file. The public key is known even where a passphrase hides the private one.
func readKey(file string) (identity, ssh.PublicKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return identity{}, readPublicKey(file), err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if signer, ok := signer.(ssh.AlgorithmSigner); ok && err == nil { // all are
		return identity{signer, file, nil}, signer.PublicKey(), nil
	}
	public := readPublicKey(file)
	if locked := (*ssh.PassphraseMissingError)(nil); errors.As(err, &locked) && locked.PublicKey != nil {
		public = locked.PublicKey
	}
	return identity{}, public, fmt.Errorf("%s: %w", file, err)
}

func readPublicKey(file string) ssh.PublicKey {
	text, err := os.ReadFile(file + ".pub")
	if err != nil {
		return nil
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil
	}
	return public
}

func same(a, b ssh.PublicKey) bool { return string(a.Marshal()) == string(b.Marshal()) }

// refused says who knocked, with which keys, and was not let in.
func (ids *identities) refused(r *route, err error) error {
	offered := "no key at all"
	for i, key := range ids.keys {
		if i == 0 {
			offered = ""
		} else {
			offered += ", "
		}
		offered += fmt.Sprintf("%s (%s)", describe(key.PublicKey()), key.name)
	}
	hint := fmt.Sprintf(`let one of these keys in (~%s/.ssh/authorized_keys on the host), or set "user" or "identity" of %s in the inventory`, r.user, r.name)
	if len(ids.keys) == 0 {
		hint = fmt.Sprintf(`start an ssh-agent and ssh-add a key, or set "identity" of %s in the inventory`, r.name)
	}
	return run.Fail(run.Unreachable, strings.Join(append(ids.notes, hint), "; "), "%s does not let us in as %s with %s: %w", r.name, r, offered, err)
}
