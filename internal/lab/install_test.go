package lab

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rehearsal/internal/run"
)

func TestNothingIsMissingWhereTheLabRuns(t *testing.T) {
	if missing := Missing(); len(missing) != 0 {
		t.Errorf("missing: %v", missing)
	}
}

func TestWhatIsMissingIsNamedByItsPackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if missing := Missing(); !reflect.DeepEqual(missing, []string{"procps"}) {
		t.Errorf("missing: %v", missing)
	}
}

func TestInstallWithoutAptGetChangesNothingAndSaysTheCommand(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var out bytes.Buffer
	err := Install(t.Context(), []string{"openssh-server", "postgresql"}, &out)
	if run.CodeOf(err) != run.Usage || !strings.Contains(run.HintOf(err), "apt-get install -y openssh-server postgresql") {
		t.Errorf("code %d, hint %q: %v", run.CodeOf(err), run.HintOf(err), err)
	}
	if out.Len() > 0 {
		t.Errorf("said %q", &out)
	}
}

func TestInstallWithoutRootAndSudoChangesNothingAndSaysTheCommand(t *testing.T) {
	apt, err := exec.LookPath("apt-get")
	if os.Geteuid() == 0 || err != nil {
		t.Skip("for an ordinary user on Debian")
	}
	bin := t.TempDir()
	if err := os.Symlink(apt, filepath.Join(bin, "apt-get")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	var out bytes.Buffer
	err = Install(t.Context(), []string{"postgresql"}, &out)
	if run.CodeOf(err) != run.Usage || !strings.Contains(run.HintOf(err), "sudo apt-get install -y postgresql") {
		t.Errorf("code %d, hint %q: %v", run.CodeOf(err), run.HintOf(err), err)
	}
	if out.Len() > 0 {
		t.Errorf("said %q", &out)
	}
}

func TestInstallRunsAptGetWithoutQuestions(t *testing.T) {
	got := installCommands([]string{"sudo"}, []string{"postgresql", "procps"})
	want := [][]string{
		{"sudo", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "update"},
		{"sudo", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "postgresql", "procps"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
