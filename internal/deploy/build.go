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

// source is one of our programs, as the module has it.
type source struct {
	name     string   // that its files begin with
	folder   string   // of its command
	packages []string // folders of all packages of this module that it consists of
	needs    string   // the next step where a host is of a platform that it is not built for
}

var agent = &source{
	name: "agent", folder: "internal/images/agent",
	packages: []string{"internal/images/agent", "internal/images/content", "internal/images/index", "internal/images/picture",
		"internal/images/tree", "internal/images/wire"},
	needs: "keep the images on a host with Linux on x86_64 or aarch64",
}

var loader = &source{
	name: "loader", folder: "internal/restore/loader",
	packages: []string{"internal/archive", "internal/canary", "internal/copytext", "internal/host", "internal/inventory", "internal/mask",
		"internal/postgres", "internal/restore", "internal/restore/loader", "internal/run", "internal/source"},
	needs: "use `transfer: relay` where staging's host has not Linux on x86_64 or aarch64",
}

// program is a source built for one platform.
type program struct {
	*source
	data []byte
	sum  string // its sha256 in hex
}

func (p *program) file() string { return p.name + "-" + p.sum[:16] }

// find returns the program for Linux on arch: the one beside the running executable, which is for a compiled magefile on a
// machine without Go, or one built from the module's source, now or by an earlier run.
func (s *source) find(ctx context.Context, arch string) (*program, error) {
	beside, err := s.besideUs(arch)
	if err != nil {
		return nil, err
	}
	p, err := s.read(beside)
	if !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	built, err := s.build(ctx, arch)
	switch {
	case err == nil:
		return s.read(built)
	case ctx.Err() != nil:
		return nil, err
	}
	return nil, run.Fail(run.Usage, fmt.Sprintf("where Go and the source are, run: CGO_ENABLED=0 GOOS=linux GOARCH=%s go %s; then put that file into %s",
		arch, host.Quote(s.flags(filepath.Base(beside))...), filepath.Dir(beside)), "building the %s for linux/%s: %w", s.name, arch, err)
}

// Ready are the agents that this machine has already, by platform.
type Ready map[string]*program

// Find returns the agents that find would return without building one. What is wrong with one that is not among them, Put
// will say.
func Find(ctx context.Context) Ready {
	ready := Ready{}
	w, noSource := agent.workshop(ctx)
	for platform, arch := range platforms {
		beside, err := agent.besideUs(arch)
		if err != nil {
			continue
		}
		p, err := agent.read(beside)
		if errors.Is(err, fs.ErrNotExist) && noSource == nil {
			if built, _ := w.built(arch); built {
				p, err = agent.read(w.file(arch))
			}
		}
		if err == nil {
			ready[platform] = p
		}
	}
	return ready
}

func (s *source) besideUs(arch string) (string, error) {
	us, err := os.Executable()
	return filepath.Join(filepath.Dir(us), "rehearsal-"+s.name+"-linux-"+arch), err
}

func (s *source) read(file string) (*program, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return &program{s, data, hex.EncodeToString(sum[:])}, nil
}

// flags are go build's. The same source gives the same bytes, whoever builds it: neither paths nor the state of a working
// copy are in them.
func (s *source) flags(output string) []string {
	return []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", output, "./" + s.folder}
}

// unused is how long a program is kept in the cache that nobody has asked for.
const unused = 30 * 24 * time.Hour

// building lets the second of two hosts of one platform find what the first had built.
var building sync.Mutex

// build returns the file of a program of this source, in the user's cache. Two processes may build the same at once.
func (s *source) build(ctx context.Context, arch string) (string, error) {
	building.Lock()
	defer building.Unlock()
	w, err := s.workshop(ctx)
	if err != nil {
		return "", err
	}
	if built, err := w.built(arch); built || err != nil {
		return w.file(arch), err
	}
	if err := s.compile(ctx, w.root, arch, w.file(arch)); err != nil {
		return "", err
	}
	return w.file(arch), s.forget(w.cache, time.Now().Add(-unused))
}

// workshop is a source as it is now, and where the programs that are built from it are kept.
type workshop struct{ name, root, key, cache string }

func (s *source) workshop(ctx context.Context) (w workshop, err error) {
	w.name = s.name
	if w.root, err = moduleRoot(); err != nil {
		return w, err
	}
	if w.key, err = s.key(ctx, w.root); err != nil {
		return w, err
	}
	cache, err := os.UserCacheDir()
	w.cache = filepath.Join(cache, "rehearsal")
	return w, err
}

func (w workshop) file(arch string) string {
	return filepath.Join(w.cache, fmt.Sprintf("%s-%s-linux-%s", w.name, w.key, arch))
}

// built tells whether there is a program, and notes that it was asked for.
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

// key is different for everything that may build another program.
func (s *source) key(ctx context.Context, root string) (string, error) {
	version, err := goTool(ctx, root, nil, "env", "GOVERSION")
	if err != nil {
		return "", err
	}
	key := sha256.New()
	fmt.Fprintf(key, "%s%q\n", version, s.flags(""))
	files, err := s.files(root)
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

// files are those that the program is built from, relative to root.
func (s *source) files(root string) ([]string, error) {
	files := []string{"go.mod", "go.sum"}
	for _, folder := range s.packages {
		all, err := fs.Glob(os.DirFS(root), folder+"/*.go")
		if err != nil {
			return nil, err
		}
		files = append(files, slices.DeleteFunc(all, func(file string) bool { return strings.HasSuffix(file, "_test.go") })...)
	}
	return files, nil
}

// compile builds the program of the module at root to file, which is there as a whole or not at all.
func (s *source) compile(ctx context.Context, root, arch, file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	partial, err := os.CreateTemp(filepath.Dir(file), s.name+"-building-*")
	if err != nil {
		return err
	}
	defer partial.Close()
	defer os.Remove(partial.Name())
	// The environment's GOAMD64 may be for this machine's processor, a go.work of other versions.
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch, "GOAMD64=v1", "GOARM64=v8.0", "GOWORK=off"}
	if _, err := goTool(ctx, root, env, s.flags(partial.Name())...); err != nil {
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

// forget removes those programs from the cache that nobody has asked for since then.
func (s *source) forget(cache string, then time.Time) error {
	files, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	for _, f := range files {
		info, err := f.Info()
		if err == nil && strings.HasPrefix(f.Name(), s.name+"-") && info.ModTime().Before(then) {
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
