package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/run"
)

// socket listens in a way that a host can reach, and echoes.
func socket(t *testing.T, network string) string {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "s") // a socket's path has 108 bytes
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		addr = filepath.Join(dir, ".s.PGSQL.5432")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); _, _ = io.Copy(conn, plain{conn}) }()
		}
	}()
	return l.Addr().String()
}

// plain hides what io.Copy would take for splice(2), whose pipes stay open for a while and look like a leak.
type plain struct{ io.Reader }

func TestASocketOfTheHostIsReachedWithDeadlines(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			addr := socket(t, network)
			noLeak(t)
			h := dial(t, serve(t))
			conn, err := h.DialContext(t.Context(), network, addr)
			if err != nil {
				t.Fatal(err)
			}
			if remote := conn.RemoteAddr(); remote.Network() != network || remote.String() != addr {
				t.Errorf("the remote address is %s %s", remote.Network(), remote)
			}
			sent := strings.Repeat("0123456789", 100_000)
			go func() { _, _ = io.WriteString(conn, sent) }()
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != sent {
				t.Errorf("a million bytes: %v", err)
			}
			start := time.Now()
			_ = conn.SetReadDeadline(start.Add(100 * time.Millisecond))
			_, err = conn.Read(got)
			if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() || time.Since(start) > time.Second {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			if _, err := conn.Write([]byte("x")); err == nil {
				t.Error("a closed connection takes data")
			}
		})
	}
}

func TestATunnelEndsWhenTheOtherSideCloses(t *testing.T) {
	noLeak(t)
	h := dial(t, serve(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			fmt.Fprint(conn, "bye")
			conn.Close()
		}
	}()
	conn, err := h.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "bye" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestALostConnectionIsNotTheEndOfTheData(t *testing.T) {
	addr := socket(t, "unix")
	noLeak(t)
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	conn, err := h.DialContext(t.Context(), "unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, proxy.Cut)
	if _, err := conn.Read(make([]byte, 1)); run.CodeOf(err) != run.Unreachable || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if conn, err = h.DialContext(t.Context(), "unix", addr); err != nil {
		t.Fatalf("after the cut: %v", err)
	}
	conn.Close()
}

func TestARefusedSocketSaysWhy(t *testing.T) {
	there := socket(t, "unix")
	gone := filepath.Join(filepath.Dir(there), "gone")
	l, err := net.Listen("unix", gone)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	noLeak(t)
	open := dial(t, serve(t))
	shut := dial(t, serve(t, "DisableForwarding yes"))
	for _, test := range []struct {
		h             *Host
		network, addr string
		code          run.Code
		message, hint string
	}{
		{open, "unix", "/nonexistent/.s.PGSQL.5432", run.Unexpected, "connecting to /nonexistent/.s.PGSQL.5432 on db1: connection refused or no such file", ""},
		{shut, "unix", "/nonexistent/.s.PGSQL.5432", run.Unexpected, "connecting to /nonexistent/.s.PGSQL.5432 on db1: connection refused or no such file", ""},
		{open, "unix", gone, run.Unreachable, "connection refused", "if its server is up"},
		{shut, "unix", there, run.Unreachable, "its sshd forbids it", "AllowStreamLocalForwarding"},
		{open, "tcp", "127.0.0.1:1", run.Unexpected, "connecting to 127.0.0.1:1 on db1: Connection refused", ""},
		{shut, "tcp", "127.0.0.1:1", run.Unreachable, "its sshd forbids it", "AllowTcpForwarding"},
	} {
		_, err := test.h.DialContext(t.Context(), test.network, test.addr)
		if run.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.message) || !strings.Contains(run.HintOf(err), test.hint) {
			t.Errorf("%s %s: %v; next: %s", test.network, test.addr, err, run.HintOf(err))
		}
		if missing := strings.Contains(test.message, "refused or"); missing != errors.Is(err, ErrRefused) && test.addr != gone {
			t.Errorf("%s: ErrRefused is %t", test.addr, !missing)
		}
	}
}

func TestDialContextEndsWithItsContext(t *testing.T) {
	noLeak(t)
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	proxy.Stall(true)
	defer proxy.Stall(false)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := h.DialContext(ctx, "tcp", "127.0.0.1:1"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}
