package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// lentTo runs a command on a host for the length of the test that has the key of another, and returns the agent's socket.
// This process stands for that command.
func lentTo(t *testing.T, staging, backup *Host) (socket string) {
	t.Helper()
	from, to := io.Pipe()
	stdin, stay := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		// The test's own context ends before its cleanups.
		err := staging.Run(context.Background(), Cmd{Script: `echo "$SSH_AUTH_SOCK"; cat`, Lend: backup, Stdin: stdin, Stdout: to})
		to.CloseWithError(err)
		ended <- err
	}()
	if _, err := fmt.Fscanln(from, &socket); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, from) }()
	t.Cleanup(func() {
		stay.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		eventually(t, "the agent is gone", 5*time.Second, func() bool { _, err := os.Stat(socket); return errors.Is(err, fs.ErrNotExist) })
	})
	return socket
}

// overJSON is an Access as another machine gets it.
func overJSON(t *testing.T, h *Host) (a Access) {
	t.Helper()
	sent, err := h.Access()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(sent)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// dialAccess logs in with what is lent, for the length of the test.
func dialAccess(t *testing.T, spec *inventory.Host, a Access) *Host {
	t.Helper()
	h, err := DialAccess(t.Context(), &inventory.Host{Name: spec.Name}, a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// backupHost is a host of its own account's keys.
func backupHost(t *testing.T, extra ...string) (*inventory.Host, *lab.SSHD) {
	t.Helper()
	identity, public := key(t)
	s := startSSHD(t, public, extra...)
	spec := entry(t, s, identity)
	spec.Name = "backup1"
	return spec, s
}

func TestALentKeyLogsInToItsHost(t *testing.T) {
	noLeak(t)
	spec, s := backupHost(t)
	staging, backup := dial(t, serve(t)), dial(t, spec)
	var warned warnings
	backup.warn = warned.warn
	t.Setenv("SSH_AUTH_SOCK", lentTo(t, staging, backup))
	before := sessions(t, s)
	h := dialAccess(t, spec, overJSON(t, backup))
	everythingWorks(t, h)
	together(t, h, 20)
	file, data := noise(t, 10*block)
	readAll(t, h, file, data)
	if sessions(t, s) < before+25 {
		t.Error("it was another host")
	}
	if w := warned.all(); len(w) > 0 {
		t.Errorf("warned of %q", w)
	}
}

func TestALentAgentServesManyAndNotAllAtOnce(t *testing.T) {
	noLeak(t)
	spec, _ := backupHost(t)
	socket := lentTo(t, dial(t, serve(t)), dial(t, spec))
	serves := func() (*net.UnixConn, bool) {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := agent.NewClient(conn).List()
		return conn.(*net.UnixConn), len(keys) == 1 && err == nil
	}
	var open []*net.UnixConn
	for range mostAgents {
		conn, served := serves()
		if open = append(open, conn); !served {
			t.Fatalf("connection %d is not served", len(open))
		}
	}
	if conn, served := serves(); served {
		t.Error("there is no limit")
	} else {
		conn.Close()
	}
	for _, conn := range open {
		conn.Close()
	}
	eventually(t, "one more is served", 5*time.Second, func() bool { conn, served := serves(); conn.Close(); return served })
}

func TestALentKeyMayBeOfAnyKindAndTheHostAlso(t *testing.T) {
	staging := dial(t, serve(t))
	works := func(t *testing.T, spec *inventory.Host) {
		t.Helper()
		backup := dial(t, spec)
		access := overJSON(t, backup)
		t.Setenv("SSH_AUTH_SOCK", lentTo(t, staging, backup))
		if got := output(t, dialAccess(t, spec, access), Cmd{Args: []string{"echo", "in"}}); got != "in\n" {
			t.Errorf("got %q", got)
		}
	}
	for _, kind := range [][]string{{"rsa", "-b", "2048"}, {"ecdsa"}, {"ed25519"}} {
		t.Run("a key of "+kind[0], func(t *testing.T) {
			identity, public := key(t, append([]string{"-t"}, append(kind, "-N", "")...)...)
			s := startSSHD(t, public)
			spec := entry(t, s, identity)
			works(t, spec)
			// Which of RSA's algorithms to use is the asker's choice: x/crypto takes SHA-256, OpenSSH SHA-512.
			if said, err := openSSH(t, staging, dial(t, spec), s); err != nil {
				t.Errorf("%v: %s", err, said)
			}
		})
	}
	for _, algorithm := range []string{"curve25519-sha256", "diffie-hellman-group14-sha256", "diffie-hellman-group-exchange-sha256"} {
		t.Run(algorithm, func(t *testing.T) {
			spec, _ := backupHost(t, "KexAlgorithms "+algorithm)
			works(t, spec)
		})
	}
	t.Run("another host key", func(t *testing.T) {
		spec, s := backupHost(t)
		spec.HostKey = hostKey(t, s, "ecdsa")
		works(t, spec)
	})
	t.Run("known_hosts", func(t *testing.T) {
		spec, s := backupHost(t)
		spec.HostKey = ""
		useConfig(t, "", fmt.Sprintf("[127.0.0.1]:%d %s", s.Port, hostKey(t, s, "ecdsa")))
		works(t, spec)
	})
	t.Run("an alias", func(t *testing.T) {
		spec, s := backupHost(t)
		useConfig(t, fmt.Sprintf("Host backups\nHostname 127.0.0.1\nPort %d\nHostKeyAlias theirs", s.Port), "theirs "+s.HostKey)
		spec.Address, spec.HostKey = "backups", ""
		works(t, spec)
	})
	t.Run("a key in an agent", func(t *testing.T) {
		identity, public := key(t, "-N", passphrase)
		spec := entry(t, startSSHD(t, public), identity)
		startAgent(t, identity)
		works(t, spec)
	})
	t.Run("a key that is certified", func(t *testing.T) {
		authority, _ := key(t)
		identity, _ := key(t)
		spec := entry(t, startSSHD(t, "", "TrustedUserCAKeys "+authority+".pub"), "")
		certify(t, authority, identity, "-n", spec.User)
		useConfig(t, "")
		startAgent(t, identity)
		works(t, spec)
	})
	t.Run("a host that is certified", func(t *testing.T) {
		authority, public := key(t)
		spec, s := backupHost(t, "")
		certify(t, authority, filepath.Join(s.Dir, "host_ed25519"), "-h", "-n", "theirs")
		again := func() *lab.SSHD {
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			again, err := lab.StartSSHD(t.Context(), "db1", s.Dir, read(t, filepath.Join(s.Dir, "authorized_keys")), fmt.Sprintf(`HostCertificate "%s"`, filepath.Join(s.Dir, "host_ed25519-cert.pub")))
			if err != nil {
				t.Fatal(err)
			}
			return again
		}()
		*s = *again
		useConfig(t, fmt.Sprintf("Host backups\nHostname 127.0.0.1\nPort %d\nHostKeyAlias theirs", s.Port), "@cert-authority theirs "+public)
		spec.Address, spec.HostKey = "backups", ""
		works(t, spec)
	})
}

func certify(t *testing.T, authority, identity string, args ...string) {
	t.Helper()
	args = append([]string{"-q", "-s", authority, "-I", "x"}, append(args, identity+".pub")...)
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// openSSH logs in with the ssh program and the lent key, from the host that it is lent to, and says what that said.
func openSSH(t *testing.T, staging, backup *Host, to *lab.SSHD) (string, error) {
	t.Helper()
	known := filepath.Join(t.TempDir(), "known")
	if err := os.WriteFile(known, fmt.Appendf(nil, "[127.0.0.1]:%d %s\n", to.Port, to.HostKey), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	out, err := staging.Output(t.Context(), Cmd{Lend: backup, Stderr: &stderr, Args: []string{"ssh", "-v", "-F", "none", "-p", fmt.Sprint(to.Port), "-o", "UserKnownHostsFile=" + known,
		"-o", "BatchMode=yes", "-o", "IdentityFile=none", backup.route.user + "@127.0.0.1", "echo in"}})
	return out + stderr.String(), err
}

func TestOpenSSHReachesThatHostAndNoOtherWithALentKey(t *testing.T) {
	staging := dial(t, serve(t))
	spec, s := backupHost(t)
	backup := dial(t, spec)
	var warned warnings
	backup.warn = warned.warn
	said, err := openSSH(t, staging, backup, s)
	if !strings.Contains(said, "bound agent to hostkey") {
		t.Skipf("this ssh is older than 8.9: %s", said)
	}
	if err != nil || !strings.HasPrefix(said, "in\n") || len(warned.all()) > 0 {
		t.Errorf("%v, warned of %q: %s", err, warned.all(), said)
	}

	other := startSSHD(t, read(t, spec.Identity+".pub")) // lets the same key in
	said, err = openSSH(t, staging, backup, other)
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Status != 255 || !strings.Contains(said, "Server accepts key") || !strings.Contains(said, "Permission denied") {
		t.Errorf("%v: %s", err, said)
	}
	w := warned.all()
	if len(w) != 1 {
		t.Fatalf("warned of %q", w)
	}
	contains(t, w[0], "backup1", spec.User, "a login elsewhere", "has changed", fingerprint(t, other.HostKey))
}

// captured is what is needed to log in to a host, up to the signature.
type captured struct {
	binding
	data []byte // that the host wants to be signed
}

// capture logs in to a host as far as the signature.
func capture(t *testing.T, spec *inventory.Host, user string) (c captured) {
	t.Helper()
	signer, _, err := readKey(spec.Identity)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := net.Dial("tcp", spec.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	l := &line{Conn: raw, opening: &opening{}}
	stop := errors.New("enough is known")
	_, _, _, err = ssh.NewClientConn(l, spec.Address, &ssh.ClientConfig{
		User: user, HostKeyCallback: ssh.InsecureIgnoreHostKey(), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		Auth: []ssh.AuthMethod{ssh.PublicKeys(thief{signer.AlgorithmSigner, func(data []byte) error {
			c.data = data
			var begin struct {
				Session []byte
				Rest    []byte `ssh:"rest"`
			}
			if err := ssh.Unmarshal(data, &begin); err != nil {
				t.Error(err)
			}
			c.binding = l.opening.binding(begin.Session)
			return stop
		}})},
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	return c
}

type thief struct {
	ssh.AlgorithmSigner
	got func(data []byte) error
}

func (s thief) SignWithAlgorithm(_ io.Reader, data []byte, _ string) (*ssh.Signature, error) {
	return nil, s.got(data)
}

func TestALentKeySignsNothingElse(t *testing.T) {
	spec, s := backupHost(t)
	staging, backup := dial(t, serve(t)), dial(t, spec)
	other := entry(t, startSSHD(t, read(t, spec.Identity+".pub")), spec.Identity)
	own, foreign := capture(t, spec, spec.User), capture(t, other, spec.User)
	again := capture(t, spec, spec.User)
	public, _ := backup.key()
	_, strange := key(t)
	stranger, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(strange))

	changed := func(change func(*loginRequest)) []byte {
		var r loginRequest
		if err := ssh.Unmarshal(own.data, &r); err != nil {
			t.Fatal(err)
		}
		change(&r)
		return ssh.Marshal(r)
	}
	bind := func(b binding) func(agent.ExtendedAgent) error {
		return func(a agent.ExtendedAgent) error {
			_, err := a.Extension(sessionBind, ssh.Marshal(b))
			return err
		}
	}
	sign := func(key ssh.PublicKey, data []byte) func(agent.ExtendedAgent) error {
		return func(a agent.ExtendedAgent) error {
			signature, err := a.Sign(key, data)
			if err == nil && public.Verify(data, signature) != nil {
				err = errors.New("a signature of something else")
			}
			return err
		}
	}
	hosts := func(key []byte) []byte { return ssh.Marshal(struct{ Key []byte }{key}) }
	forwarding, forged, swapped := own.binding, own.binding, own.binding
	forwarding.Forwarding = true
	forged.Session = again.Session
	swapped.HostKey = foreign.HostKey
	ecdsa := own.binding
	ecdsa.HostKey = mustParse(t, hostKey(t, s, "ecdsa")).Marshal()

	socket := lentTo(t, staging, backup)
	if _, err := client(t, socket).Extension(sessionBind, []byte("x")); err == nil { // from now on it is silent
		t.Error("nonsense was taken for a binding")
	}
	type steps []func(agent.ExtendedAgent) error
	for name, test := range map[string]struct {
		steps   steps // of which the last has to fail
		because string
	}{
		"unbound":                                      {steps{sign(public, own.data)}, "does not say which host"},
		"bound to another host":                        {steps{bind(foreign.binding)}, "a login elsewhere"},
		"after that, all the same":                     {steps{func(a agent.ExtendedAgent) error { _ = bind(foreign.binding)(a); return sign(public, foreign.data)(a) }}, "a login elsewhere"},
		"bound to be passed on":                        {steps{bind(forwarding)}, "passing it on"},
		"bound with another's proof":                   {steps{bind(forged)}, "did not sign it"},
		"bound to a key not its own":                   {steps{bind(swapped)}, "did not sign it"},
		"bound to a key of the host that was not used": {steps{bind(ecdsa)}, "did not sign it"},
		"bound twice":                                  {steps{bind(own.binding), bind(again.binding)}, "a second session"},
		"nonsense for a binding":                       {steps{func(a agent.ExtendedAgent) error { _, err := a.Extension(sessionBind, []byte("x")); return err }}, "short read"},
		"in another session":                           {steps{bind(own.binding), sign(public, again.data)}, "another session"},
		"by another key":                               {steps{bind(own.binding), sign(stranger, own.data)}, "another key"},
		"by another key in the data":                   {steps{bind(own.binding), sign(public, changed(func(r *loginRequest) { r.Key = stranger.Marshal() }))}, "another kind"},
		"as another user":                              {steps{bind(own.binding), sign(public, changed(func(r *loginRequest) { r.User = "postgres" }))}, `as "postgres"`},
		"for another service":                          {steps{bind(own.binding), sign(public, changed(func(r *loginRequest) { r.Service = "ssh-userauth" }))}, "another kind"},
		"another message":                              {steps{bind(own.binding), sign(public, changed(func(r *loginRequest) { r.Message = 51 }))}, "no login"},
		"what asks for no signature":                   {steps{bind(own.binding), sign(public, changed(func(r *loginRequest) { r.Signed = false }))}, "another kind"},
		"by another method":                            {steps{bind(own.binding), sign(public, changed(func(r *loginRequest) { r.Method = "hostbased" }))}, "hostbased"},
		"with more behind":                             {steps{bind(own.binding), sign(public, append(slices.Clone(own.data), 0))}, "method"},
		"bound to a host in the data":                  {steps{bind(own.binding), sign(public, changed(func(r *loginRequest) { r.Method, r.Rest = hostBound, hosts(foreign.HostKey) }))}, hostBound},
		"a file":                                       {steps{bind(own.binding), sign(public, ssh.Marshal(struct{ Magic, Rest string }{"SSHSIG", "file"}))}, "no login"},
		"nothing":                                      {steps{bind(own.binding), sign(public, nil)}, "no login"},
		"add":                                          {steps{func(a agent.ExtendedAgent) error { return a.Add(agent.AddedKey{PrivateKey: rawKey(t)}) }}, "request 17"},
		"remove":                                       {steps{func(a agent.ExtendedAgent) error { return a.Remove(public) }}, "request 18"},
		"remove all":                                   {steps{func(a agent.ExtendedAgent) error { return a.RemoveAll() }}, "request 19"},
		"lock":                                         {steps{func(a agent.ExtendedAgent) error { return a.Lock([]byte("x")) }}, "request 22"},
		"unlock":                                       {steps{func(a agent.ExtendedAgent) error { return a.Unlock([]byte("x")) }}, "request 23"},
	} {
		t.Run(name, func(t *testing.T) {
			var warned warnings
			backup.warn = warned.warn
			for _, a := range []agent.ExtendedAgent{client(t, socket), lone(t, backup)} {
				for i, step := range test.steps {
					err := step(a)
					if last := i == len(test.steps)-1; last && err == nil {
						t.Error("it was done")
					} else if !last && err != nil {
						t.Fatal(err)
					}
				}
			}
			if w := warned.all(); len(w) != 1 || !strings.Contains(w[0], test.because) {
				t.Errorf("warned of %q, want %q", w, test.because)
			}
		})
	}
	for name, steps := range map[string]steps{
		"a login":                 {bind(own.binding), sign(public, own.data), sign(public, own.data)},
		"bound to its host in it": {bind(own.binding), sign(public, changed(func(r *loginRequest) { r.Method, r.Rest = hostBound, hosts(own.HostKey) }))},
		"another login":           {bind(again.binding), sign(public, again.data)},
		"that key and no other":   {func(a agent.ExtendedAgent) error { keys, err := a.List(); return errors.Join(err, only(keys, public)) }},
		"what is not known to exist": {func(a agent.ExtendedAgent) error {
			_, err := a.Extension("query", nil)
			return swap(err, agent.ErrExtensionUnsupported)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			a := client(t, socket)
			for _, step := range steps {
				if err := step(a); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestALoanEndsWithTheHostThatIsLent(t *testing.T) {
	spec, _ := backupHost(t)
	staging, backup := dial(t, serve(t)), dial(t, spec)
	t.Setenv("SSH_AUTH_SOCK", lentTo(t, staging, backup))
	access := overJSON(t, backup)
	dialAccess(t, spec, access)
	backup.Close()
	if h, err := DialAccess(t.Context(), &inventory.Host{Name: "backup1"}, access); err == nil {
		h.Close()
		t.Error("we were let in")
	}
}

func TestAnAgentThatHangsHoldsUpNeitherALoginNorClose(t *testing.T) {
	noLeak(t)
	spec, _ := backupHost(t)
	identity := spec.Identity
	spec.Identity = ""
	useConfig(t, "")
	pid := startAgent(t, identity)
	staging, backup := dial(t, serve(t)), dial(t, spec)
	access := overJSON(t, backup)
	mine := os.Getenv("SSH_AUTH_SOCK")
	t.Setenv("SSH_AUTH_SOCK", lentTo(t, staging, backup))
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		t.Cleanup(cancel)
		return ctx
	}
	if h, err := DialAccess(soon(), &inventory.Host{Name: "backup1"}, access); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a lent key: %v, %v", h, err)
	}
	t.Setenv("SSH_AUTH_SOCK", mine)
	if h, err := Dial(soon(), spec); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with its own: %v, %v", h, err)
	}
}

// swap is nil where an error is the one that is wanted.
func swap(err, want error) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("got %v", err)
}

func only(keys []*agent.Key, want ssh.PublicKey) error {
	if len(keys) != 1 || !same(keys[0], want) {
		return fmt.Errorf("the agent shows %v", keys)
	}
	return nil
}

func mustParse(t *testing.T, line string) ssh.PublicKey {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rawKey(t *testing.T) any {
	t.Helper()
	file, _ := key(t)
	raw, err := ssh.ParseRawPrivateKey([]byte(read(t, file)))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// lone is an agent of its own for a key, which has not warned yet.
func lone(t *testing.T, of *Host) agent.ExtendedAgent {
	t.Helper()
	l, err := newLoan(of)
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close() })
	go (&visit{loan: l}).serve(context.Background(), there)
	return agent.NewClient(here)
}

func client(t *testing.T, socket string) agent.ExtendedAgent {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return agent.NewClient(conn)
}

func TestAHostThatForwardsNoAgentNamesTheSetting(t *testing.T) {
	spec, _ := backupHost(t)
	backup := dial(t, spec)
	for name, test := range map[string]struct {
		options, setting string
		works            bool
	}{
		"AllowAgentForwarding":    {setting: "AllowAgentForwarding no"},
		"DisableForwarding":       {setting: "DisableForwarding yes"},
		"no-agent-forwarding":     {options: "no-agent-forwarding "},
		"restrict":                {options: "restrict "},
		"restrict, and all right": {options: "restrict,agent-forwarding ", works: true},
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			identity, public := key(t)
			var extra []string
			if test.setting != "" {
				extra = append(extra, test.setting)
			}
			staging := dial(t, entry(t, startSSHD(t, test.options+public, extra...), identity))
			ran := filepath.Join(t.TempDir(), "ran")
			err := staging.Run(t.Context(), Cmd{Args: []string{"touch", ran}, Lend: backup})
			if test.works {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrNoAgent) || run.CodeOf(err) != run.Unreachable {
				t.Errorf("got %v", err)
			}
			contains(t, run.HintOf(err), "AllowAgentForwarding yes", "DisableForwarding no", "no-agent-forwarding", "restrict", "db1")
			if _, err := os.Stat(ran); err == nil {
				t.Error("the command ran")
			}
		})
	}
}

func TestOnlyTheCommandThatAKeyIsLentToSeesTheAgent(t *testing.T) {
	noLeak(t)
	t.Setenv("SSH_AUTH_SOCK", "")
	spec, _ := backupHost(t)
	staging, backup := dial(t, serve(t)), dial(t, spec)
	socket := lentTo(t, staging, backup)
	another := lentTo(t, staging, dial(t, spec))
	if socket == "" || socket == another {
		t.Errorf("the agents are at %q and %q", socket, another)
	}
	for range 10 {
		if got := output(t, staging, Cmd{Script: `echo "$SSH_AUTH_SOCK"`}); got != "\n" {
			t.Errorf("another command sees %q", got)
		}
	}
}

func TestACommandThatAKeyIsLentToEndsAsAnyOther(t *testing.T) {
	noLeak(t)
	spec, _ := backupHost(t)
	staging, backup := dial(t, serve(t)), dial(t, spec)
	endsWithItsContext(t, staging, Cmd{Script: stubborn, Lend: backup}, 5*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := staging.Run(ctx, Cmd{Args: []string{"true"}, Lend: backup}); !errors.Is(err, context.Canceled) || run.CodeOf(err) != run.Interrupted {
		t.Errorf("got %v", err)
	}
	err := staging.Run(t.Context(), Cmd{Script: "exit 3", Lend: backup})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Status != 3 {
		t.Errorf("got %v", err)
	}
	group, ended := started(t, t.Context(), staging, Cmd{Script: stubborn, Lend: backup})
	staging.Close()
	if err := wait(t, ended, time.Second); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v", err)
	}
	eventually(t, "the command and its children have ended", 5*time.Second, func() bool { return !alive(group) })
	if err := staging.Run(t.Context(), Cmd{Args: []string{"true"}, Lend: backup}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("on a closed host: %v", err)
	}
	if err := local(t).Run(t.Context(), Cmd{Args: []string{"true"}, Lend: backup}); err == nil || !strings.Contains(err.Error(), "this machine") {
		t.Errorf("here: %v", err)
	}
	if err := dial(t, serve(t)).Run(t.Context(), Cmd{Args: []string{"true"}, Lend: local(t)}); run.CodeOf(err) != run.Unreachable {
		t.Errorf("of this machine: %v", err)
	}
}

func TestALoginWithALentKeyThatFailsSaysWhy(t *testing.T) {
	noLeak(t)
	spec, s := backupHost(t)
	staging, backup := dial(t, serve(t)), dial(t, spec)
	t.Setenv("SSH_AUTH_SOCK", lentTo(t, staging, backup))
	good := overJSON(t, backup)
	_, strange := key(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	for name, test := range map[string]struct {
		change func(*Access)
		wants  []string
	}{
		"nobody listens":    {func(a *Access) { a.Address = free.Addr().String() }, []string{"connecting to backup1", "refused"}},
		"another host key":  {func(a *Access) { a.HostKeys = []string{strange} }, []string{"has changed", fingerprint(t, strange), fingerprint(t, s.HostKey)}},
		"only an authority": {func(a *Access) { a.HostKeys = []string{certAuthority + s.HostKey} }, []string{"has changed"}},
		"another user":      {func(a *Access) { a.User = "nobody" }, []string{"does not let us in as nobody"}},
		"another key":       {func(a *Access) { a.Key = strange }, []string{"the agent that was lent for backup1 does not hold", fingerprint(t, strange)}},
	} {
		t.Run(name, func(t *testing.T) {
			access := good
			test.change(&access)
			h, err := DialAccess(t.Context(), &inventory.Host{Name: "backup1"}, access)
			if err == nil {
				h.Close()
				t.Fatal("we were let in")
			}
			if run.CodeOf(err) != run.Unreachable || run.HintOf(err) == "" {
				t.Errorf("code %d: %v; next: %s", run.CodeOf(err), err, run.HintOf(err))
			}
			contains(t, err.Error(), test.wants...)
		})
	}
	t.Setenv("SSH_AUTH_SOCK", "")
	if _, err := DialAccess(t.Context(), &inventory.Host{Name: "backup1"}, good); run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "does not hold") {
		t.Errorf("without an agent: %v", err)
	}
}

// constrained starts an agent whose key may go these ways alone, and returns what ssh-add said otherwise.
func constrained(t *testing.T, identity string, known []string, ways ...string) {
	t.Helper()
	startAgent(t)
	file := filepath.Join(t.TempDir(), "known")
	if err := os.WriteFile(file, []byte(strings.Join(known, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-q", "-H", file}
	for _, way := range ways {
		args = append(args, "-h", way)
	}
	if out, err := exec.Command("ssh-add", append(args, identity)...).CombinedOutput(); err != nil {
		t.Skipf("this ssh-add knows no destinations: %v: %s", err, out)
	}
}

func TestAnAgentHearsWhereItsKeyIsLentTo(t *testing.T) {
	stagingSpec := serve(t)
	spec, s := backupHost(t)
	known := []string{"staging " + stagingSpec.HostKey, "backup " + s.HostKey}
	identity := spec.Identity
	spec.Identity = ""
	useConfig(t, "")
	staging := dial(t, stagingSpec)
	for name, test := range map[string]struct {
		ways    []string
		permits bool
	}{
		"to be used there also": {[]string{"backup", "staging", "staging>backup"}, true},
		"to be used here":       {[]string{"backup", "staging"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			constrained(t, identity, known, test.ways...)
			// Of a login from afar OpenSSH's agent wants the host key in the request, which x/crypto does not give.
			if said, err := openSSH(t, staging, dial(t, spec), s); (err == nil) != test.permits {
				t.Errorf("got %v: %s", err, said)
			}
		})
	}
	constrained(t, identity, known, "staging")
	refused(t, spec)
}
