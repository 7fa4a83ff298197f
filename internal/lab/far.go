package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"rehearsal/internal/run"
)

// Far sets the round trip time to the backup host, on top of loopback's.
func (l *Lab) Far(rtt time.Duration) error { return l.far("delay " + rtt.String()) }

// Cut breaks every connection to the backup host. New ones are served.
func (l *Lab) Cut() error { return l.far("cut") }

// Stall holds back whatever goes to or comes from the backup host, like a pulled cable, until Stall(false).
func (l *Lab) Stall(on bool) error {
	if on {
		return l.far("stall on")
	}
	return l.far("stall off")
}

func (l *Lab) far(line string) error {
	if _, err := ProxyControl(l.farControl(), line); err != nil {
		return fmt.Errorf("telling the proxy before backup %q: %w", line, err)
	}
	return nil
}

func (l *Lab) farControl() string { return filepath.Join(l.Tmp, "far.sock") }

// startFar builds the proxy and starts it as a process of its own: it outlives this one, as the hosts do.
func (l *Lab) startFar(ctx context.Context, target int, rtt time.Duration) error {
	program := filepath.Join(l.Tmp, "farproxy")
	// Without -buildvcs=false a checkout that belongs to another user does not build.
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "rehearsal/internal/lab/farproxy")
	if _, err := output(build); err != nil {
		return run.Fail(run.Usage, "the lab runs in Rehearsal's checkout, with Go in PATH", "building the proxy before backup: %w", err)
	}
	// Between finding a free port and the proxy's bind another process may take the port.
	var err error
	for range 3 {
		if err = l.serveFar(ctx, program, target, rtt); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

func (l *Lab) serveFar(ctx context.Context, program string, target int, rtt time.Duration) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(l.Tmp, "farproxy.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, strconv.Itoa(port), "127.0.0.1:"+strconv.Itoa(target), rtt.String(), l.farControl())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := l.note(func() { l.FarPort, l.FarPID = port, cmd.Process.Pid }); err != nil {
		return err
	}
	for limit := time.After(10 * time.Second); ; {
		if _, err := ProxyControl(l.farControl(), "status"); err == nil {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return errors.New("the proxy before backup does not answer")
		case err := <-ended:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("the proxy before backup ended: %w: %s", err, tail(text, 2048))
		}
	}
}

func (l *Lab) stopFar() error {
	if !runsIn(l.FarPID, l.Tmp) {
		return nil
	}
	_ = syscall.Kill(l.FarPID, syscall.SIGTERM)
	for range 500 {
		if !runsIn(l.FarPID, l.Tmp) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("stopping the proxy before backup: process %d does not end", l.FarPID)
}
