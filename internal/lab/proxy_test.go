package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// echoServer answers every connection with what it is sent.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func newProxy(t *testing.T, rtt time.Duration) *Proxy {
	t.Helper()
	p, err := NewProxy(echoServer(t), rtt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// echo sends text and returns how long its echo took.
func echo(t *testing.T, conn net.Conn, text string) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != text {
		t.Fatalf("sent %q, got %q", text, got)
	}
	return time.Since(start)
}

func within(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s took %v, want %v to %v", what, got, low, high)
	}
}

func TestAProxyDelaysAByteByTheRoundTripTime(t *testing.T) {
	p := newProxy(t, 0)
	conn := dial(t, p)
	within(t, "no delay", echo(t, conn, "a"), 0, 90*time.Millisecond)
	p.SetDelay(200 * time.Millisecond)
	within(t, "a round trip", echo(t, conn, "a"), 195*time.Millisecond, 390*time.Millisecond)
	within(t, "the first byte of a new connection", echo(t, dial(t, p), "a"), 395*time.Millisecond, 700*time.Millisecond)
}

func TestADelayedProxyCarriesManyMegabytesInOneRoundTrip(t *testing.T) {
	p := newProxy(t, 300*time.Millisecond)
	conn := dial(t, p)
	sent := make([]byte, 32<<20)
	_, _ = rand.Read(sent)
	start := time.Now()
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent, got) {
		t.Errorf("sent %d bytes, got %d others", len(sent), len(got))
	}
	within(t, "32 MiB", time.Since(start), 300*time.Millisecond, 3*time.Second)
}

func TestACutBreaksConnectionsAndLetsNewOnesThrough(t *testing.T) {
	p := newProxy(t, 0)
	conn := dial(t, p)
	echo(t, conn, "a")
	p.Cut()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || err == io.EOF || strings.Contains(err.Error(), "timeout") {
		t.Errorf("reading from a cut line: %v", err)
	}
	echo(t, dial(t, p), "b")
}

func TestAStalledProxyIsSilentAndLosesNothing(t *testing.T) {
	p := newProxy(t, 0)
	conn := dial(t, p)
	echo(t, conn, "a")
	p.Stall(true)
	_, _ = io.WriteString(conn, "b")
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !err.(net.Error).Timeout() {
		t.Errorf("a stalled line gave %d bytes, %v", n, err)
	}
	p.Stall(false)
	got := make([]byte, 1)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(conn, got); err != nil || got[0] != 'b' {
		t.Errorf("after the stall: %q, %v", got, err)
	}
}

func TestAClosedProxyLeavesNoGoroutineEvenWhenStalled(t *testing.T) {
	target := echoServer(t)
	before := runtime.NumGoroutine()
	p, err := NewProxy(target, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		conn := dial(t, p)
		_, _ = io.WriteString(conn, "a")
	}
	p.Stall(true)
	_ = p.Close()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > before {
		t.Errorf("%d goroutines before, %d after", before, now)
	}
}

func TestAServedProxyObeysItsControlSocket(t *testing.T) {
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	target, control := echoServer(t), filepath.Join(t.TempDir(), "s")
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- ServeProxy(ctx, port, target, 0, control) }()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err = ProxyControl(control, "status"); err == nil {
			break
		}
	}
	for _, line := range []string{"stall on", "stall off", "cut", "delay 80ms"} {
		if got, err := ProxyControl(control, line); err != nil || got != "ok" {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
	if got, err := ProxyControl(control, "status"); err != nil || got != "ok delay 80ms stalled false connections 0" {
		t.Errorf("status: %q, %v", got, err)
	}
	for _, line := range []string{"delay soon", "delay -1s", "stall", "fall over"} {
		if got, err := ProxyControl(control, line); err == nil || !strings.HasPrefix(got, "error ") {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
	if err := ServeProxy(ctx, 0, target, 0, control); err == nil || !strings.Contains(err.Error(), "another proxy") {
		t.Errorf("a second proxy on the same socket: %v", err)
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("ending: %v", err)
	}
}
