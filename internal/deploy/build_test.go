package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/run"
)

// module makes a module of our name with a small agent, enters it, and gives it a cache of its own.
func module(t testing.TB) {
	t.Helper()
	source, err := os.ReadFile("testdata/agent.go")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := goTool(t.Context(), ".", nil, "env", "GOCACHE")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", strings.TrimSpace(cache)) // it would be in our new cache
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	root := t.TempDir()
	write(t, filepath.Join(root, "go.mod"), "module rehearsal\n\ngo 1.26\n")
	write(t, filepath.Join(root, "go.sum"), "")
	write(t, filepath.Join(root, "internal", "images", "agent", "main.go"), string(source))
	t.Chdir(root)
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func noise(n int) string {
	random := rand.NewChaCha8([32]byte{})
	text := make([]byte, n)
	_, _ = random.Read(text)
	return string(text)
}

func mustBuild(t *testing.T) string {
	t.Helper()
	file, err := agent.build(t.Context(), runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func cached(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "rehearsal", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTheAgentIsBuiltOnceForEachSource(t *testing.T) {
	module(t)
	file := mustBuild(t)
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, then, then); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, "internal/images/agent/main_test.go", "package main\n")
	write(t, "internal/images/other/other.go", "package other\n")
	t.Chdir("internal/images")
	again := mustBuild(t)
	after, err := os.Stat(again)
	if err != nil {
		t.Fatal(err)
	}
	if again != file || !os.SameFile(before, after) {
		t.Errorf("it was built again: %s, then %s", file, again)
	}
	if time.Since(after.ModTime()) > time.Minute {
		t.Errorf("that it was used is not to be seen: %v", after.ModTime())
	}
	write(t, "agent/more.go", "package main\n")
	other := mustBuild(t)
	if other == file {
		t.Error("a changed source was not built")
	}
	if got := cached(t); len(got) != 2 || !slices.Contains(got, file) || !slices.Contains(got, other) {
		t.Errorf("the cache has %q", got)
	}
}

func TestEverySourceOfTheAgentIsInItsKey(t *testing.T) {
	module(t)
	seen := map[string]string{}
	for _, file := range []string{"", "go.mod", "go.sum", "internal/images/agent/main.go", "internal/images/tree/walk_linux.go", "internal/images/wire/wire.go"} {
		if file != "" {
			write(t, file, "// "+file)
		}
		key, err := agent.key(t.Context(), ".")
		if err != nil {
			t.Fatal(err)
		}
		if seen[key] != "" {
			t.Errorf("%q changes nothing", file)
		}
		seen[key] = file + "!"
	}
}

func TestTheSameSourceGivesTheSameAgentWhereverItLiesAndWhateverTheEnvironmentSays(t *testing.T) {
	var sums []string
	for _, environment := range []map[string]string{{}, {"GOAMD64": "v3", "GOARM64": "v9.0", "GOARCH": "386", "GOOS": "darwin", "CGO_ENABLED": "1"}} {
		t.Run("", func(t *testing.T) {
			module(t)
			for name, value := range environment {
				t.Setenv(name, value)
			}
			p, err := agent.read(mustBuild(t))
			if err != nil {
				t.Fatal(err)
			}
			sums = append(sums, p.sum)
		})
	}
	if len(sums) != 2 || sums[0] != sums[1] {
		t.Errorf("sha256: %q", sums)
	}
}

func TestAgentsThatNobodyAskedForInAMonthLeaveTheCache(t *testing.T) {
	module(t)
	folder := filepath.Join(os.Getenv("XDG_CACHE_HOME"), "rehearsal")
	for name, days := range map[string]int{"agent-old-linux-amd64": 31, "agent-building-1": 31, "agent-young-linux-amd64": 29, "other": 31} {
		file, then := filepath.Join(folder, name), time.Now().AddDate(0, 0, -days)
		write(t, file, name)
		if err := os.Chtimes(file, then, then); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{mustBuild(t), filepath.Join(folder, "agent-young-linux-amd64"), filepath.Join(folder, "other")}
	if got := cached(t); !slices.Equal(got, want) {
		t.Errorf("the cache has %q, want %q", got, want)
	}
}

func TestWithoutTheSourceOrGoTheNextStepIsTheBuildCommand(t *testing.T) {
	check := func(err error, texts ...string) {
		t.Helper()
		if run.CodeOf(err) != run.Usage {
			t.Errorf("%v: exit code %d, want %d", err, run.CodeOf(err), run.Usage)
		}
		beside, _ := agent.besideUs("arm64")
		texts = append(texts, "building the agent for linux/arm64", "GOARCH=arm64 go build -trimpath", filepath.Base(beside), filepath.Dir(beside))
		for _, text := range texts {
			if all := err.Error() + "\n" + run.HintOf(err); !strings.Contains(all, text) {
				t.Errorf("%s\nwant it to say %q", all, text)
			}
		}
	}
	module(t)
	write(t, "internal/images/agent/main.go", "package main\n\nfunc main() { undefined() }\n")
	_, err := agent.find(t.Context(), "arm64")
	check(err, "undefined: undefined")
	if left := cached(t); len(left) > 0 {
		t.Errorf("left in the cache: %q", left)
	}
	t.Run("without Go", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := agent.find(t.Context(), "arm64")
		check(err, "executable file not found")
	})
	t.Chdir(t.TempDir())
	write(t, "go.mod", "module other\n")
	_, err = agent.find(t.Context(), "arm64")
	check(err, "its source is neither in ")
}

func TestAnInterruptedBuildIsAnInterruption(t *testing.T) {
	module(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := agent.find(ctx, "amd64"); !errors.Is(err, context.Canceled) || run.CodeOf(err) != run.Interrupted {
		t.Errorf("got %v", err)
	}
}

func TestAProgramConsistsOfThePackagesInItsKeyAlone(t *testing.T) {
	for _, s := range []*source{agent, loader} {
		for _, arch := range platforms {
			cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f",
				`{{if not .Standard}}{{.ImportPath}}{{range .EmbedFiles}} {{.}}{{end}}{{range .SFiles}} {{.}}{{end}}{{end}}`, "rehearsal/"+s.folder)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(string(out)) {
				if name, ours := strings.CutPrefix(strings.TrimSpace(line), "rehearsal/"); ours {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, s.packages) {
				t.Errorf("the %s for linux/%s consists of %q, its key of %q", s.name, arch, got, s.packages)
			}
		}
	}
}

func TestTheFilesOfOneProgramAreNotAnothersBusiness(t *testing.T) {
	beside(t, fine)
	f := dial(t, t.TempDir())
	agentAt := put(t, f)
	then := time.Now().AddDate(0, 0, -3)
	if err := os.Chtimes(agentAt, then, then); err != nil {
		t.Fatal(err)
	}
	file, err := loader.besideUs(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, fine+"# the loader")
	t.Cleanup(func() { os.Remove(file) })
	loaderAt, err := PutLoader(t.Context(), f.Host)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := f.files(t), []string{filepath.Base(agentAt), filepath.Base(loaderAt)}; !slices.Equal(got, want) || !strings.HasPrefix(want[1], "loader-") {
		t.Errorf("the folder has %q, want %q", got, want)
	}
}

func TestTheRealAgentIsPutThere(t *testing.T) {
	f := dial(t, t.TempDir())
	out, err := f.Output(t.Context(), host.Cmd{Args: []string{put(t, f), "-version"}})
	if err != nil || !strings.HasPrefix(out, "rehearsal-agent ") {
		t.Errorf("it says %q, %v", out, err)
	}
}
