package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"rehearsal/internal/deploy"
	"rehearsal/internal/host"
	"rehearsal/internal/images/wire"
	"rehearsal/internal/run"
)

// session is one agent that runs on a host, and the conversation with it.
type session struct {
	*wire.Conn
	host   *host.Host
	stdin  *io.PipeWriter
	stdout *io.PipeReader
	ended  chan struct{}
}

// start starts an agent on h. It runs until Close, ctx's end or the connection's.
func start(ctx context.Context, h *host.Host, agent *deploy.Agent) *session {
	in, stdin := io.Pipe()
	stdout, out := io.Pipe()
	s := &session{Conn: wire.NewConn(stdout, stdin), host: h, stdin: stdin, stdout: stdout, ended: make(chan struct{})}
	unread := context.AfterFunc(ctx, s.discard)
	go func() {
		defer unread()
		defer close(s.ended)
		c := agent.Cmd()
		c.Stdin, c.Stdout = in, out
		err := h.Run(ctx, c)
		if err == nil {
			err = io.EOF
		}
		out.CloseWithError(err)
		in.CloseWithError(err)
	}()
	go s.ping()
	return s
}

// ping tells the agent that we are there, until it has ended.
func (s *session) ping() {
	tick := time.NewTicker(wire.PingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = s.Write(wire.Ping, nil) // a line that takes none is noticed by whoever waits for an answer
		case <-s.ended:
			return
		}
	}
}

// discard reads what the agent still says: a command does not end before its output is read.
func (s *session) discard() { _, _ = io.Copy(io.Discard, s.stdout) }

// over tells whether the agent has ended.
func (s *session) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// Close ends the agent, which takes the end of its stdin as the word to.
func (s *session) Close() {
	s.stdin.Close()
	go s.discard()
	select {
	case <-s.ended:
	case <-time.After(5 * time.Second):
	}
}

// receive is Read for the frames of one answer; done at its end. A Failed is an error for people.
func (s *session) receive() (t wire.Type, payload []byte, done bool, err error) {
	t, payload, err = s.Read()
	switch {
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("the agent on %s ended early: %w", s.host.Name(), io.ErrUnexpectedEOF)
	case err != nil:
		err = fmt.Errorf("listening to the agent on %s: %w", s.host.Name(), err)
	case t == wire.Failed:
		err = s.failed(payload)
	}
	return t, payload, t == wire.Done, err
}

// answer calls each for every frame of an answer of one kind.
func (s *session) answer(each func(payload []byte) error) error {
	for {
		_, payload, done, err := s.receive()
		if done || err != nil {
			return err
		}
		if err := each(payload); err != nil {
			return err
		}
	}
}

// seen calls each for every entry of an answer.
func (s *session) seen(each func(wire.Seen) error) error {
	return s.answer(func(payload []byte) error {
		r := wire.NewSeenReader(payload)
		for one := (wire.Seen{}); r.Next(&one); {
			if err := each(one); err != nil {
				return err
			}
		}
		return r.Err()
	})
}

// failed is the answer that could not be given.
func (s *session) failed(payload []byte) error {
	f, err := wire.Decode[wire.Failure](payload)
	if err != nil {
		return err
	}
	code, hint := run.Unexpected, ""
	switch f.Reason {
	case wire.NoRoot:
		code, hint = run.Unfit, "is it mounted, and is its path in the inventory right?"
	case wire.NotFolder:
		code, hint = run.Usage, "write the folder's path into the inventory"
	case wire.Locked:
		code, hint = run.Locked, "wait for the other run, or end it"
	case wire.NoState:
		code, hint = run.Unreachable, "make it writable, or set `state:` of "+s.host.Name()+" in the inventory to a folder that is"
	case wire.DiskFull:
		code, hint = run.Unreachable, "make room on "+s.host.Name()+" for "+f.Path
	case wire.Denied:
		code, hint = run.Unreachable, "let the user that we log in to "+s.host.Name()+" as read that folder and all below it"
	case wire.Changed:
		code, hint = run.Differ, "start again: the store is being written to"
	case wire.Old:
		code, hint = run.Usage, "build the agent beside this program anew: see README.md"
	}
	return run.Fail(code, hint, "%s: %w", s.host.Name(), &f)
}
