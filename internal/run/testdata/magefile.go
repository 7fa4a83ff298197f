//go:build mage

// The magefile of TestUnderMage.
package main

import (
	"context"
	"fmt"
	"os"

	"rehearsal/internal/run"
)

// Wait waits until it is interrupted, and writes to a diary.
func Wait(ctx context.Context) error {
	return run.Main(ctx, "wait", func(ctx context.Context, t *run.Target) error {
		t.Cleanup("diary", func(context.Context) error { return write("ready\ncleaned\n") })
		if err := write("ready\n"); err != nil {
			return err
		}
		<-ctx.Done()
		return fmt.Errorf("loading: %w", ctx.Err())
	})
}

func write(text string) error {
	return os.WriteFile(os.Getenv("RUN_TEST_DIARY"), []byte(text), 0o600)
}
