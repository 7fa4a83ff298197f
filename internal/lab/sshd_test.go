package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clientKey makes a key and returns its file and its authorized_keys line.
func clientKey(t *testing.T) (file, authorized string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return file, string(public)
}

// ssh is OpenSSH's client, which knows the server by HostKey alone.
func ssh(t *testing.T, s *SSHD, identity string, args ...string) *exec.Cmd {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(known, fmt.Appendf(nil, "[127.0.0.1]:%d %s\n", s.Port, s.HostKey), 0o600); err != nil {
		t.Fatal(err)
	}
	options := []string{"-F", "/dev/null", "-i", identity, "-o", "UserKnownHostsFile=" + known, "-o", "BatchMode=yes",
		"-o", "IdentitiesOnly=yes", "-l", me.Username, "-p", fmt.Sprint(s.Port), "127.0.0.1"}
	return exec.CommandContext(t.Context(), "ssh", append(options, args...)...)
}

func startSSHD(t *testing.T, authorized string, extra ...string) *SSHD {
	t.Helper()
	s, err := StartSSHD(t.Context(), "one", filepath.Join(t.TempDir(), "sshd of one"), authorized, extra...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestASSHDLetsTheAuthorizedKeyInAndNoOther(t *testing.T) {
	identity, authorized := clientKey(t)
	other, _ := clientKey(t)
	s := startSSHD(t, authorized)
	if out, err := ssh(t, s, identity, "echo in").Output(); err != nil || string(out) != "in\n" {
		t.Errorf("the authorized key: %q, %v", out, err)
	}
	if out, err := ssh(t, s, other, "echo in").CombinedOutput(); err == nil {
		t.Errorf("another key was let in: %s", out)
	}
}

func TestStoppingASSHDEndsItsConnectionsToo(t *testing.T) {
	identity, authorized := clientKey(t)
	s := startSSHD(t, authorized)
	session := ssh(t, s, identity, "echo up; exec sleep 15")
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- session.Wait() }()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the connection outlived the server")
	}
	if _, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port)); err == nil {
		t.Error("the port still answers")
	}
	if err := s.Stop(); err != nil {
		t.Errorf("stopping twice: %v", err)
	}
}

func TestASSHDKeepsItsHostKeyWhenItIsStartedAgain(t *testing.T) {
	_, authorized := clientKey(t)
	first := startSSHD(t, authorized)
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second, err := StartSSHD(t.Context(), "one", first.Dir, authorized)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Stop()
	if first.HostKey != second.HostKey {
		t.Errorf("%s became %s", first.HostKey, second.HostKey)
	}
}

func TestAnUnknownSSHDOptionIsNamed(t *testing.T) {
	_, authorized := clientKey(t)
	_, err := StartSSHD(t.Context(), "one", t.TempDir(), authorized, "MaxSessons 1")
	if err == nil || !strings.Contains(err.Error(), "MaxSessons") {
		t.Errorf("got %v", err)
	}
}
