package main

import (
	"io"
	"testing"
	"time"

	"rehearsal/internal/images/wire"
)

// ends tells whether serve returns within a time that is long.
func ends(t *testing.T, in io.Reader, silence time.Duration) bool {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		_ = serve(in, io.Discard, silence)
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
	if !ends(t, in, time.Hour) {
		t.Error("it goes on")
	}
}

func TestTheAgentEndsWhenNobodyIsHeard(t *testing.T) {
	in, out := io.Pipe()
	defer out.Close()
	if !ends(t, in, 200*time.Millisecond) {
		t.Error("it goes on")
	}
}

func TestTheAgentGoesOnWhileItIsPinged(t *testing.T) {
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
	if ends(t, in, 500*time.Millisecond) {
		t.Error("it ended")
	}
	close(stop)
}
