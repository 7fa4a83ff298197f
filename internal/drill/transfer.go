package drill

import (
	"context"
	"fmt"
	"slices"

	"rehearsal/internal/deploy"
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

func (d *Drill) startLoader(ctx context.Context) error {
	program, err := deploy.PutLoader(ctx, d.Staging.Host)
	if err == nil {
		d.loader, err = restore.StartLoader(ctx, d.Target, program, d.DB, d.Staging.Host, d.Archive.Host)
	}
	return err
}
