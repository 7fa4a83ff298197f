package main

import (
	"io"
	"testing"
	"time"

	"rehearsal/internal/images/wire"
)

// ends tells whether serve returns within a time that is long.
func ends(t *testing.T, in io.Reader) bool {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		_ = serve(in, io.Discard)
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-time.After(2 * time.Second):
		return false
	}
}

func TestTheAgentEndsWithItsStdin(t *testing.T) {
	in, out := io.Pipe()
	out.Close()
	if !ends(t, in) {
		t.Error("it goes on")
	}
}

func TestTheAgentEndsWhenNobodyIsHeard(t *testing.T) {
	defer func(was time.Duration) { silence = was }(silence)
	silence = 200 * time.Millisecond
	in, out := io.Pipe()
	defer out.Close()
	if !ends(t, in) {
		t.Error("it goes on")
	}
}

func TestTheAgentGoesOnWhileItIsPinged(t *testing.T) {
	defer func(was time.Duration) { silence = was }(silence)
	silence = 500 * time.Millisecond
	in, out := io.Pipe()
	pinging, stop := wire.NewConn(nil, out), make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				out.Close()
				return
			case <-time.After(50 * time.Millisecond):
				_ = pinging.Write(wire.Ping, nil)
			}
		}
	}()
	if ends(t, in) {
		t.Error("it ended")
	}
	close(stop)
}
