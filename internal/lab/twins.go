package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNoNamespaces is a machine, or a user, that may not make PID namespaces; twins need them.
var ErrNoNamespaces = errors.New("no PID namespaces of our own here")

// Twins are two postmasters on one data directory, as two containers on one volume have them. Each is pid 1 of
// its own PID namespace, so that the second takes the pid in postmaster.pid for its own of an earlier life, and
// each has its own IPC namespace, so that neither finds the other's shared memory: PostgreSQL's two interlocks
// see nothing. Both answer with the same system identifier, both accept writes, and no log has an error.
type Twins struct {
	First, Second *Cluster // differ in Socket and Port; the first has those of the cluster they were made of
	PIDs          [2]int   // of the postmasters, as this namespace counts them
	parents       [2]*exec.Cmd
	folder        string // of the second's socket
}

// StartTwins halts c and starts two postmasters on its data, which may be damaged by the time they stop. The
// first answers where c did. It fails with ErrNoNamespaces where the machine does not let us; on error neither
// runs and c is halted.
func StartTwins(ctx context.Context, c *Cluster) (*Twins, error) {
	if err := tryNamespaces(ctx, c.Dir); err != nil {
		return nil, err
	}
	if err := c.Halt(); err != nil {
		return nil, err
	}
	t := &Twins{folder: filepath.Join(c.Dir, "twin")}
	first, second := *c, *c
	second.Name, second.Socket = c.Name+"'s twin", t.folder
	t.First, t.Second = &first, &second
	err := c.mkdir(t.folder, 0o755)
	if err == nil {
		second.Port, err = freePort()
	}
	for i, twin := range []*Cluster{t.First, t.Second} {
		if err == nil {
			err = t.start(ctx, i, twin)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting two postmasters on %s: %w", c.Data, err), t.Stop())
	}
	return t, nil
}

// Stop ends both postmasters, without a checkpoint, and leaves the data as they made it. A second call does nothing.
func (t *Twins) Stop() error {
	var errs []error
	for i, pid := range t.PIDs {
		if pid > 1 && runsIn(pid, t.First.Data) {
			_ = syscall.Kill(pid, syscall.SIGQUIT)
			if !gone([]int{pid}, 10*time.Second) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // of pid 1, and with it of everything in its namespace
			}
		}
		if t.parents[i] != nil {
			_ = t.parents[i].Wait() // the exit status is the postmaster's
		}
		t.PIDs[i], t.parents[i] = 0, nil
	}
	errs = append(errs, os.RemoveAll(t.folder), os.RemoveAll(filepath.Join(t.First.Data, "postmaster.pid")))
	return errors.Join(errs...)
}

// namespaces is the command line that what follows runs in namespaces of its own by: as root under the server's
// user, else under our own in a user namespace, without which nobody else may make others.
func namespaces() ([]string, error) {
	owner, err := serverUser()
	if err != nil || os.Geteuid() != 0 {
		return []string{"unshare", "--user", "--map-current-user", "--pid", "--ipc", "--fork", "--"}, err
	}
	return []string{"unshare", "--pid", "--ipc", "--fork", "--",
		"setpriv", "--reuid=" + owner.Uid, "--regid=" + owner.Gid, "--clear-groups", "--"}, nil
}

func tryNamespaces(ctx context.Context, dir string) error {
	args, err := namespaces()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, args[0], append(args[1:], "true")...)
	cmd.Dir = dir
	if _, err := output(cmd); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", ErrNoNamespaces, err)
	}
	return ctx.Err()
}

// start starts one postmaster and returns when it answers, in a later second than it was started in: the two
// are told apart by their start, of which postmaster.pid keeps whole seconds.
func (t *Twins) start(ctx context.Context, i int, c *Cluster) error {
	args, err := namespaces()
	if err != nil {
		return err
	}
	args = append(args, filepath.Join(c.Bin, "postgres"), "-D", c.Data, "-p", strconv.Itoa(c.Port), "-k", c.Socket)
	log, err := os.OpenFile(filepath.Join(c.Dir, fmt.Sprintf("twin%d.log", i+1)), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	begin := time.Now()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.Dir, withoutLibpq(os.Environ()), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C in the terminal is ours to handle
	if err := cmd.Start(); err != nil {
		return err
	}
	t.parents[i] = cmd
	for ; ctx.Err() == nil && time.Since(begin) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
		if pids := children(cmd.Process.Pid); len(pids) == 1 {
			t.PIDs[i] = pids[0]
		}
		if out, err := c.SQL(ctx, "postgres", "SELECT 'up'"); err == nil && out == "up" {
			time.Sleep(time.Until(begin.Truncate(time.Second).Add(1100 * time.Millisecond)))
			return nil
		}
	}
	text, _ := os.ReadFile(log.Name())
	return errors.Join(ctx.Err(), fmt.Errorf("%s does not answer; its log: %s", c.Name, strings.TrimSpace(tail(text, 2048))))
}
