package bench

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

func TestImagesAreComparedByEveryPeerThatIsInstalledAndNothingIsLeft(t *testing.T) {
	o := tiny(t, "images")
	everyone, everything := peers, woods
	defer func() { peers, woods = everyone, everything }()
	peers = append(slices.Clone(peers), peer{name: "nobody", tool: "rehearsal-has-no-such-tool"})
	woods = slices.Clone(woods)[:1]
	woods[0].trials = slices.DeleteFunc(slices.Clone(woods[0].trials), func(tr trial) bool {
		return !slices.Contains([]string{coldFirst, hotFirst, second, farFile, farPart}, tr.name) // each state once
	})
	woods[0].trials[0].peers = append(slices.Clone(woods[0].trials[0].peers), "nobody")
	err := target(t, func(ctx context.Context, tg *run.Target) error {
		err := Run(ctx, tg, o)
		pids, _ := filepath.Glob(filepath.Join(o.Dir, "bench-images", "*", "sshd", "sshd.pid"))
		if len(pids) != 2 {
			t.Errorf("%d hosts while the target runs", len(pids))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.Write)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		named, row := "\n- **"+p.name+"** ", " | "+p.name+" | "
		if p.missing() {
			named += "is **missing**"
		} else if !regexp.MustCompile(regexp.QuoteMeta(row) + `\d`).Match(text) {
			t.Errorf("%s was not measured", p.name)
		}
		if !strings.Contains(string(text), named) || !strings.Contains(string(text), row) {
			t.Errorf("the report says nothing of %s", p.name)
		}
	}
	for _, line := range []string{"| images:verify | 20 of 20 | 0 |  |", "\n### 300 empty files\n", "| second | ", "small images, first run, cold | images:verify | not measured |",
		"- **nobody** is **missing**: "} {
		if !strings.Contains(string(text), line) {
			t.Errorf("the report lacks %q", line)
		}
	}
	if t.Failed() {
		t.Logf("%s", text)
	}
	if _, err := os.Stat(o.Dir); !os.IsNotExist(err) {
		t.Errorf("%q is still there: %v", o.Dir, err)
	}
	if out, err := exec.Command("ps", "-A", "-ww", "-o", "args=").Output(); err != nil || strings.Contains(string(out), o.Dir) {
		t.Errorf("%v; processes still run in %s", err, o.Dir)
	}
}

func TestAForestHasTheFilesThatItIsSaidToHaveInEachOfItsParts(t *testing.T) {
	for _, n := range []int{1, 4, 60, 399, 2001, 50_000} {
		paths, folders := map[string]bool{}, map[string]int{}
		for i := range n {
			paths[path(i, n)] = true
			folders[filepath.Dir(path(i, n))]++
		}
		for share, folder := range map[int]string{1: "", 4: "0/", 20: "0/0/", groups: "0/0/0/"} {
			files := 0
			for p := range paths {
				if strings.HasPrefix(p, folder) {
					files++
				}
			}
			if files != filesIn(n, share) {
				t.Errorf("%d images: %d in %q, not %d", n, files, folder, filesIn(n, share))
			}
		}
		if most := slices.Max(slices.Collect(maps.Values(folders))); most > perFolder {
			t.Errorf("%d images: %d in one folder", n, most)
		}
	}
}

func TestTheHostsOfAKilledRunAreEnded(t *testing.T) {
	dir := t.TempDir()
	left, _, err := lab.StartHost(t.Context(), inventory.Host{Name: "production", Role: inventory.Production}, filepath.Join(dir, "production"))
	if err != nil {
		t.Fatal(err)
	}
	if err := (&site{dir: dir}).close(); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", left.Port)); err == nil {
		t.Error("its sshd still listens", conn.Close(), left.Stop())
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%q is still there: %v", dir, err)
	}
}

func TestTheMemoryOfAProgramIsSeenWhereverItWasStartedFrom(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "sleep") // some are one program for many commands, and look at their name
	if err := os.WriteFile(file, program, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	peaks := make([]int64, 3)
	notePeaks(peaks, []string{dir, file, dir + "/slee"}) // Start returns once the program runs
	if peaks[0] == 0 || peaks[1] == 0 || peaks[2] != 0 { // it grows meanwhile
		t.Errorf("%v", peaks)
	}
}
