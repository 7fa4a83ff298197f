package scenarios

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestADiskThatFillsUpInTheMiddleOfAResetLeavesStagingAsItWas gives staging's databases, but not the folder that the
// preflight looks at, a file system with room for a few megabytes more.
func TestADiskThatFillsUpInTheMiddleOfAResetLeavesStagingAsItWas(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	dir := take(t)
	base := filepath.Join(shared.Staging.Data, "base")
	mount := exec.Command("sh", "-c", `mkdir "$1" && mount -t tmpfs -o size=1m tmpfs "$1" && umount "$1"; rc=$?; rmdir "$1"; exit $rc`, "sh", filepath.Join(dir, "mount"))
	if out, err := mount.CombinedOutput(); err != nil {
		t.Skipf("this machine lets nobody mount: %s", out)
	}
	stopStaging(t)
	shell(t, `kib=$(du -sk "$1" | cut -f1) && mv "$1" "$1.aside" && mkdir -m 700 "$1" && mount -t tmpfs -o "size=$((kib + 65536))k,mode=700" tmpfs "$1" &&
		cp -a "$1.aside/." "$1" && chown --reference="$1.aside" "$1" &&
		dd if=/dev/zero of="$1/filler" bs=1k count="$(($(df -Pk "$1" | awk 'NR == 2 { print $4 }') - 3000))"`, base)
	t.Cleanup(func() {
		stopStaging(t)
		shell(t, `rm -rf "$1.aside" "$1/filler" && cp -a "$1" "$1.back" && umount "$1" && rmdir "$1" && mv "$1.back" "$1"`, base)
		startStaging(t)
	})
	startStaging(t)
	before, err := picture(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := mage(dir, "staging:reset")
	out, _ := c.CombinedOutput()
	if c.ProcessState.ExitCode() != 6 || !strings.Contains(string(out), "next: make room on staging") {
		t.Errorf("exit code %d\n%s", c.ProcessState.ExitCode(), out)
	}
	after, err := picture(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("%s\n%s", diff, out)
	}
}

func shell(t *testing.T, script string, args ...string) {
	t.Helper()
	if out, err := exec.Command("sh", append([]string{"-ec", script, "sh"}, args...)...).CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("%w: %s", err, out))
	}
}

func startStaging(t *testing.T) {
	t.Helper()
	if err := shared.Staging.Start(context.Background()); err != nil { // the test's own context has ended in its cleanup
		t.Fatal(err)
	}
}

func stopStaging(t *testing.T) {
	t.Helper()
	if err := shared.Staging.Halt(); err != nil {
		t.Fatal(err)
	}
}
