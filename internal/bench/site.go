package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// site is two hosts with a tree of images on each, and the line between them.
type site struct {
	dir, binary        string
	production, backup *inventory.Host
	sshds              []*lab.SSHD
	far                *lab.Proxy // the backup host, far away
	env                []string   // of every process that is measured
}

// openSite starts the hosts below dir; they and dir are gone when the target ends.
func openSite(ctx context.Context, t *run.Target, dir string, o Options) (*site, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir, binary: o.Binary}
	if err := s.close(); err != nil { // a run that was killed left it
		return nil, err
	}
	t.Cleanup("the trees in "+dir, func(context.Context) error { return s.close() })
	for _, h := range []struct {
		role inventory.Role
		is   **inventory.Host
	}{{inventory.Production, &s.production}, {inventory.Backup, &s.backup}} {
		home := filepath.Join(dir, string(h.role))
		spec := inventory.Host{Name: string(h.role), Role: h.role, State: filepath.Join(home, "state")}
		sshd, host, err := lab.StartHost(ctx, spec, home, "Subsystem sftp internal-sftp")
		if err != nil {
			return nil, err
		}
		s.sshds, *h.is = append(s.sshds, sshd), host
	}
	if s.far, err = lab.NewProxy(s.backup.Address, o.Distance); err != nil {
		return nil, err
	}
	return s, s.equip(ctx)
}

// equip writes what the contenders need to reach the backup, and builds what is not installed.
func (s *site) equip(ctx context.Context) error {
	away, walk := *s.backup, filepath.Join(s.dir, "walk")
	away.Name, away.Address = "far", s.far.Addr()
	config, err := writeSSH(s.dir, s.backup, &away)
	if err != nil {
		return err
	}
	caches, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output() // which XDG_CACHE_HOME would lead elsewhere
	if err != nil {
		return fmt.Errorf("asking for Go's cache: %w", err)
	}
	s.env = append(environ(), "XDG_CACHE_HOME="+s.dir, "GOCACHE="+strings.TrimSpace(string(caches)), "SSH=ssh -F "+config, "KEY="+s.backup.Identity,
		"USER="+s.backup.User, "WALK="+walk, "TMP="+s.dir, "RCLONE_CONFIG=/dev/null")
	_, _, err = finish(exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", walk, "rehearsal/internal/bench/walk"))
	return err
}

// close ends the hosts, also those of a run that was killed, and removes the trees.
func (s *site) close() error {
	var errs []error
	if s.far != nil {
		errs = append(errs, s.far.Close())
	}
	for _, role := range []inventory.Role{inventory.Production, inventory.Backup} {
		dir := filepath.Join(s.dir, string(role), "sshd")
		text, err := os.ReadFile(filepath.Join(dir, "sshd.pid"))
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		errs = append(errs, (&lab.SSHD{Name: string(role), Dir: dir, PID: pid}).Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// sides are the folders of a tree, on production and on the backup.
func (s *site) sides(folder string) [2]string {
	return [2]string{filepath.Join(s.dir, "production", folder), filepath.Join(s.dir, "backup", folder)}
}

const imagesYAML = `hosts:
  production: {address: %q, user: %q, role: production, identity: %q, host_key: %q, state: %q}
  backup: {address: %q, user: %q, role: backup, identity: %q, host_key: %q, state: %q}
images:
  images: {production: {host: production, path: %q}, backup: {host: backup, path: %q}, hash: %s, reread: %s}
`

// verify runs images:verify on two folders. That they differ is no error.
func (s *site) verify(ctx context.Context, sides [2]string, far bool, hash, reread string) (result, usage, error) {
	p, b, address, file := s.production, s.backup, s.backup.Address, filepath.Join(s.dir, "hosts.yaml")
	if far {
		address = s.far.Addr()
	}
	text := fmt.Sprintf(imagesYAML, p.Address, p.User, p.Identity, p.HostKey, p.State,
		address, b.User, b.Identity, b.HostKey, b.State, sides[0], sides[1], hash, reread)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return result{}, usage{}, err
	}
	r, u, err := product(ctx, s.binary, file, "images:verify", s.env...)
	if run.CodeOf(err) == run.Differ {
		err = nil
	}
	return r, u, err
}

// forget has the next images:verify be the first.
func (s *site) forget() error {
	return errors.Join(os.RemoveAll(filepath.Join(s.production.State, "images")), os.RemoveAll(filepath.Join(s.backup.State, "images")))
}

// warm brings every byte below some folders into the page cache: some contenders drop what they have read.
func warm(ctx context.Context, roots ...string) error {
	g, ctx := errgroup.WithContext(ctx)
	files := make(chan string, 256)
	g.Go(func() error {
		defer close(files)
		for _, root := range roots {
			err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				select {
				case files <- path:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	for range 4 {
		g.Go(func() error {
			buffer := make([]byte, 256<<10)
			for path := range files {
				if err := readAll(path, buffer); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func readAll(path string, buffer []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buffer)
	return err
}

// chill drops the page cache and what it knows of names and inodes, and reads the programs that take part again: it is
// the trees that shall be cold. A disk may have a cache of its own.
func (s *site) chill() error {
	syscall.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return fmt.Errorf("dropping the page cache: %w", err)
	}
	buffer := make([]byte, 256<<10)
	for _, program := range []string{s.binary, "go", "sh", "ssh", "rsync", "rclone", "hashdeep", "md5sum"} {
		if path, err := exec.LookPath(program); err == nil {
			if err := readAll(path, buffer); err != nil {
				return err
			}
		}
	}
	return nil
}
