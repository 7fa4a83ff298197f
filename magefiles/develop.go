//go:build mage

package main

import (
	"context"
	"os"
	"os/exec"
	"strings"

	"rehearsal/internal/run"
)

// staticcheck is run by its version and is no dependency: only developers need it.
const staticcheck = "honnef.co/go/tools/cmd/staticcheck@v0.8.2"

// Test runs every test, on real OpenSSH and PostgreSQL servers of this machine.
func Test(ctx context.Context) error {
	return run.Main(ctx, "test", func(ctx context.Context, t *run.Target) error {
		if err := install(ctx, t); err != nil {
			return err
		}
		return command(ctx, t, "go", "test", "-timeout=14m", "./internal/scenarios", "./...") // which take longest, beside the others
	})
}

// Lint runs gofmt, go vet and staticcheck.
func Lint(ctx context.Context) error {
	return run.Main(ctx, "lint", func(ctx context.Context, t *run.Target) error {
		out, err := exec.CommandContext(ctx, "gofmt", "-l", ".").Output()
		if err != nil {
			return run.Fail(run.Unexpected, "", "gofmt: %w", err)
		}
		if files := strings.Fields(string(out)); len(files) > 0 {
			return run.Fail(run.Unexpected, "gofmt -w "+strings.Join(files, " "), "not formatted: %s", strings.Join(files, ", "))
		}
		for _, args := range [][]string{
			{"go", "vet", "-tags=mage", "./..."},
			{"go", "run", staticcheck, "-tags=mage", "./..."},
		} {
			if err := command(ctx, t, args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// command runs a developer's tool; its own output, on stderr in JSON mode too, says what is wrong.
func command(ctx context.Context, t *run.Target, args ...string) error {
	t.Printf("$ %s\n", strings.Join(args, " "))
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if os.Getenv("REHEARSAL_FORMAT") == "json" {
		c.Stdout = os.Stderr
	}
	if err := c.Run(); err != nil {
		return run.Fail(run.Unexpected, "", "%s: %w", strings.Join(args, " "), err)
	}
	return nil
}
