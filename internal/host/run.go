package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"rehearsal/internal/run"
)

// Run runs a command and returns when it has ended. A status other than 0 is an *ExitError; a connection that
// was lost a *run.Error with code Unreachable, which wraps io.ErrUnexpectedEOF.
//
// When ctx ends, Stdin fails or Stdout takes no more, the command's process group gets SIGTERM and, a second
// later, SIGKILL; Run returns that error, wrapped, once the group is gone, after 4 seconds at most. A process
// that has left its group (setsid) goes on. What Stdin's Read or Stdout's Write are doing then is waited for
// one second more: an end of Stdin that comes late would be taken for the end of the data.
func (h *Host) Run(ctx context.Context, c Cmd) error {
	r, err := c.encode()
	if err != nil {
		return err
	}
	s, conn, release, err := h.sessionFor(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	p := newProcess(h, conn, s, c, r)
	if h.home == "" { // the first command: what lets one begin will let the others
		p.late = time.AfterFunc(beginning, func() { p.failed <- h.notBegun() })
		defer p.late.Stop()
	}
	done := make(chan error, 1)
	go func() { done <- p.run() }()
	select {
	case err := <-done:
		return err
	case err := <-p.failed:
		return p.stop(done, err)
	case <-ctx.Done():
		return p.stop(done, ctx.Err())
	}
}

// sessionFor opens the session that a command needs.
func (h *Host) sessionFor(ctx context.Context, c Cmd) (s session, on *conn, release func(), err error) {
	if c.Lend != nil {
		return h.lend(ctx, c.Lend)
	}
	s, on, err = h.session(ctx)
	return s, on, func() { s.Close(); h.release(on) }, err
}

// Output is Run for a command whose stdout is wanted as text, all of it and as it is.
func (h *Host) Output(ctx context.Context, c Cmd) (string, error) {
	if c.Stdout != nil {
		return "", fmt.Errorf("%s: Output with a Stdout", c)
	}
	var out bytes.Buffer
	c.Stdout = &out
	if err := h.Run(ctx, c); err != nil {
		return "", err
	}
	return out.String(), nil
}

// ExitError is a command that ended with a status other than 0.
type ExitError struct {
	Host    string
	Command string // shortened
	Status  int    // 128+n for signal n, as shells have it
	Stderr  string // the last 4 KiB
}

// Error shows the last lines of stderr.
func (e *ExitError) Error() string {
	text := fmt.Sprintf("%s on %s: exit status %d", e.Command, e.Host, e.Status)
	lines := strings.Split(strings.TrimSpace(e.Stderr), "\n")
	if last := strings.Join(lines[max(0, len(lines)-3):], "; "); last != "" {
		text += ": " + last
	}
	return text
}

// DiskFull says whether the command says that a file system of its host is full (strerror of ENOSPC, in English: see
// postgres.Command and what sets LC_ALL).
func (e *ExitError) DiskFull() bool { return strings.Contains(e.Stderr, "No space left on device") }

// process is a command that runs on a host.
type process struct {
	host    *Host
	conn    *conn
	session session
	cmd     Cmd
	remote  *remote
	failed  chan error // gets why Stdin or Stdout failed, before the command hears of it, or that nothing begins
	pid     chan int   // gets the process group, once
	marked  bool       // the wrapper has run; guarded by the end of run's readers
	stderr  tail       // before the marker: the login shell's noise
	stdout  tail       // the login shell's noise alone
	late    *time.Timer
}

func newProcess(h *Host, on *conn, s session, c Cmd, r *remote) *process {
	return &process{host: h, conn: on, session: s, cmd: c, remote: r, failed: make(chan error, 3), pid: make(chan int, 1)}
}

// start starts the command. An error of the pipes is one of Start.
func (p *process) start() (stdin io.WriteCloser, stdout, stderr io.Reader, err error) {
	stdin, _ = p.session.StdinPipe()
	stdout, _ = p.session.StdoutPipe()
	stderr, _ = p.session.StderrPipe()
	return stdin, stdout, stderr, p.session.Start(p.remote.line)
}

// beginning is how long a host may take to begin its first command: for the start files of a login shell, say on a
// slow network file system. A forced command may take for ever.
var beginning = 30 * time.Second

func (p *process) run() error {
	stdin, stdout, stderr, err := p.start()
	if err != nil {
		return p.ended(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() { p.readStdout(stdout) })
	readers.Go(func() { p.readStderr(stderr) })
	fed := make(chan struct{})
	go func() { defer close(fed); p.feed(stdin) }()
	err = p.session.Wait()
	readers.Wait()
	if p.cmd.Stdin != nil && !notStarted(err) {
		select {
		case <-fed:
		case <-time.After(time.Second):
		}
	}
	select {
	case err := <-p.failed:
		return fmt.Errorf("%s on %s: %w", p.cmd, p.host.spec.Name, err)
	default:
		return p.ended(err)
	}
}

// notStarted tells of a shell's statuses for a program that is not there, or that it may not execute: what is wrong then is
// not for Stdin to say.
func notStarted(err error) bool {
	var exit exited
	return errors.As(err, &exit) && (exit.ExitStatus() == 126 || exit.ExitStatus() == 127)
}

// feed writes the wrapper's lines and Stdin. Without a Stdin the pipe stays open: its end is the watchdog's signal.
// A Stdin that fails is not ended either: the command would take it for the end of the data.
func (p *process) feed(stdin io.WriteCloser) {
	if _, err := io.WriteString(stdin, p.remote.stdin); err != nil || p.cmd.Stdin == nil {
		return // how the command ended says why it did not read
	}
	source := &reader{Reader: p.cmd.Stdin}
	if _, err := io.Copy(stdin, source); source.err != nil {
		p.failed <- fmt.Errorf("reading the input: %w", source.err)
	} else if err == nil {
		stdin.Close()
	}
}

// reader remembers how its Reader failed, which io.Copy does not tell from a failing Writer.
type reader struct {
	io.Reader
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

func (p *process) readStdout(stdout io.Reader) {
	from := bufio.NewReaderSize(stdout, 32<<10)
	if _, found := skip(from, p.remote.marker, &p.stdout); !found {
		return
	}
	to := p.cmd.Stdout
	if to == nil {
		to = io.Discard
	}
	if _, err := io.Copy(to, from); err != nil {
		p.failed <- fmt.Errorf("writing the output: %w", err)
	}
}

func (p *process) readStderr(stderr io.Reader) {
	from := bufio.NewReaderSize(stderr, 4<<10)
	text, found := skip(from, p.remote.marker, &p.stderr)
	if pid, err := strconv.Atoi(text); found && err == nil && pid > 1 {
		p.marked = true
		p.stderr = nil
		if p.late != nil {
			p.late.Stop()
		}
		p.pid <- pid
	}
	to := io.Writer(&p.stderr)
	if p.cmd.Stderr != nil {
		to = io.MultiWriter(&p.stderr, p.cmd.Stderr)
	}
	_, _ = io.Copy(to, from)
}

// skip reads the lines up to the one that begins with marker and returns the rest of that one; the lines
// before, which a login shell's start files or sshd's banner left there, go to noise.
func skip(from *bufio.Reader, marker string, noise *tail) (string, bool) {
	for {
		line, err := from.ReadSlice('\n')
		if rest, ok := strings.CutPrefix(string(line), marker); ok && err == nil {
			return strings.TrimSpace(rest), true
		}
		_, _ = noise.Write(line)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return "", false
		}
	}
}

// tail keeps the last 4 KiB of what is written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	const most = 4 << 10
	*t = append(*t, p[max(0, len(p)-most):]...)
	if len(*t) > 4*most {
		*t = append((*t)[:0], (*t)[len(*t)-most:]...)
	}
	return len(p), nil
}

func (t tail) String() string { return string(t[max(0, len(t)-4<<10):]) }

// ended says in our words how the command ended.
func (p *process) ended(err error) error {
	var exit exited
	switch name := p.host.spec.Name; {
	case err == nil && p.marked:
		return nil
	case err == nil || errors.As(err, &exit):
		if !p.marked {
			return p.notRun(exit)
		}
		return &ExitError{Host: name, Command: p.cmd.String(), Status: exit.ExitStatus(), Stderr: p.stderr.String()}
	}
	if lost := p.conn.lost(); lost != nil {
		return fmt.Errorf("%s on %s: %w", p.cmd, p.host.spec.Name, lost)
	}
	return run.Fail(run.Unreachable, "look at the host's sshd log", "%s on %s ended without a status: %w: %w", p.cmd, p.host.spec.Name, io.ErrUnexpectedEOF, err)
}

// notRun says what came instead of the command: a forced command, nologin, a shell that is no shell.
func (p *process) notRun(exit exited) error {
	status := 0
	if exit != nil {
		status = exit.ExitStatus()
	}
	said := strings.Join(strings.Fields(p.stdout.String()+" "+p.stderr.String()), " ")
	answer := "says nothing"
	if said != "" {
		answer = fmt.Sprintf("says %q", shorten(said))
	}
	hint := p.host.letRun()
	switch user, name := p.host.route.user, p.host.spec.Name; {
	case strings.Contains(said, "reads standard input"):
		hint = fmt.Sprintf("let the start files of %s's login shell on %s (.bashrc, .zshenv, .cshrc, config.fish) read nothing where there is no terminal", user, name)
	case strings.Contains(said, "restricted"), strings.Contains(said, "not available"): // rbash; nologin(8)
		hint = fmt.Sprintf("give %s a login shell that is neither nologin nor restricted, as root on %s: chsh -s /bin/sh %s", user, name, Quote(user))
	}
	return run.Fail(run.Unreachable, hint, "%s does not run commands for %s: what it runs ends with status %d and %s", p.host.spec.Name, p.host.route.user, status, answer)
}

func (h *Host) notBegun() error {
	return run.Fail(run.Unreachable, h.letRun()+"; the shell's start files must not wait for input",
		"%s does not begin a command for %s within %v", h.spec.Name, h.route.user, beginning)
}

// letRun is what gives us commands on a host.
func (h *Host) letRun() string {
	user, name := h.route.user, h.spec.Name
	return fmt.Sprintf("let %s run commands on %s: no ForceCommand for it in sshd_config, no command= at its key in authorized_keys, "+
		"and a login shell, as root: chsh -s /bin/sh %s", user, name, Quote(user))
}
