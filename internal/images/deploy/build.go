package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/run"
)

// program is the agent for one platform.
type program struct {
	data []byte
	sum  string // its sha256 in hex
}

func (p *program) name() string { return "agent-" + p.sum[:16] }

// find returns the agent for Linux on arch: the one beside the running executable, which is for a compiled magefile on a
// machine without Go, or one built from the module's source, now or by an earlier run.
func find(ctx context.Context, arch string) (*program, error) {
	beside, err := besideUs(arch)
	if err != nil {
		return nil, err
	}
	p, err := read(beside)
	if !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	built, err := build(ctx, arch)
	switch {
	case err == nil:
		return read(built)
	case ctx.Err() != nil:
		return nil, err
	}
	return nil, run.Fail(run.Usage, fmt.Sprintf("where Go and the source are, run: CGO_ENABLED=0 GOOS=linux GOARCH=%s go %s; then put that file into %s",
		arch, host.Quote(flags(filepath.Base(beside))...), filepath.Dir(beside)), "building the agent for linux/%s: %w", arch, err)
}

// Ready are the agents that this machine has already, by platform.
type Ready map[string]*program

// Find returns the agents that find would return without building one. What is wrong with one that is not among them, Put
// will say.
func Find(ctx context.Context) Ready {
	ready := Ready{}
	w, noSource := newWorkshop(ctx)
	for platform, arch := range platforms {
		beside, err := besideUs(arch)
		if err != nil {
			continue
		}
		p, err := read(beside)
		if errors.Is(err, fs.ErrNotExist) && noSource == nil {
			if built, _ := w.built(arch); built {
				p, err = read(w.file(arch))
			}
		}
		if err == nil {
			ready[platform] = p
		}
	}
	return ready
}

func besideUs(arch string) (string, error) {
	us, err := os.Executable()
	return filepath.Join(filepath.Dir(us), "rehearsal-agent-linux-"+arch), err
}

func read(file string) (*program, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return &program{data, hex.EncodeToString(sum[:])}, nil
}

// flags are go build's. The same source gives the same bytes, whoever builds it: neither paths nor the state of a working
// copy are in them.
func flags(output string) []string {
	return []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", output, "./internal/images/agent"}
}

// packages are those of this module that the agent consists of.
var packages = []string{"agent", "content", "index", "picture", "tree", "wire"}

// unused is how long an agent is kept in the cache that nobody has asked for.
const unused = 30 * 24 * time.Hour

// building lets the second of two hosts of one platform find what the first had built.
var building sync.Mutex

// build returns the file of an agent of this source, in the user's cache. Two processes may build the same at once.
func build(ctx context.Context, arch string) (string, error) {
	building.Lock()
	defer building.Unlock()
	w, err := newWorkshop(ctx)
	if err != nil {
		return "", err
	}
	if built, err := w.built(arch); built || err != nil {
		return w.file(arch), err
	}
	if err := compile(ctx, w.root, arch, w.file(arch)); err != nil {
		return "", err
	}
	return w.file(arch), forget(w.cache, time.Now().Add(-unused))
}

// workshop is the source of agents as it is now, and where those that are built from it are kept.
type workshop struct{ root, key, cache string }

func newWorkshop(ctx context.Context) (w workshop, err error) {
	if w.root, err = moduleRoot(); err != nil {
		return w, err
	}
	if w.key, err = sourceKey(ctx, w.root); err != nil {
		return w, err
	}
	cache, err := os.UserCacheDir()
	w.cache = filepath.Join(cache, "rehearsal")
	return w, err
}

func (w workshop) file(arch string) string {
	return filepath.Join(w.cache, fmt.Sprintf("agent-%s-linux-%s", w.key, arch))
}

// built tells whether there is an agent, and notes that it was asked for.
func (w workshop) built(arch string) (bool, error) {
	now := time.Now()
	err := os.Chtimes(w.file(arch), now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// moduleRoot is the folder of our go.mod: the working directory or one above it. Mage runs targets in it.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && slices.Contains(strings.Split(string(text), "\n"), "module rehearsal") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("its source is neither in %s nor above it", start)
		}
	}
}

// sourceKey is different for everything that may build another agent.
func sourceKey(ctx context.Context, root string) (string, error) {
	version, err := goTool(ctx, root, nil, "env", "GOVERSION")
	if err != nil {
		return "", err
	}
	key := sha256.New()
	fmt.Fprintf(key, "%s%q\n", version, flags(""))
	files, err := sources(root)
	if err != nil {
		return "", err
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(key, "%q %d\n", file, len(text))
		key.Write(text)
	}
	return hex.EncodeToString(key.Sum(nil))[:32], nil
}

// sources are the files that the agent is built from, relative to root.
func sources(root string) ([]string, error) {
	files := []string{"go.mod", "go.sum"}
	for _, name := range packages {
		all, err := fs.Glob(os.DirFS(root), "internal/images/"+name+"/*.go")
		if err != nil {
			return nil, err
		}
		files = append(files, slices.DeleteFunc(all, func(file string) bool { return strings.HasSuffix(file, "_test.go") })...)
	}
	return files, nil
}

// compile builds the agent of the module at root to file, which is there as a whole or not at all.
func compile(ctx context.Context, root, arch, file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	partial, err := os.CreateTemp(filepath.Dir(file), "agent-building-*")
	if err != nil {
		return err
	}
	defer partial.Close()
	defer os.Remove(partial.Name())
	// The environment's GOAMD64 may be for this machine's processor, a go.work of other versions.
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch, "GOAMD64=v1", "GOARM64=v8.0", "GOWORK=off"}
	if _, err := goTool(ctx, root, env, flags(partial.Name())...); err != nil {
		return err
	}
	return errors.Join(syncFile(partial.Name()), os.Rename(partial.Name(), file))
}

// syncFile brings a file to the disk: renamed before that, it may be empty after a power cut.
func syncFile(name string) error {
	f, err := os.Open(name) // go build may have put another file there
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// forget removes agents from the cache that nobody has asked for since then.
func forget(cache string, then time.Time) error {
	files, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	for _, f := range files {
		info, err := f.Info()
		if err == nil && strings.HasPrefix(f.Name(), "agent-") && info.ModTime().Before(then) {
			err = os.Remove(filepath.Join(cache, f.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another run may clean up, too
			return err
		}
	}
	return nil
}

// goTool runs the go command in the module at root and returns what it prints.
func goTool(ctx context.Context, root string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it then removes its temporary files
	cmd.WaitDelay = 3 * time.Second
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.As(err, &exit):
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}
