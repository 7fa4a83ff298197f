package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Local is the machine that this program runs on, for a program that a Host has started there: its commands get the same
// wrapper, process group and end as over SSH, begin in the home directory, and do not see SSH_AUTH_SOCK; its sockets are
// dialled as they are. Close ends what runs, and returns when it has ended. An error is a *run.Error with code Unreachable.
func Local(spec *inventory.Host) (*Host, error) {
	me, err := user.Current()
	if err != nil {
		return nil, run.Fail(run.Unreachable, "give the account a name, in /etc/passwd or the like", "finding out who runs this on %s: %w", spec.Name, err)
	}
	h := newHost(spec, &route{name: spec.Name, user: me.Username, direct: true})
	h.here, h.another = true, h.anotherHere
	h.limit = 1 // what cannot be ended takes nothing else with it
	if _, err := h.begin(context.Background()); err != nil {
		return nil, err
	}
	return h.arrive(context.Background())
}

func (h *Host) anotherHere(context.Context) (*conn, error) {
	c := newConn(&thisMachine{ending: make(chan struct{})})
	h.attend(c)
	return c, nil
}

// thisMachine is what local sessions are on. It never falls silent, and ends when it is cut.
type thisMachine struct {
	ending chan struct{} // closed by cut

	mu       sync.Mutex
	sessions []*localSession // started and not closed
}

func (m *thisMachine) newSession() (session, error) {
	shell := exec.Command("/bin/sh")
	shell.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SSH_AUTH_SOCK=") })
	if home := os.Getenv("HOME"); isFolder(home) {
		shell.Dir = home
	}
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as sshd does
	return &localSession{on: m, shell: shell, ended: make(chan struct{})}, nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func (m *thisMachine) ask() {}

func (m *thisMachine) silence() time.Duration { return 0 }

// cut has every command end. One that reads would take the end of its stdin for that of the data, so the signal goes first.
func (m *thisMachine) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over() {
		return
	}
	close(m.ending)
	for _, s := range m.sessions {
		_ = syscall.Kill(-s.shell.Process.Pid, syscall.SIGTERM)
		s.shut()
	}
}

func (m *thisMachine) over() bool {
	select {
	case <-m.ending:
		return true
	default:
		return false
	}
}

// wait returns when all that ran has ended, or does not within the time that is given to anything.
func (m *thisMachine) wait() error {
	<-m.ending
	m.mu.Lock()
	sessions := slices.Clone(m.sessions)
	m.mu.Unlock()
	var groups sync.WaitGroup
	for _, s := range sessions {
		groups.Go(s.kill)
	}
	groups.Wait()
	return errCut
}

// errCut is how what runs on this machine ends with its conn.
var errCut = errors.New("it was ended")

// localSession is a session without sshd: the command line is given to sh as the login shell gives it.
type localSession struct {
	on     *thisMachine
	shell  *exec.Cmd
	ours   []io.Closer // ends of pipes
	theirs []io.Closer
	failed error // to make a pipe
	closed bool  // whoever opened it may give it up before it starts; guarded by on.mu, as ours is
	ended  chan struct{}
}

func (s *localSession) StdinPipe() (io.WriteCloser, error) {
	theirs, ours := s.pipe()
	s.shell.Stdin = theirs
	s.keep(ours, theirs)
	return ours, s.failed
}

func (s *localSession) StdoutPipe() (io.Reader, error) {
	ours, theirs := s.pipe()
	s.shell.Stdout = theirs
	s.keep(ours, theirs)
	return untilClosed{ours}, s.failed
}

func (s *localSession) StderrPipe() (io.Reader, error) {
	ours, theirs := s.pipe()
	s.shell.Stderr = theirs
	s.keep(ours, theirs)
	return untilClosed{ours}, s.failed
}

// untilClosed ends when it is closed, as an SSH channel does.
type untilClosed struct{ from *os.File }

func (u untilClosed) Read(p []byte) (int, error) {
	n, err := u.from.Read(p)
	if errors.Is(err, fs.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// pipe is not exec.Cmd's: that would close our end when the command ends, read or not.
func (s *localSession) pipe() (r, w *os.File) {
	r, w, err := os.Pipe()
	if err != nil && s.failed == nil {
		s.failed = err
	}
	return r, w
}

func (s *localSession) keep(ours, theirs *os.File) {
	s.on.mu.Lock()
	defer s.on.mu.Unlock()
	s.ours, s.theirs = append(s.ours, ours), append(s.theirs, theirs)
}

func (s *localSession) Start(line string) error {
	defer func() { closeAll(s.theirs) }()
	s.on.mu.Lock()
	defer s.on.mu.Unlock()
	if s.on.over() || s.closed {
		s.failed = errCut
	}
	if s.failed != nil {
		s.shut()
		return s.failed
	}
	s.shell.Args = []string{"sh", "-c", line}
	if err := s.shell.Start(); err != nil {
		s.shut()
		return err
	}
	s.on.sessions = append(s.on.sessions, s)
	go func() { _ = s.shell.Wait(); close(s.ended) }()
	return nil
}

// Wait does not wait for what was cut.
func (s *localSession) Wait() error {
	select {
	case <-s.ended:
	case <-s.on.ending:
	}
	if s.on.over() {
		return errCut
	}
	switch status := s.shell.ProcessState.Sys().(syscall.WaitStatus); {
	case status.Signaled():
		return exitStatus(128 + int(status.Signal()))
	case status.ExitStatus() != 0:
		return exitStatus(status.ExitStatus())
	}
	return nil
}

// exitStatus is the exited of a local session.
type exitStatus int

func (e exitStatus) Error() string   { return fmt.Sprintf("exit status %d", int(e)) }
func (e exitStatus) ExitStatus() int { return int(e) }

func (s *localSession) Run(line string) error {
	if err := s.Start(line); err != nil {
		return err
	}
	return s.Wait()
}

func (s *localSession) Close() error {
	s.on.mu.Lock()
	defer s.on.mu.Unlock()
	s.on.sessions = slices.DeleteFunc(s.on.sessions, func(other *localSession) bool { return other == s })
	s.closed = true
	s.shut()
	return nil
}

// shut closes our ends of the pipes.
func (s *localSession) shut() { closeAll(s.ours) }

func closeAll(files []io.Closer) {
	for _, f := range files {
		f.Close()
	}
}

// kill ends what is left of the process group, and waits for it.
func (s *localSession) kill() {
	ctx, cancel := context.WithTimeout(context.Background(), stopping)
	defer cancel()
	_ = exec.CommandContext(ctx, "/bin/sh", "-c", endGroupLine(s.shell.Process.Pid)).Run()
	select {
	case <-s.ended:
	case <-ctx.Done():
	}
}

// dialHere is DialContext where the host is this machine.
func (h *Host) dialHere(ctx context.Context, network, addr string) (net.Conn, error) {
	if h.life.Err() != nil {
		return nil, h.errClosed()
	}
	raw, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		local := &localSocket{Conn: raw}
		local.forget = context.AfterFunc(h.life, func() { raw.Close() })
		return local, nil
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case network == "unix" && errors.Is(err, fs.ErrPermission):
		return nil, h.keptOut(addr)
	case network == "unix" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)):
		err = ErrRefused
	}
	return nil, fmt.Errorf("connecting to %s on %s: %w", addr, h.spec.Name, err)
}

// localSocket ends with its Host.
type localSocket struct {
	net.Conn
	forget func() bool
}

func (s *localSocket) Close() error {
	s.forget()
	return s.Conn.Close()
}
