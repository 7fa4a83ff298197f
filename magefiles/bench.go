//go:build mage

package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"rehearsal/internal/bench"
	"rehearsal/internal/run"
)

// Bench measures a masked and proven reset, and a comparison of images, against the tools that people use for that.
//
// Each on a lab of its own, several rounds, all contenders in turn. Tools that are missing (rsync, rclone, hashdeep) are
// named in the report. A cold page cache takes root.
func Bench(ctx context.Context,
	only *string, // restore or images; both where it is not given
	rounds *int, // how often each contender runs; 3 where it is not given
	rows *int, // in all tables of the lab's production; 6000000 where it is not given
	files *int, // small images; 200000 where it is not given
	many *int, // files in a tree that only ours walks, e.g. 5000000; none where it is not given
	write *bool, // write docs/benchmarks.md
) error {
	o := bench.Options{
		Dir: labDir, Only: given(only), Rounds: number(rounds, 3), Rows: number(rows, 6_000_000),
		Files: number(files, 200_000), Many: number(many, 0), Distance: 150 * time.Millisecond, Cold: os.Geteuid() == 0,
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

// number is a flag's value, or another where it was not given.
func number(flag *int, otherwise int) int {
	if flag == nil {
		return otherwise
	}
	return *flag
}
