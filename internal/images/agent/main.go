// Command agent is what Rehearsal puts on a host to look at its images: it walks, hashes, remembers, lists and copies, as
// the runner asks over stdin, and answers on stdout.
//
// It promises to give way to whoever else wants the host's processor, disk and page cache, to write nothing but its
// index and what it is told to put, and to end when stdin does or nobody is heard there: a line that drops leaves
// nothing running.
//
// It depends on nothing on the host, opens no socket and starts no process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"rehearsal/internal/images/content"
	"rehearsal/internal/images/wire"
)

// memory is what the garbage collector tries to stay within: production's is for production.
const memory = 170 << 20

func main() {
	if len(os.Args) == 2 && os.Args[1] == "-version" {
		fmt.Println("rehearsal-agent", wire.Version)
		return
	}
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "this is Rehearsal's agent; `mage images:verify` talks to it over stdin and stdout")
		os.Exit(2)
	}
	debug.SetMemoryLimit(memory)
	if err := content.Yield(); err != nil { // it is no reason not to look
		fmt.Fprintln(os.Stderr, "giving way to others:", err)
	}
	if err := serve(os.Stdin, os.Stdout, 4*wire.PingEvery); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// frame is one message of the runner.
type frame struct {
	wire.Type
	payload []byte
}

// serve answers one request after the other until in ends or says nothing for as long as silence, which is how the runner
// ends the agent and how a lost line does: what is being done then stops, and the index keeps what was read.
func serve(in io.Reader, out io.Writer, silence time.Duration) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	defer cancel()
	conn := wire.NewConn(in, out)
	frames := make(chan frame, 4)
	silent := time.AfterFunc(silence, cancel)
	defer silent.Stop()
	go func() {
		defer cancel()
		defer close(frames)
		for {
			t, payload, err := conn.Read()
			if err != nil {
				return
			}
			silent.Reset(silence)
			if t == wire.Ping {
				continue
			}
			select {
			case frames <- frame{t, append([]byte(nil), payload...)}:
			case <-ctx.Done():
				return
			}
		}
	}()
	a := &agent{conn: conn, frames: frames, swept: map[string]bool{}}
	for {
		var f frame
		select {
		case next, ok := <-frames:
			if !ok {
				return nil
			}
			f = next
		case <-ctx.Done():
			return nil
		}
		ended := make(chan error, 1)
		go func() { ended <- a.answer(ctx, f) }()
		select {
		case err := <-ended:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			select { // what hangs in the kernel, on a dead disk, is not waited for
			case <-ended:
			case <-time.After(3 * time.Second):
			}
			return nil
		}
	}
}

// agent is one conversation.
type agent struct {
	conn   *wire.Conn
	frames <-chan frame
	swept  map[string]bool // folders from which what killed agents left was removed
}

// answer answers a request. Its error is one of the conversation; what goes wrong here is an answer.
func (a *agent) answer(ctx context.Context, f frame) error {
	var err error
	switch f.Type {
	case wire.Scan:
		err = a.scan(ctx, f.payload)
	case wire.List:
		err = a.list(ctx, f.payload)
	case wire.Name:
		err = a.names(ctx, f.payload)
	case wire.Look:
		err = a.look(ctx, f.payload)
	case wire.Get:
		err = a.get(ctx, f.payload)
	case wire.Put:
		err = a.put(ctx, f.payload)
	default:
		err = fmt.Errorf("there is no request %q", f.Type)
	}
	if err == nil {
		return a.conn.Write(wire.Done, nil)
	}
	return a.conn.WriteJSON(wire.Failed, failure(err))
}

// failure is err for the runner.
func failure(err error) *wire.Failure {
	var f *wire.Failure
	if errors.As(err, &f) {
		return f
	}
	f = &wire.Failure{Reason: wire.Other, Message: err.Error()}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		f.Reason = wire.DiskFull
	}
	return f
}

// next is the next frame of a request that has several.
func (a *agent) next(ctx context.Context) (frame, error) {
	select {
	case f, ok := <-a.frames:
		if ok {
			return f, nil
		}
	case <-ctx.Done():
	}
	return frame{}, io.ErrUnexpectedEOF
}
