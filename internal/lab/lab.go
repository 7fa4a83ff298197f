package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/run"
)

// DefaultOrders is how many orders production's shop has where Options does not say.
const DefaultOrders = 200_000

// Options says what lab to make.
type Options struct {
	Dir    string        // for its inventory, key and state; usually .lab
	Orders int           // in production's shop; 0 means DefaultOrders
	Delay  time.Duration // round trip to the backup host, on top of loopback's
}

// Lab is three hosts, each an OpenSSH server with its folders. It is also what lab.json keeps of them.
type Lab struct {
	Dir                 string
	Tmp                 string  // the hosts' folders, short enough for sockets and open to PostgreSQL's user
	SSH                 []*SSHD // production, backup, staging, as far as they were started
	Production, Staging *Cluster
	FarPort, FarPID     int  // the proxy through which the backup host is reached
	Ready               bool // Up got to its end

	mu sync.Mutex // guards the fields while Up starts several things at once
}

var hosts = []string{"production", "backup", "staging"}

// written is what Up writes into Dir beside lab.json, and Down removes.
var written = []string{"hosts.yaml", "accounts.yaml", "key", "key.pub", "sql"}

// Up makes a lab and returns when everything in it answers. A lab that is up in o.Dir is returned as it is. On
// error, also when ctx ends, nothing is left. progress, which may be nil, is told what happens, one call at a time.
func Up(ctx context.Context, o Options, progress func(string)) (*Lab, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	tell := serial(progress)
	l, err := Open(dir)
	if err == nil {
		err = l.whole()
	}
	if err == nil {
		tell("the lab in " + dir + " is up already")
		return l, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if missing := Missing(); len(missing) > 0 {
		return nil, run.Fail(run.Usage, installHint(missing), "the lab needs %s", strings.Join(missing, ", "))
	}
	if l, err = claim(dir); err != nil {
		return nil, fmt.Errorf("making a lab in %s: %w", dir, err)
	}
	if err := l.build(ctx, o, tell); err != nil {
		if ctx.Err() != nil { // what it interrupted failed in words of its own
			err = ctx.Err()
		}
		return nil, errors.Join(fmt.Errorf("making a lab in %s: %w", dir, err), l.Down(context.WithoutCancel(ctx)))
	}
	return l, nil
}

// Open returns the lab in dir, also one whose Up did not get to its end: it can still be taken Down. Where there
// is none the error is fs.ErrNotExist.
func Open(dir string) (*Lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, run.Fail(run.Usage, "mage lab:up", "no lab is up in %s: %w", dir, fs.ErrNotExist)
	}
	l := &Lab{}
	if err == nil {
		err = json.Unmarshal(text, l)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the lab in %s: %w", dir, err)
	}
	l.Dir = dir
	return l, nil
}

// Down ends every process of the lab, the commands that run on its hosts too, and removes every file of it. What
// others put into Dir stays. A lab that is down already is fine. After an error Down can be tried again.
func (l *Lab) Down(ctx context.Context) error {
	err := l.stop(ctx)
	if err == nil {
		err = l.remove()
	}
	if err != nil {
		return fmt.Errorf("taking down the lab in %s: %w", l.Dir, err)
	}
	return nil
}

// Inventory is the path of the lab's hosts.yaml.
func (l *Lab) Inventory() string { return l.file("hosts.yaml") }

// Path is a path in the folder of production, backup or staging.
func (l *Lab) Path(host string, elem ...string) string {
	return filepath.Join(append([]string{l.Tmp, host}, elem...)...)
}

func (l *Lab) file(name string) string { return filepath.Join(l.Dir, name) }

// claim makes the folders and lab.json, so that whatever happens from now on can be taken down. Of two at once
// one loses.
func claim(dir string) (*Lab, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, name := range written {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil { // Down would remove what is not the lab's
			return nil, run.Fail(run.Usage, "choose another folder, or move it away", "%s is there already", filepath.Join(dir, name))
		}
	}
	tmp, err := TempDir()
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, Tmp: tmp}
	for _, host := range hosts {
		if err == nil {
			err = makeFolder(l.Path(host), 0o755)
		}
	}
	if err == nil {
		err = l.save(os.Link) // which fails where there is one
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(tmp))
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context, o Options, tell func(string)) error {
	if o.Orders == 0 {
		o.Orders = DefaultOrders
	}
	if err := makeHostKey(ctx, l.file("key"), "ed25519"); err != nil {
		return err
	}
	g, parts := errgroup.WithContext(ctx)
	g.Go(func() error { return l.startProduction(parts, o.Orders, tell) })
	g.Go(func() error { return l.startStaging(parts, tell) })
	g.Go(func() error { return l.startHosts(parts, o.Delay, tell) })
	g.Go(func() error { return l.writeImages(parts, tell) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := l.writeInventory(ctx); err != nil {
		return err
	}
	return l.note(func() { l.Ready = true })
}

// startHosts starts the three OpenSSH servers, and the proxy before the one of the backup host.
func (l *Lab) startHosts(ctx context.Context, delay time.Duration, tell func(string)) error {
	authorized, err := os.ReadFile(l.file("key.pub"))
	if err != nil {
		return err
	}
	for _, host := range hosts {
		s, err := StartSSHD(ctx, host, l.Path(host, "sshd"), string(authorized))
		if err != nil {
			return err
		}
		if err := l.note(func() { l.SSH = append(l.SSH, s) }); err != nil {
			return err
		}
	}
	if err := l.startFar(ctx, l.SSHDOf("backup").Port, delay); err != nil {
		return err
	}
	tell(fmt.Sprintf("OpenSSH listens: production, staging, and backup with %s more of round trip", run.Duration(delay)))
	return nil
}

// stop ends every process; what does not run any more is fine.
func (l *Lab) stop(ctx context.Context) error {
	roots := []int{}
	for _, s := range l.SSH {
		if runsIn(s.PID, l.Tmp) {
			roots = append(roots, s.PID)
		}
	}
	started, err := descendants(ctx, roots...)
	errs := []error{err, l.stopFar()}
	for _, s := range l.SSH {
		errs = append(errs, s.Stop())
	}
	for _, c := range []*Cluster{l.Production, l.Staging} {
		if c != nil {
			errs = append(errs, c.Stop())
		}
	}
	return errors.Join(append(errs, l.sweep(ctx, started))...)
}

// sweep ends what is left: commands on the hosts, which do not end with their connection, and what an Up that
// was killed had under way. Nobody but the lab has a reason to name its folder in a command line.
func (l *Lab) sweep(ctx context.Context, started []process) error {
	for try := range 100 {
		signal := syscall.SIGTERM
		if try > 50 {
			signal = syscall.SIGKILL
		}
		named, err := processesIn(ctx, l.Tmp)
		if err != nil {
			return err
		}
		alive := 0
		for _, p := range append(named, started...) {
			if p.signal(ctx, signal) {
				alive++
			}
		}
		if alive == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("processes that name %s do not end", l.Tmp)
}

func (l *Lab) remove() error {
	if filepath.Dir(l.Tmp) != "/tmp" || !strings.HasPrefix(filepath.Base(l.Tmp), tempPrefix) {
		return fmt.Errorf("lab.json names %q, which no lab has made", l.Tmp)
	}
	folders := []string{l.Tmp}
	if now, err := Open(l.Dir); err == nil && now.Tmp == l.Tmp { // else it is down, or another is up there by now
		for _, name := range append(written, "lab.json") { // lab.json last: without it nobody can try again
			folders = append(folders, l.file(name))
		}
	}
	for _, folder := range folders {
		if err := removeAll(folder); err != nil {
			return err
		}
	}
	_ = os.Remove(l.Dir) // unless it holds something else
	return nil
}

// removeAll is patient: what was killed a moment ago may have a file half written.
func removeAll(folder string) (err error) {
	for range 20 {
		if err = os.RemoveAll(folder); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// whole is nil where every process of the lab runs.
func (l *Lab) whole() error {
	hint := "mage lab:down lab:up"
	if !l.Ready {
		return run.Fail(run.Usage, hint, "the lab in %s is half made: another lab:up is at work, or was killed", l.Dir)
	}
	dead := []string{}
	for _, s := range l.SSH {
		if !runsIn(s.PID, l.Tmp) {
			dead = append(dead, "sshd of "+s.Name)
		}
	}
	for _, c := range []*Cluster{l.Production, l.Staging} {
		if !c.Running() {
			dead = append(dead, "PostgreSQL of "+c.Name)
		}
	}
	if !runsIn(l.FarPID, l.Tmp) {
		dead = append(dead, "the proxy before backup")
	}
	if len(dead) > 0 {
		return run.Fail(run.Usage, hint, "the lab in %s is not whole: not running: %s", l.Dir, strings.Join(dead, ", "))
	}
	return nil
}

// note changes the lab and writes the change down at once: what is not in lab.json outlives a killed Up.
func (l *Lab) note(change func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	return l.save(os.Rename)
}

// save puts lab.json in place whole, by os.Rename or os.Link.
func (l *Lab) save(place func(from, to string) error) error {
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	draft := filepath.Join(l.Dir, "lab.json."+filepath.Base(l.Tmp))
	defer os.Remove(draft)
	if err := os.WriteFile(draft, text, 0o600); err != nil {
		return err
	}
	return place(draft, l.file("lab.json"))
}

// SSHDOf returns the sshd of the host with that name; nil where none was started.
func (l *Lab) SSHDOf(name string) *SSHD {
	for _, s := range l.SSH {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func serial(progress func(string)) func(string) {
	var mu sync.Mutex
	return func(text string) {
		mu.Lock()
		defer mu.Unlock()
		if progress != nil {
			progress(text)
		}
	}
}
