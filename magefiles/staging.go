//go:build mage

package main

import (
	"context"

	"github.com/magefile/mage/mg"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
	"rehearsal/internal/staging"
)

// Staging replaces staging by a masked copy of production's backup.
type Staging mg.Namespace

// Plan says what a reset would do, and every refusal it would meet; it changes nothing.
func (Staging) Plan(ctx context.Context,
	database *string, // which database of the inventory; needed where it has several
	backup *string, // ID of the backup; the newest where it is not given
) error {
	return onDatabase(ctx, "staging:plan", database, func(ctx context.Context, t *run.Target, inv *inventory.Inventory, db *inventory.Database) error {
		return staging.Plan(ctx, t, db, inv.Accounts, staging.Options{Backup: backup})
	})
}

// Reset restores the newest backup masked and proven, makes developers and testers admins, replaces staging,
// and prints the newest events.
func (Staging) Reset(ctx context.Context,
	database *string, // which database of the inventory; needed where it has several
	backup *string, // ID of the backup; the newest where it is not given
	readAhead *int, // MiB of the backup that may wait in memory to be loaded; 64 where it is not given
) error {
	return onDatabase(ctx, "staging:reset", database, func(ctx context.Context, t *run.Target, inv *inventory.Inventory, db *inventory.Database) error {
		return staging.Reset(ctx, t, db, inv.Accounts, staging.Options{Backup: backup, ReadAhead: readAhead})
	})
}

// Events prints the newest events in staging now.
func (Staging) Events(ctx context.Context,
	database *string, // which database of the inventory; needed where it has several
	n *int, // how many; 20 where it is not given
) error {
	count := 20
	if n != nil {
		count = *n
	}
	return onDatabase(ctx, "staging:events", database, func(ctx context.Context, t *run.Target, _ *inventory.Inventory, db *inventory.Database) error {
		return staging.Events(ctx, t, db, count)
	})
}

// Rollback brings the database before the last reset back; a second rollback undoes the first.
func (Staging) Rollback(ctx context.Context,
	database *string, // which database of the inventory; needed where it has several
) error {
	return onDatabase(ctx, "staging:rollback", database, func(ctx context.Context, t *run.Target, _ *inventory.Inventory, db *inventory.Database) error {
		return staging.Rollback(ctx, t, db)
	})
}

// Classify prints ready-to-paste lines for columns of the backup that columns.yaml does not classify.
func (Staging) Classify(ctx context.Context,
	database *string, // which database of the inventory; needed where it has several
	backup *string, // ID of the backup; the newest where it is not given
) error {
	return onDatabase(ctx, "staging:classify", database, func(ctx context.Context, t *run.Target, _ *inventory.Inventory, db *inventory.Database) error {
		return staging.Classify(ctx, t, db, staging.Options{Backup: backup})
	})
}
