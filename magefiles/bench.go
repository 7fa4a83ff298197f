//go:build mage

package main

import (
	"context"
	"os"
	"path/filepath"

	"rehearsal/internal/bench"
	"rehearsal/internal/run"
)

// Bench measures what a masked and proven reset costs against plain tools, on a lab of its own, several rounds in turn.
func Bench(ctx context.Context,
	rows *int, // in all tables of the lab's production; 6000000 where it is not given
	rounds *int, // how often each contender runs; 3 where it is not given
	write *bool, // write docs/benchmarks.md
) error {
	o := bench.Options{Dir: filepath.Join(labDir, "bench"), Rows: 6_000_000, Rounds: 3}
	if rows != nil {
		o.Rows = *rows
	}
	if rounds != nil {
		o.Rounds = *rounds
	}
	if write != nil && *write {
		o.Write = filepath.Join("docs", "benchmarks.md")
	}
	return run.Main(ctx, "bench", func(ctx context.Context, t *run.Target) (err error) {
		if err := install(ctx, t); err != nil {
			return err
		}
		if o.Binary, err = os.Executable(); err != nil { // these magefiles, compiled
			return err
		}
		return bench.Run(ctx, t, o)
	})
}
