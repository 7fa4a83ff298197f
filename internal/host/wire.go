package host

import (
	"io"
	"time"

	"github.com/melbahja/goph"
	"golang.org/x/crypto/ssh"
)

// wire is what the sessions of a conn go over: an SSH connection or, where the host is this machine, nothing.
type wire interface {
	newSession() (session, error)
	ask()                   // for a sign of life; blocks until there is one
	silence() time.Duration // since the other side was last heard
	cut()                   // ends it at once, and all that goes over it
	wait() error            // for its end, and says why
}

// session runs one command line, as *ssh.Session does.
type session interface {
	StdinPipe() (io.WriteCloser, error)
	StdoutPipe() (io.Reader, error)
	StderrPipe() (io.Reader, error)
	Start(line string) error
	Wait() error // exited, where the command ended with a status other than 0
	Run(line string) error
	Close() error // from now on the command reads an end and writes to nobody
}

// exited is the end of a command with a status, 128+n for signal n.
type exited interface {
	error
	ExitStatus() int
}

// secure is an SSH connection.
type secure struct {
	*goph.Client
	line *line
}

func (s *secure) newSession() (session, error) {
	opened, err := s.NewSession()
	if err != nil { // not a session that is nil and yet something
		return nil, err
	}
	return opened, nil
}

func (s *secure) ask() { _, _, _ = s.SendRequest("keepalive@openssh.com", true, nil) }

func (s *secure) silence() time.Duration { return s.line.silence() }

// cut ends the network connection first: a polite goodbye would wait for a dead line.
func (s *secure) cut() {
	s.line.Close()
	s.Close()
}

func (s *secure) wait() error { return s.Wait() }

var _ exited = (*ssh.ExitError)(nil)
