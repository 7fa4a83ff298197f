package run

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestUnderMage is for what mage itself does about signals, which differs from what it is told here by
// exitLikeMage: it compiles a module of this package and testdata/magefile.go, and signals the real thing.
func TestUnderMage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds mage and a magefile")
	}
	module, mage := moduleOfItsOwn(t), filepath.Join(t.TempDir(), "mage")
	build := exec.Command("go", "build", "-o", mage, "github.com/magefile/mage")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wait := func(t *testing.T) *child {
		c := command(t, "", "MAGEFILE_CACHE="+filepath.Join(module, "cache"), asJSON)
		c.cmd.Path, c.cmd.Args, c.cmd.Dir = mage, []string{"mage", "wait"}, module
		c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		return c.start()
	}
	t.Run("Ctrl-C cleans up and exits 130", func(t *testing.T) {
		c := wait(t)
		c.awaitDiary("ready")
		if err := syscall.Kill(-c.cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		c.wantExit(Interrupted)
		c.wantDiary("ready\ncleaned\n")
		c.wantStderr("Error: interrupted by SIGINT: loading\n")
		if r := c.object(); r.ExitCode != Interrupted {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a signal to mage alone cleans up too", func(t *testing.T) {
		c := wait(t).interrupt(syscall.SIGTERM)
		c.wait() // for the pipe of stdout, too, and so for the orphan
		c.wantDiary("ready\ncleaned\n")
		c.wantStderr("Error: interrupted: mage was ended: loading\n")
		c.object()
	})
}

// moduleOfItsOwn is a module with a magefile and a copy of this package, because mage writes beside magefiles.
func moduleOfItsOwn(t *testing.T) string {
	t.Helper()
	module := t.TempDir()
	files := map[string]string{"../../go.mod": "go.mod", "../../go.sum": "go.sum", "testdata/magefile.go": "magefiles/magefile.go"}
	sources, _ := filepath.Glob("*.go")
	for _, source := range sources {
		if !strings.HasSuffix(source, "_test.go") {
			files[source] = filepath.Join("internal/run", source)
		}
	}
	for from, to := range files {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to = filepath.Join(module, to)
		os.MkdirAll(filepath.Dir(to), 0o700)
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return module
}
