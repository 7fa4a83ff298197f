package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// SSHD is one OpenSSH server on loopback with its own host key.
type SSHD struct {
	Name, Dir string
	Port      int
	HostKey   string // "ssh-ed25519 AAAA…", as a known_hosts line or an inventory's host_key has it
	PID       int
}

// StartSSHD starts an sshd that lets only the current user in, with the keys of authorized, and returns
// once it listens. It is a daemon: it outlives this process until Stop. Everything it needs and writes is
// in dir: sshd_config, host keys (ed25519 and ecdsa; kept from an earlier start), authorized_keys,
// sshd.log, sshd.pid. The extra lines stand before ours in sshd_config, and sshd takes the first value.
func StartSSHD(ctx context.Context, name, dir, authorized string, extra ...string) (*SSHD, error) {
	program, err := findSSHD()
	if err != nil {
		return nil, err
	}
	s := &SSHD{Name: name, Dir: dir}
	if err := s.prepare(ctx, authorized); err != nil {
		return nil, fmt.Errorf("preparing sshd %s: %w", name, err)
	}
	// Between finding a free port and sshd's bind another process may take the port.
	for attempt := 0; ; attempt++ {
		err := s.start(ctx, program, extra)
		if err == nil {
			return s, nil
		}
		if attempt == 2 || !strings.Contains(s.log(), "Address already in use") {
			return nil, fmt.Errorf("starting sshd %s: %w", name, err)
		}
	}
}

// Stop ends the server and every connection it has, and returns when they have ended: none writes to Dir any
// more. It does nothing where the server no longer runs.
func (s *SSHD) Stop() error {
	if !s.running() {
		return nil
	}
	// Killing the listener leaves its connections, each a child with a session of its own. While it is stopped
	// it gets no more of them.
	_ = syscall.Kill(s.PID, syscall.SIGSTOP)
	pids := append(children(s.PID), s.PID)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for _, pid := range pids {
			_ = syscall.Kill(pid, signal)
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
		if gone(pids, 5*time.Second) {
			return nil
		}
	}
	return fmt.Errorf("stopping sshd %s: process %d or its connections do not end", s.Name, s.PID)
}

// findSSHD returns sshd's absolute path: it starts itself again for each connection, and refuses a relative one.
func findSSHD() (string, error) {
	for _, path := range []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("sshd")
	if err != nil {
		return "", errors.New("sshd is not installed (looked in /usr/sbin, /usr/local/sbin and PATH); Debian's package is openssh-server")
	}
	return filepath.Abs(path)
}

func (s *SSHD) prepare(ctx context.Context, authorized string) error {
	if os.Geteuid() == 0 { // sshd's empty chroot; an ordinary user's sshd does not separate privileges
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	for _, kind := range []string{"ed25519", "ecdsa"} {
		if err := makeHostKey(ctx, s.file("host_"+kind), kind); err != nil {
			return err
		}
	}
	public, err := os.ReadFile(s.file("host_ed25519.pub"))
	if err != nil {
		return err
	}
	s.HostKey = strings.TrimSpace(string(public))
	return os.WriteFile(s.file("authorized_keys"), []byte(strings.TrimSpace(authorized)+"\n"), 0o600)
}

func makeHostKey(ctx context.Context, path, kind string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-N", "", "-C", "", "-t", kind, "-f", path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("making a host key with ssh-keygen: %w: %s", err, out)
	}
	return nil
}

func (s *SSHD) start(ctx context.Context, program string, extra []string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s.Port = port
	if err := s.configure(ctx, program, extra); err != nil {
		return err
	}
	// The log of an earlier start must not be taken for this one's.
	if err := os.Remove(s.file("sshd.log")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if out, err := exec.CommandContext(ctx, program, "-f", s.file("sshd_config"), "-E", s.file("sshd.log")).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s%s", err, out, s.log())
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for !s.listens() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not listen on port %d: %w: %s", s.Port, ctx.Err(), s.log())
		case <-time.After(10 * time.Millisecond):
		}
		if strings.Contains(s.log(), "Address already in use") {
			return fmt.Errorf("port %d was taken: %s", s.Port, s.log())
		}
	}
	return nil
}

// configure writes sshd_config and has sshd judge it.
func (s *SSHD) configure(ctx context.Context, program string, extra []string) error {
	text, err := s.config(extra)
	if err != nil {
		return err
	}
	// OpenSSH 9.8 and later shut an address out for a while after refused logins; older ones do not know the word.
	for _, text := range []string{text + "PerSourcePenalties no\n", text} {
		if err = os.WriteFile(s.file("sshd_config"), []byte(text), 0o644); err != nil {
			return err
		}
		out, testErr := exec.CommandContext(ctx, program, "-t", "-f", s.file("sshd_config")).CombinedOutput()
		if testErr == nil {
			return nil
		}
		err = fmt.Errorf("sshd_config: %w: %s", testErr, strings.TrimSpace(string(out)))
	}
	return err
}

func (s *SSHD) config(extra []string) (string, error) {
	me, err := user.Current()
	if err != nil {
		return "", err
	}
	// Without PAM root's sshd refuses accounts whose password is locked; an ordinary user's cannot use PAM.
	pam := "no"
	if _, err := os.Stat("/etc/pam.d/sshd"); err == nil && os.Geteuid() == 0 {
		pam = "yes"
	}
	lines := append([]string{}, extra...)
	// bash reads ~/.bashrc for every command that sshd starts, unless it is not the outermost shell. The start
	// files of this machine's user are not those of the hosts that it stands for, and can take long.
	lines = append(lines, "SetEnv SHLVL=1")
	lines = append(lines,
		"Port "+strconv.Itoa(s.Port),
		"ListenAddress 127.0.0.1",
		`HostKey "`+s.file("host_ed25519")+`"`,
		`HostKey "`+s.file("host_ecdsa")+`"`,
		`PidFile "`+s.file("sshd.pid")+`"`,
		`AuthorizedKeysFile "`+strings.ReplaceAll(s.file("authorized_keys"), "%", "%%")+`"`,
		"AllowUsers "+me.Username,
		"PermitRootLogin prohibit-password",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"StrictModes no",
		"UsePAM "+pam,
		"LogLevel VERBOSE",
	)
	return strings.Join(lines, "\n") + "\n", nil
}

func (s *SSHD) file(name string) string { return filepath.Join(s.Dir, name) }

func (s *SSHD) log() string {
	text, _ := os.ReadFile(s.file("sshd.log"))
	return string(text)
}

// listens notes the pid once the pid file is there, which sshd writes after it listens.
func (s *SSHD) listens() bool {
	text, err := os.ReadFile(s.file("sshd.pid"))
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return false
	}
	s.PID = pid
	return s.running()
}

// running tells whether the process is ours still: a pid alone may be anybody's after a reboot.
func (s *SSHD) running() bool {
	if s.PID <= 1 {
		return false
	}
	out, err := exec.Command("ps", "-ww", "-o", "args=", "-p", strconv.Itoa(s.PID)).Output()
	return err == nil && strings.Contains(string(out), s.file("sshd_config"))
}

// gone waits until none of the processes is more than a zombie.
func gone(pids []int, patience time.Duration) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if !slices.ContainsFunc(pids, func(pid int) bool {
			stat, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
			return err == nil && !strings.HasPrefix(string(stat), "Z")
		}) {
			return true
		}
	}
	return false
}

// children lists the processes whose parent is pid.
func children(pid int) []int {
	out, err := exec.Command("ps", "-A", "-o", "ppid=,pid=").Output()
	if err != nil {
		return nil
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		var parent, child int
		if _, err := fmt.Sscan(line, &parent, &child); err == nil && parent == pid {
			pids = append(pids, child)
		}
	}
	return pids
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
