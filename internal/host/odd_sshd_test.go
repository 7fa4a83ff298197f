package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// everythingWorks does what a run does on a host: commands with arguments, secrets and stdin, a file, a socket.
func everythingWorks(t *testing.T, h *Host) {
	t.Helper()
	c := Cmd{Script: `printf '%s\0' "$@" "$ENV1" "$SECRET1"`, Args: nasty, Env: map[string]string{"ENV1": "it's\n$HOME! !! %s \\047"},
		Secret: map[string]string{"SECRET1": ` \p'"$(id)!`}}
	want := strings.Join(nasty, "\x00") + "\x00it's\n$HOME! !! %s \\047\x00 \\p'\"$(id)!\x00"
	if got := output(t, h, c); got != want {
		t.Errorf("sent %q\ngot  %q", want, got)
	}
	c.Stdin, c.Script = strings.NewReader("and stdin"), c.Script+"; cat"
	if got := output(t, h, c); got != want+"and stdin" {
		t.Errorf("with a stdin: sent %q\ngot  %q", want, got)
	}
	var exit *ExitError
	if err := h.Run(t.Context(), Cmd{Script: "echo err >&2; exit 3"}); !errors.As(err, &exit) || exit.Status != 3 || exit.Stderr != "err\n" {
		t.Errorf("got %v", err)
	}
	if err := h.WriteFile(t.Context(), "~/new folder/file", []byte("text!\n")); err != nil {
		t.Error(err)
	} else if got := output(t, h, Cmd{Args: []string{"cat", h.Path("~/new folder/file")}}); got != "text!\n" {
		t.Errorf("the file holds %q", got)
	}
}

// opens tells whether a socket of the host can be reached.
func opens(t *testing.T, h *Host, network, addr string) error {
	t.Helper()
	conn, err := h.DialContext(t.Context(), network, addr)
	if err == nil {
		conn.Close()
	}
	return err
}

// noisyHome is a home directory whose start files, of every shell, talk.
func noisyHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	const noise = "printf 'Welcome to %s!' db1\n" + `sh -c 'echo rehearsal-soon: >&2; printf "no newline" >&2'` + "\n"
	for _, file := range []string{".bashrc", ".zshenv", ".cshrc", ".config/fish/config.fish"} {
		file = filepath.Join(home, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(noise), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return home
}

// program is a file that a POSIX sh runs.
func program(t *testing.T, script string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestEveryLoginShellIsGivenWhatItUnderstands starts each shell as sshd does, with -c and the line.
func TestEveryLoginShellIsGivenWhatItUnderstands(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"dash", "bash", "zsh", "ksh", "fish", "csh", "tcsh"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip("not installed")
			}
			home := noisyHome(t)
			login := program(t, fmt.Sprintf("unset SHLVL; HOME=%s; export HOME; exec %s -c \"$SSH_ORIGINAL_COMMAND\"", Quote(home), path))
			spec := serve(t, "ForceCommand exec "+login, "Banner /etc/passwd")
			proxy := proxied(t, spec)
			h := dial(t, spec)
			if h.Path("~") != home {
				t.Errorf("the home is %q", h.Path("~"))
			}
			everythingWorks(t, h)
			if err := opens(t, h, "unix", socket(t, "unix")); err != nil {
				t.Error(err)
			}
			endsWithItsContext(t, h, Cmd{Script: stubborn}, 5*time.Second)
			endsWithItsConnection(t, h, Cmd{Script: stubborn}, proxy.Cut)
		})
	}
}

// account makes a user of this machine for the length of the test and returns the inventory's entry for it.
func account(t *testing.T, shell string, useradd ...string) *inventory.Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root makes users")
	}
	home, err := os.MkdirTemp("", "home-") // the user has to be able to reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	name := "rehearsal-" + strings.TrimLeft(strings.TrimPrefix(filepath.Base(home), "home-"), "0")
	args := append([]string{"-M", "-N", "-d", home, "-s", shell, "-p", "*"}, append(useradd, name)...)
	if out, err := exec.Command("useradd", args...).CombinedOutput(); err != nil {
		t.Fatalf("useradd: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("userdel", "-f", name).CombinedOutput(); err != nil {
			t.Errorf("userdel: %v: %s", err, out)
		}
	})
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	identity, public := key(t)
	keys := filepath.Join(home, "keys")
	if err := os.WriteFile(keys, []byte(public+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	if err := errors.Join(os.Chmod(home, 0o755), os.Chown(home, uid, -1)); err != nil {
		t.Fatal(err)
	}
	spec := entry(t, startSSHD(t, "", "AllowUsers "+name, "AuthorizedKeysFile "+keys), identity)
	spec.User = name
	return spec
}

func TestAnAccountMayHaveAnyLoginShell(t *testing.T) {
	for _, shell := range []string{"/bin/sh", "/bin/bash", "zsh", "fish", "tcsh"} {
		t.Run(filepath.Base(shell), func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip("not installed")
			}
			everythingWorks(t, dial(t, account(t, path)))
		})
	}
}

func TestAnAccountWithoutALoginShellSaysSo(t *testing.T) {
	for shell, wants := range map[string][]string{
		"/usr/sbin/nologin": {"status 1", "not available"},
		"/bin/false":        {"status 1", "says nothing"},
		"/bin/true":         {"status 0", "says nothing"},
		"/bin/rbash":        {"exec: restricted"},
	} {
		t.Run(filepath.Base(shell), func(t *testing.T) {
			if _, err := os.Stat(shell); err != nil {
				t.Skip("not installed")
			}
			spec := account(t, shell)
			message, hint := refused(t, spec)
			contains(t, message, append(wants, "db1 does not run commands for "+spec.User)...)
			contains(t, hint, "login shell", "chsh -s /bin/sh "+spec.User)
			if silent := slices.Contains(wants, "says nothing"); silent != strings.Contains(hint, "ForceCommand") {
				t.Errorf("it said what it is: %t; next: %s", !silent, hint)
			}
		})
	}
}

func TestAForcedCommandSaysWhatCameInstead(t *testing.T) {
	t.Parallel()
	answers := program(t, "echo 'This key is for backups only.'; echo 'Bye!' >&2; exit 4")
	for name, test := range map[string]struct {
		config, key string
		want        []string
	}{
		"internal-sftp":        {"ForceCommand internal-sftp", "", []string{"sftp connections only"}},
		"sftp-server":          {"ForceCommand exec $(ls /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/libexec/sftp-server 2>/dev/null)", "", []string{"says nothing"}},
		"words":                {"ForceCommand echo no", "", []string{"status 0", `"no"`}},
		"a program":            {"ForceCommand " + answers, "", []string{"status 4", "This key is for backups only. Bye!"}},
		"a program that reads": {"ForceCommand read line; echo not $(echo $line | cut -c1-9)", "", []string{"not rehearsal"}},
		"of a key":             {"", `command="echo no" `, []string{`"no"`}},
		"of a restricted key":  {"", `restrict,command="` + answers + `" `, []string{"This key is for backups only."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			identity, public := key(t)
			message, hint := refused(t, entry(t, startSSHD(t, test.key+public, test.config), identity))
			contains(t, message, append(test.want, "db1 does not run commands")...)
			contains(t, hint, "ForceCommand", "command=", "authorized_keys")
		})
	}
}

func TestAForcedCommandThatNeverEndsIsGivenUp(t *testing.T) {
	noLeak(t)
	plain := serve(t)
	begins, stops := beginning, stopping
	t.Cleanup(func() { beginning, stopping = begins, stops })
	beginning, stopping = 2*time.Second, time.Second
	h := dial(t, plain)
	h.home = "" // as if it were the first
	var plainly sync.WaitGroup
	plainly.Go(func() {
		if err := h.Run(t.Context(), Cmd{Args: []string{"sleep", "3"}}); err != nil { // the limit is not the command's
			t.Error(err)
		}
	})
	defer plainly.Wait()
	message, hint := refused(t, serve(t, "ForceCommand exec cat"))
	contains(t, message, "does not begin a command", "within 2s")
	contains(t, hint, "ForceCommand", "start files")
}

func TestAStartFileThatReadsTheInputIsNoticed(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t, `ForceCommand read -r line; exec sh -c "$SSH_ORIGINAL_COMMAND"`))
	if got := output(t, h, Cmd{Args: []string{"echo", "out"}}); got != "out\n" { // nothing of it is missing
		t.Errorf("got %q", got)
	}
	seen := filepath.Join(t.TempDir(), "seen")
	for name, c := range map[string]Cmd{
		"data":   {Script: `cat >"$1"`, Args: []string{seen}, Stdin: strings.NewReader("one\ntwo\n")},
		"secret": {Script: `cat >"$1"`, Args: []string{seen}, Secret: map[string]string{"A": "one", "B": "two"}},
	} {
		err := h.Run(t.Context(), c)
		if run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "reads standard input") || !strings.Contains(run.HintOf(err), ".bashrc") {
			t.Errorf("%s: %v; next: %s", name, err, run.HintOf(err))
		}
		if _, err := os.Stat(seen); err == nil {
			t.Errorf("%s: the command was run on the rest", name)
		}
	}
}

func TestNothingNeedsSFTP(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	s, err := h.conns[0].ssh.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestSubsystem("sftp"); err == nil {
		t.Error("this sshd has sftp")
	}
	s.Close()
	h.home = t.TempDir()
	everythingWorks(t, h)
	for _, network := range []string{"unix", "tcp"} {
		if err := opens(t, h, network, socket(t, network)); err != nil {
			t.Error(err)
		}
	}
}

func TestAForbiddenForwardingNamesItsSetting(t *testing.T) {
	t.Parallel()
	both := []string{"unix", "tcp"}
	for _, test := range []struct {
		config, key string
		setting     string   // what the hint has to name
		forbids     []string // what AllowTcpForwarding and PermitOpen forbid of Unix sockets, sshd_config(5) does not say
	}{
		{"", "", "", nil},
		{"AllowTcpForwarding local", "", "", nil},
		{"AllowTcpForwarding no", "", "AllowTcpForwarding local", both},
		{"AllowTcpForwarding remote", "", "AllowTcpForwarding local", both},
		{"PermitOpen none", "", "PermitOpen any", both},
		{"PermitOpen localhost:1", "", "PermitOpen any", both},
		{"AllowStreamLocalForwarding no", "", ": AllowStreamLocalForwarding local in", []string{"unix"}},
		{"DisableForwarding yes", "", "DisableForwarding no", both},
		{"", "restrict ", "restrict", both},
		{"", "restrict,port-forwarding ", "", nil},
		{"", "no-port-forwarding ", "no-port-forwarding", both},
	} {
		t.Run(test.config+test.key, func(t *testing.T) {
			t.Parallel()
			identity, public := key(t)
			h := dial(t, entry(t, startSSHD(t, test.key+public, test.config), identity))
			output(t, h, Cmd{Args: []string{"true"}})
			for _, network := range both {
				addr := socket(t, network)
				err := opens(t, h, network, addr)
				if !slices.Contains(test.forbids, network) {
					if err != nil {
						t.Errorf("%s: %v", network, err)
					}
					continue
				}
				if run.CodeOf(err) != run.Unreachable || err.Error() != "connecting to "+addr+" on db1: its sshd forbids it" {
					t.Errorf("%s: %v", network, err)
				}
				contains(t, run.HintOf(err), test.setting, "sshd -T -C user="+h.route.user)
			}
		})
	}
}

func TestTheHintAboutForwardingIsACommandThatTellsWhich(t *testing.T) {
	t.Parallel()
	s := startSSHD(t, "", "AllowStreamLocalForwarding no", "PermitOpen none")
	_, command, found := strings.Cut((&Host{spec: &inventory.Host{Name: "db1"}, route: &route{user: "deploy"}}).letForward("X"), "As root there: ")
	if !found {
		t.Fatal("there is none")
	}
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(command, "sshd ", sshd+" -f "+Quote(filepath.Join(s.Dir, "sshd_config"))+" ", 1)).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	contains(t, string(out), "allowstreamlocalforwarding no", "permitopen none", "allowtcpforwarding yes", "disableforwarding no")
}

func TestASocketThatKeepsUsOutIsNotBlamedOnSSHD(t *testing.T) {
	closed := socket(t, "unix")
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	spec := func() *inventory.Host {
		if os.Geteuid() == 0 { // whom no permissions keep out
			spec := account(t, "/bin/sh")
			if err := os.Chmod(filepath.Dir(closed), 0o755); err != nil {
				t.Fatal(err)
			}
			return spec
		}
		return serve(t)
	}()
	err := opens(t, dial(t, spec), "unix", closed)
	if run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "keep "+spec.User+" out") || !strings.Contains(run.HintOf(err), "unix_socket_permissions") {
		t.Errorf("got %v; next: %s", err, run.HintOf(err))
	}
}

func TestAJumpHostThatForbidsOurHostIsNamed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ config, key string }{{"PermitOpen none", ""}, {"DisableForwarding yes", ""}, {"", "restrict "}} {
		identity, public := key(t)
		bastion := entry(t, startSSHD(t, test.key+public, test.config), identity)
		spec := serve(t)
		bastion.Name, spec.Via = "bastion", bastion
		message, hint := refused(t, spec)
		contains(t, message, spec.Address+" on bastion: its sshd forbids it")
		contains(t, hint, "on bastion", "AllowTcpForwarding", "PermitOpen any or "+spec.Address, "DisableForwarding", "restrict")
	}
}

// stranger connects to a server and does not log in, until it is let go.
func stranger(t *testing.T, spec *inventory.Host) (leave func()) {
	t.Helper()
	conn, err := net.Dial("tcp", spec.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Read(make([]byte, 1)); err != nil { // sshd counts it now
		t.Fatal(err)
	}
	return func() { conn.Close() }
}

func TestAServerThatIsBusyWithOthersIsTriedAgain(t *testing.T) {
	noLeak(t)
	identity, public := key(t)
	s := startSSHD(t, public, "MaxStartups 1:100:1")
	spec := entry(t, s, identity)
	leave := stranger(t, spec)
	dropped := func() bool {
		log, _ := os.ReadFile(filepath.Join(s.Dir, "sshd.log"))
		return strings.Contains(string(log), "MaxStartups throttling")
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		for !dropped() && t.Context().Err() == nil {
			time.Sleep(20 * time.Millisecond)
		}
		leave()
	})
	h := dial(t, spec)
	waiting.Wait()
	together(t, h, 20) // three connections, which are in each other's way
}

func TestAServerThatStaysBusyWithOthersNamesMaxStartups(t *testing.T) {
	t.Parallel()
	spec := serve(t, "MaxStartups 1:100:1")
	stranger(t, spec)
	message, hint := refused(t, spec)
	contains(t, message, "hung up before it spoke SSH")
	contains(t, hint, "MaxStartups", "PerSourcePenalties")

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := Dial(ctx, spec); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

func TestAServerThatHasNoTimeForALoginNamesLoginGraceTime(t *testing.T) {
	t.Parallel()
	spec := serve(t, "LoginGraceTime 3")
	dial(t, spec)
	proxied(t, spec).SetDelay(2 * time.Second)
	_, hint := refused(t, spec)
	contains(t, hint, "LoginGraceTime")
}

func TestAServerThatIsSlowToDecideIsWaitedFor(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	noLeak(t)
	identity, public := key(t)
	spec := entry(t, startSSHD(t, "", "AuthorizedKeysFile none", "AuthorizedKeysCommandUser "+me.Username,
		`AuthorizedKeysCommand /bin/sh -c "sleep 1.5; echo '`+public+`'"`), identity)
	impatient(t, 2*time.Second)
	dial(t, spec)

	before := deliberation
	deliberation = time.Second
	t.Cleanup(func() { deliberation = before })
	message, hint := refused(t, spec)
	contains(t, message, "did not decide within 1s")
	contains(t, hint, "UseDNS", "PAM")
}

func TestOldAlgorithmsAreNamedWithTheirSetting(t *testing.T) {
	t.Parallel()
	identity, public := key(t)
	rsa := filepath.Join(t.TempDir(), "host_rsa")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	start := func(t *testing.T, config ...string) (*inventory.Host, error) {
		s, err := lab.StartSSHD(t.Context(), "db1", filepath.Join(t.TempDir(), "sshd"), public, config...)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() {
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
		return entry(t, s, identity), nil
	}
	for _, test := range []struct {
		config string
		wants  []string // of message and hint; none: it works
	}{
		{"KexAlgorithms diffie-hellman-group14-sha1", nil},
		{"KexAlgorithms diffie-hellman-group16-sha512", nil},
		{"KexAlgorithms diffie-hellman-group-exchange-sha256", nil},
		{"HostKeyAlgorithms ecdsa-sha2-nistp256", []string{"has changed"}}, // the other key is pinned
		{"KexAlgorithms diffie-hellman-group1-sha1", []string{"no key exchange", "offers diffie-hellman-group1-sha1; next", "KexAlgorithms in its sshd_config have one of mlkem768", "curve25519-sha256"}},
		{"HostKeyAlgorithms ssh-rsa", []string{"no host key", "offers ssh-rsa;", "HostKeyAlgorithms", "ssh-keygen -A", "rsa-sha2-512"}},
		{"Ciphers aes256-cbc", []string{"no client to server cipher", "offers aes256-cbc", "Ciphers in its sshd_config have one of aes128-gcm"}},
		{"Ciphers aes128-ctr\nMACs umac-64@openssh.com", []string{"no client to server MAC", "offers umac-64", "MACs in its sshd_config have one of hmac-sha2-256"}},
	} {
		t.Run(test.config, func(t *testing.T) {
			t.Parallel()
			spec, err := start(t, test.config, "HostKey "+rsa)
			if err != nil {
				t.Skipf("this sshd does not know it any more: %v", err)
			}
			if test.wants == nil {
				dial(t, spec)
				return
			}
			message, hint := refused(t, spec)
			contains(t, message+"; next: "+hint, test.wants...)
			if strings.Contains(message+hint, "ext-info") || strings.Contains(message+hint, "kex-strict") {
				t.Errorf("what is no algorithm is among them: %s; next: %s", message, hint)
			}
		})
	}
}

func TestARefusedAccountNamesItselfItsKeysAndTheReasonsThereAre(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for config, spec := range map[string]*inventory.Host{
		"AllowUsers excludes it": serve(t, "DenyUsers "+me.Username),
		"AllowGroups":            serve(t, "AllowGroups nobody-is-in-this-group"),
	} {
		t.Run(config, func(t *testing.T) {
			message, hint := refused(t, spec)
			contains(t, message, "does not let us in as "+spec.User+"@", spec.Identity, "ssh-ed25519 SHA256:")
			contains(t, hint, "AllowUsers", "AllowGroups", "sshd log", "authorized_keys")
			if root := me.Username == "root"; root != strings.Contains(hint, "PermitRootLogin") {
				t.Errorf("as root: %t; next: %s", root, hint)
			}
		})
	}
	t.Run("PermitRootLogin no", func(t *testing.T) {
		if me.Username != "root" {
			t.Skip("only root's sshd lets root in")
		}
		_, hint := refused(t, serve(t, "PermitRootLogin no"))
		contains(t, hint, "PermitRootLogin")
	})
	t.Run("an expired account", func(t *testing.T) {
		spec := account(t, "/bin/sh", "-e", "2001-01-01")
		message, hint := refused(t, spec)
		contains(t, message, "does not let us in as "+spec.User+"@", spec.Identity)
		contains(t, hint, "an expired account")
	})
	t.Run("a login shell that is not there", func(t *testing.T) {
		_, hint := refused(t, account(t, "/nonexistent/shell"))
		contains(t, hint, "a login shell that is not there")
	})
	t.Run("more keys than it looks at", func(t *testing.T) {
		identity, public := key(t)
		spec := entry(t, startSSHD(t, public, "MaxAuthTries 2"), "")
		var others []string
		for range 3 {
			other, _ := key(t)
			others = append(others, other)
		}
		useConfig(t, "")
		startAgent(t, append(others, identity)...)
		_, hint := refused(t, spec)
		contains(t, hint, "MaxAuthTries", `"identity"`)
	})
}
