package drill

import (
	"context"
	"fmt"
	"slices"

	"rehearsal/internal/deploy"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/restore"
	"rehearsal/internal/run"
)

// ChooseTransfer finds the way that the rows take: the first of the inventory's that is possible. Whether inventory.Direct is,
// it finds out by doing it: the program is put on staging, which is a file in our folder there and all that ever changes,
// it is started, and logs in to the backup host. Where that fails and the rows may pass through this machine, they do, with a
// warning. It comes after Inspect.
func (d *Drill) ChooseTransfer(ctx context.Context, step *run.Step) error {
	d.Transfer = inventory.Relay
	read := d.Archive.TOC
	if slices.Contains(d.DB.Transfer, inventory.Direct) {
		err := d.startLoader(ctx)
		switch {
		case err == nil:
			d.Transfer, read = inventory.Direct, d.loader.TOC
		case ctx.Err() != nil:
			return err
		case !slices.Contains(d.DB.Transfer, inventory.Relay):
			return fmt.Errorf("transfer: direct is not possible: %w", err)
		default:
			d.Why = err
			d.Target.Warn("transfer: relay, because direct is not possible: %v; next: %s", err, run.HintOf(err))
		}
		step.Detail("PostgreSQL %s, transfer: %s", d.server.ServerVersion, d.Transfer)
	}
	d.Target.Set("transfer", d.Transfer)
	if d.Backup != nil && d.contents == nil {
		d.readContents(ctx, read)
	}
	return nil
}

// Rehearsable says whether somebody reads the table of contents of the backup, so that its schema can be rehearsed.
func (d *Drill) Rehearsable() bool { return d.contents != nil }

func (d *Drill) startLoader(ctx context.Context) (err error) {
	d.loader, err = d.load(ctx, d.Archive.Host)
	return err
}

// load brings the loader to staging and starts it there, for what backup has.
func (d *Drill) load(ctx context.Context, backup *host.Host) (*restore.Loader, error) {
	program, err := deploy.PutLoader(ctx, d.Staging.Host)
	if err != nil {
		return nil, err
	}
	return restore.StartLoader(ctx, d.Target, program, d.DB, d.Staging.Host, backup)
}

// manyBytes is the size of a backup from which on its rows are searched on staging: a program has to be brought there, and they are
// some four times as many bytes as the backup has.
const manyBytes = 16 << 20

// BringSearcher begins to bring the loader to staging, to read there what a reset searches, where rows pass through this
// machine. Nobody waits for it before the search.
func (d *Drill) BringSearcher(ctx context.Context) {
	var bytes int64
	for _, f := range d.Backup.Manifest.Files {
		bytes += f.Bytes
	}
	if d.loader != nil || bytes < manyBytes {
		return
	}
	d.searching = d.begin(ctx, "bringing the loader to "+d.Staging.Host.Name(), func(ctx context.Context) (err error) {
		d.searcher, err = d.load(ctx, nil)
		return err
	})
}
