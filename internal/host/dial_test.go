package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// useConfig makes the ssh program read this configuration and no other: OpenSSH finds ~ in the user database,
// not in HOME. KNOWN stands for a known_hosts file with the given lines.
func useConfig(t *testing.T, config string, known ...string) (knownHosts string) {
	t.Helper()
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("no ssh program")
	}
	dir := t.TempDir()
	knownHosts = filepath.Join(dir, "known_hosts")
	config = strings.ReplaceAll(config, "KNOWN", knownHosts) + "\nHost *\nUserKnownHostsFile " + knownHosts + "\nGlobalKnownHostsFile /dev/null\nIdentityFile none\n"
	script := fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", Quote(ssh), Quote(filepath.Join(dir, "config")))
	for file, text := range map[string]string{"config": config, "known_hosts": strings.Join(known, "\n") + "\n", "ssh": script} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("SSH_AUTH_SOCK", "")
	return knownHosts
}

// refused dials a host that must not let us in, and returns the error and its hint.
func refused(t *testing.T, spec *inventory.Host) (message, hint string) {
	t.Helper()
	h, err := Dial(t.Context(), spec)
	if err == nil {
		h.Close()
		t.Fatal("we were let in")
	}
	if run.CodeOf(err) != run.Unreachable || run.HintOf(err) == "" || strings.Contains(err.Error(), "\n") {
		t.Errorf("code %d: %v; next: %s", run.CodeOf(err), err, run.HintOf(err))
	}
	return err.Error(), run.HintOf(err)
}

func contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in: %s", want, text)
		}
	}
}

func fingerprint(t *testing.T, public string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(file, []byte(public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-lf", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))[1]
}

// hostKey is the public key of a kind that a server has.
func hostKey(t *testing.T, s *lab.SSHD, kind string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir, "host_"+kind+".pub"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	return fields[0] + " " + fields[1]
}

func TestAPinnedHostKeyIsTheOnlyOneBelieved(t *testing.T) {
	noLeak(t)
	identity, public := key(t)
	s := startSSHD(t, public)
	spec := entry(t, s, identity)
	spec.HostKey = hostKey(t, s, "ecdsa") + " a comment"
	dial(t, spec)

	_, other := key(t)
	spec.HostKey = other
	message, hint := refused(t, spec)
	contains(t, message, "has changed", fingerprint(t, other), "host_key in the inventory", fingerprint(t, s.HostKey))
	contains(t, hint, "between")

	spec.HostKey = "ssh-ed25519 nonsense"
	message, _ = refused(t, spec)
	contains(t, message, "host_key of db1")
}

func TestKnownHostsDecideWhereNothingIsPinned(t *testing.T) {
	identity, public := key(t)
	s := startSSHD(t, public)
	spec := entry(t, s, identity)
	spec.HostKey = ""
	at := fmt.Sprintf("[127.0.0.1]:%d ", s.Port)
	_, other := key(t)
	hashed := func() string {
		file := filepath.Join(t.TempDir(), "known")
		_ = os.WriteFile(file, []byte(at+s.HostKey+"\n"), 0o600)
		if out, err := exec.Command("ssh-keygen", "-q", "-H", "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		text, _ := os.ReadFile(file)
		return strings.TrimSpace(string(text))
	}
	for name, lines := range map[string][]string{
		"the first key":                 {"# a comment", at + s.HostKey},
		"one key of another type alone": {at + hostKey(t, s, "ecdsa")},
		"a hashed line":                 {hashed()},
		"an old key beside":             {at + other, at + s.HostKey},
		"a wildcard":                    {"127.0.0.* " + s.HostKey},
	} {
		t.Run(name, func(t *testing.T) {
			useConfig(t, "", lines...)
			dial(t, spec)
		})
	}
	for name, test := range map[string]struct {
		lines, want []string
	}{
		"another key":                 {[]string{"", at + other}, []string{"has changed", fingerprint(t, other), "known_hosts:2", fingerprint(t, s.HostKey)}},
		"a type the host has no more": {[]string{at + rsaKey(t)}, []string{"has changed", "ssh-rsa", "known_hosts:1"}},
		"a revoked key":               {[]string{at + s.HostKey, "@revoked * " + s.HostKey}, []string{"revoked", "known_hosts:2", fingerprint(t, s.HostKey)}},
		"nonsense":                    {[]string{at + "ssh-ed25519 AAAA"}, []string{"known_hosts:1"}},
		"another port's key":          {[]string{"127.0.0.1 " + s.HostKey}, []string{"is not known"}},
	} {
		t.Run(name, func(t *testing.T) {
			useConfig(t, "", test.lines...)
			message, _ := refused(t, spec)
			contains(t, message, test.want...)
		})
	}
}

func rsaKey(t *testing.T) string {
	_, public := key(t, "-t", "rsa", "-b", "2048", "-N", "")
	return public
}

func TestAnUnknownHostSaysHowToMakeItKnown(t *testing.T) {
	identity, public := key(t)
	s := startSSHD(t, public)
	spec := entry(t, s, identity)
	spec.HostKey = ""
	known := useConfig(t, "")
	message, hint := refused(t, spec)
	contains(t, message, "is not known", fingerprint(t, s.HostKey))
	keyscan := fmt.Sprintf("ssh-keyscan -p %d 127.0.0.1 >> ", s.Port)
	contains(t, hint, keyscan+"~/.ssh/known_hosts", `host_key: "`+s.HostKey+`"`)

	if out, err := exec.Command("sh", "-c", keyscan+Quote(known)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dial(t, spec)
}

func TestACertificateOfAKnownAuthorityIsBelieved(t *testing.T) {
	authority, authorityPublic := key(t)
	identity, public := key(t)
	s := startSSHD(t, public)
	certify := func(principal string) {
		out, err := exec.Command("ssh-keygen", "-q", "-s", authority, "-I", "db1", "-h", "-n", principal, filepath.Join(s.Dir, "host_ed25519.pub")).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		again, err := lab.StartSSHD(t.Context(), "db1", s.Dir, public, fmt.Sprintf(`HostCertificate "%s"`, filepath.Join(s.Dir, "host_ed25519-cert.pub")))
		if err != nil {
			t.Fatal(err)
		}
		*s = *again
	}
	certify("127.0.0.1")
	spec := entry(t, s, identity)
	spec.HostKey = ""
	useConfig(t, "", "@cert-authority [127.0.0.1]:* "+authorityPublic, "@cert-authority 127.0.0.* "+authorityPublic)
	dial(t, spec)

	certify("another.example.com")
	spec.Address = fmt.Sprintf("127.0.0.1:%d", s.Port)
	message, _ := refused(t, spec)
	contains(t, message, "another.example.com")
}

func TestARefusedLoginSaysWhoAskedWithWhichKeys(t *testing.T) {
	noLeak(t)
	spec := serve(t)
	identity, public := key(t)
	spec.Identity = identity
	message, hint := refused(t, spec)
	contains(t, message, spec.User+"@"+spec.Address, fingerprint(t, public), identity)
	contains(t, hint, "authorized_keys")

	useConfig(t, "IdentityAgent none")
	spec.Identity = ""
	message, hint = refused(t, spec)
	contains(t, message, "no key at all")
	contains(t, hint, "ssh-add", "identity")

	spec.Identity = "/nonexistent/key"
	message, hint = refused(t, spec)
	contains(t, message, "/nonexistent/key")
	contains(t, hint, "hosts.db1.identity")
}

// startAgent starts an ssh-agent that holds the given keys, and returns its pid.
func startAgent(t *testing.T, files ...string) int {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	eventually(t, "the agent listens", 10*time.Second, func() bool { // it makes the file before that
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	t.Setenv("SSH_AUTH_SOCK", socket)
	for _, file := range files {
		add := exec.Command("ssh-add", "-q", file)
		add.Env = append(os.Environ(), "SSH_ASKPASS="+askpass(t), "SSH_ASKPASS_REQUIRE=force", "DISPLAY=:0")
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v: %s", err, out)
		}
	}
	return agent.Process.Pid
}

const passphrase = "open sesame"

func askpass(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "askpass")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho '"+passphrase+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAnIdentityWithAPassphraseIsUsedThroughTheAgent(t *testing.T) {
	noLeak(t)
	identity, public := key(t, "-N", passphrase)
	spec := entry(t, startSSHD(t, public), identity)
	t.Setenv("SSH_AUTH_SOCK", "")
	message, hint := refused(t, spec)
	contains(t, message, "passphrase", identity)
	contains(t, hint, "ssh-add "+identity)

	startAgent(t)
	refused(t, spec)
	startAgent(t, identity)
	dial(t, spec)
}

func TestTheAgentsKeysThenKeyFilesAreOffered(t *testing.T) {
	noLeak(t)
	identity, public := key(t)
	s := startSSHD(t, public, "MaxAuthTries 3")
	spec := entry(t, s, "")
	var others []string
	for range 5 {
		other, _ := key(t)
		others = append(others, other)
	}
	useConfig(t, "")
	startAgent(t, identity)
	dial(t, spec)

	startAgent(t, others[0])
	message, _ := refused(t, spec)
	contains(t, message, "ssh-agent")
	useConfig(t, "IdentityFile "+identity)
	dial(t, spec)

	useConfig(t, "IdentityFile "+identity)
	startAgent(t, append(others, identity)...)
	dial(t, spec) // the key that ssh_config names comes before MaxAuthTries is used up

	useConfig(t, "IdentityFile "+identity+"\nIdentitiesOnly yes")
	startAgent(t, others...)
	dial(t, spec)

	useConfig(t, "IdentityFile "+identity)
	t.Setenv("SSH_AUTH_SOCK", "/nonexistent/agent")
	dial(t, spec)
}

func TestAnAliasMeansWhatItMeansToSSH(t *testing.T) {
	noLeak(t)
	identity, public := key(t)
	s := startSSHD(t, public)
	spec := entry(t, s, "")
	config := fmt.Sprintf("Host vault\nHostName 127.0.0.1\nPort %d\nUser %s\nIdentityFile %s\nHostKeyAlias vault.example.net\n", s.Port, spec.User, identity)
	useConfig(t, config, "vault.example.net "+s.HostKey)
	dial(t, &inventory.Host{Name: "backup", Address: "vault"})

	// The inventory's user, port and identity win.
	spec.Name, spec.Address, spec.HostKey = "backup", "vault:1", ""
	message, _ := refused(t, spec)
	contains(t, message, "127.0.0.1:1")
	spec.Address, spec.User = "vault", "somebody-else"
	message, _ = refused(t, spec)
	contains(t, message, "somebody-else@127.0.0.1")
	spec.User, spec.Identity = "", "/nonexistent/key"
	message, _ = refused(t, spec)
	contains(t, message, "/nonexistent/key")

	useConfig(t, config)
	_, hint := refused(t, &inventory.Host{Name: "backup", Address: "vault"})
	contains(t, hint, "vault.example.net ssh-ed25519 ")
}

func TestAnAddressIsNeverAnOption(t *testing.T) {
	noLeak(t)
	trap := filepath.Join(t.TempDir(), "trap")
	for _, address := range []string{"-oProxyCommand=touch " + trap, "-oProxyCommand=touch " + trap + ":22", "-F/dev/null", "", ":22"} {
		message, _ := refused(t, &inventory.Host{Name: "db1", Address: address})
		contains(t, message, "no usable address")
	}
	refused(t, &inventory.Host{Name: "db1", Address: "127.0.0.1:1", User: "-oProxyCommand=touch " + trap})
	if _, err := os.Stat(trap); err == nil {
		t.Error("a command of the address was run")
	}
}

func TestWithoutAnSSHProgramAnAddressIsItself(t *testing.T) {
	spec := serve(t)
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	dial(t, spec)
	spec.HostKey, spec.User = "", ""
	message, _ := refused(t, spec)
	contains(t, message, spec.Address)
}

func TestAProxyCommandIsRefused(t *testing.T) {
	useConfig(t, "Host db\nProxyCommand nc %h %p\n")
	message, hint := refused(t, &inventory.Host{Name: "db1", Address: "db"})
	contains(t, message, "ProxyCommand", "nc ")
	contains(t, hint, "via")
}

func TestAHostBehindAJumpHostIsReachedAndCheckedLikeTheJumpHost(t *testing.T) {
	noLeak(t)
	spec, bastion := serve(t), serve(t, "PermitTTY no", "ForceCommand false")
	bastion.Name = "bastion"
	spec.Via = bastion
	h := dial(t, spec)
	together(t, h, 5)
	if n := len(h.conns); n != 3 {
		t.Errorf("5 commands took %d connections through the jump host", n)
	}

	_, other := key(t)
	right := bastion.HostKey
	bastion.HostKey = other
	message, _ := refused(t, spec)
	contains(t, message, "bastion", "has changed")
	bastion.HostKey, spec.HostKey = right, other
	message, _ = refused(t, spec)
	contains(t, message, "db1", "has changed")
	spec.HostKey = ""
	useConfig(t, "")
	_, hint := refused(t, spec)
	if strings.Contains(hint, "ssh-keyscan") {
		t.Errorf("ssh-keyscan does not reach a host behind another: %s", hint)
	}
	spec.Address = "127.0.0.1:1"
	message, hint = refused(t, spec)
	contains(t, message, "db1", "127.0.0.1:1 on bastion", "refused")
	contains(t, hint, "ssh -v", " -J ")
}

func TestProxyJumpIsFollowed(t *testing.T) {
	noLeak(t)
	identity, public := key(t)
	one, two, three := startSSHD(t, public), startSSHD(t, public), startSSHD(t, public)
	me := entry(t, one, "").User
	var known []string
	config := fmt.Sprintf("Host a\nHostName 127.0.0.1\nPort %d\nHost b\nHostName 127.0.0.1\nPort %d\nProxyJump a,%s@127.0.0.1:%d\n", one.Port, three.Port, me, two.Port)
	for _, s := range []*lab.SSHD{one, two, three} {
		known = append(known, fmt.Sprintf("[127.0.0.1]:%d %s", s.Port, s.HostKey))
	}
	useConfig(t, config+"Host circle\nProxyJump round\nHost round\nProxyJump circle\nHost *\nIdentityFile "+identity, known...)
	h := dial(t, &inventory.Host{Name: "b", Address: "b"})
	if h.jump == nil || h.jump.jump == nil || h.jump.jump.jump != nil || h.jump.route.port != strconv.Itoa(two.Port) {
		t.Errorf("it goes through %v", h.jump.route)
	}
	output(t, h, Cmd{Args: []string{"true"}})
	message, _ := refused(t, &inventory.Host{Name: "b", Address: "circle"})
	contains(t, message, "more than 8 jump hosts")
}

func TestAJumpHostThatForbidsForwardingIsNamed(t *testing.T) {
	spec, bastion := serve(t), serve(t, "AllowTcpForwarding no")
	bastion.Name = "bastion"
	spec.Via = bastion
	message, hint := refused(t, spec)
	contains(t, message, "bastion", "forbids")
	contains(t, hint, "AllowTcpForwarding")
}

// impatient shortens the time a login may take, for one test.
func impatient(t *testing.T, d time.Duration) {
	t.Helper()
	before := patience
	patience = d
	t.Cleanup(func() { patience = before })
}

func TestAServerThatSaysNothingIsGivenUp(t *testing.T) {
	noLeak(t)
	spec := serve(t)
	via := *spec
	via.Name = "bastion"
	proxy := proxied(t, spec)
	proxy.Stall(true)
	impatient(t, 300*time.Millisecond)
	for _, spec.Via = range []*inventory.Host{nil, &via} {
		start := time.Now()
		message, _ := refused(t, spec)
		contains(t, message, "db1", "did not let us in within 300ms")
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	}
	proxy.Stall(false)
}

func TestDialEndsWithItsContext(t *testing.T) {
	noLeak(t)
	spec := serve(t)
	proxy := proxied(t, spec)
	proxy.Stall(true)
	defer proxy.Stall(false)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	start := time.Now()
	_, err := Dial(ctx, spec)
	if !errors.Is(err, context.Canceled) || run.CodeOf(err) != run.Interrupted {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAPortWithoutAnSSHServerSaysSo(t *testing.T) {
	noLeak(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			conn.Close()
		}
	}()
	message, hint := refused(t, &inventory.Host{Name: "db1", Address: l.Addr().String()})
	contains(t, message, "talking to db1")
	contains(t, hint, "SSH server")
	l.Close()
	message, _ = refused(t, &inventory.Host{Name: "db1", Address: l.Addr().String()})
	contains(t, message, "connecting to db1", "refused")
}
