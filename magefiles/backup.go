//go:build mage

package main

import (
	"context"
	"time"

	"github.com/magefile/mage/mg"

	"rehearsal/internal/backup"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Backup makes, lists, verifies, accepts and prunes backups, and scans their source.
type Backup mg.Namespace

// Create dumps production in one snapshot, seals it with a manifest, and publishes it on the backup host.
func (Backup) Create(ctx context.Context,
	database *string, // which database of the inventory; needed where it has several
) error {
	return onDatabase(ctx, "backup:create", database, func(ctx context.Context, t *run.Target, _ *inventory.Inventory, db *inventory.Database) error {
		return backup.Create(ctx, t, db)
	})
}

// List shows every backup: age, size, tables, rows, verdict, last rehearsal.
func (Backup) List(ctx context.Context,
	database *string, // which database of the inventory; needed where it has several
) error {
	return onDatabase(ctx, "backup:list", database, func(ctx context.Context, t *run.Target, _ *inventory.Inventory, db *inventory.Database) error {
		return backup.List(ctx, t, db)
	})
}

// Check scans production for corruption by pg_amcheck, what was scanned longest ago first.
func (Backup) Check(ctx context.Context,
	database *string, // which database of the inventory; needed where it has several
	budget *time.Duration, // how long it may scan, e.g. 2h; 30m where it is not given
) error {
	limit := 30 * time.Minute
	if budget != nil {
		limit = *budget
	}
	return onDatabase(ctx, "backup:check", database, func(ctx context.Context, t *run.Target, _ *inventory.Inventory, db *inventory.Database) error {
		return backup.Check(ctx, t, db, limit)
	})
}

// Prune removes the backups that the inventory's policy does not keep; never the newest verified ones.
func (Backup) Prune(ctx context.Context,
	database *string, // which database of the inventory; needed where it has several
	dryRun *bool, // say what would be removed, and remove nothing
) error {
	return onDatabase(ctx, "backup:prune", database, func(ctx context.Context, t *run.Target, _ *inventory.Inventory, db *inventory.Database) error {
		return backup.Prune(ctx, t, db, dryRun != nil && *dryRun)
	})
}

// A parameter's name is the flag's, so -backup=ID hides the package within its target.
var (
	verifyBackup = backup.Verify
	acceptBackup = backup.Accept
)

// Verify restores a backup into a scratch database on staging's server, counts, checks, and records the verdict.
func (Backup) Verify(ctx context.Context,
	database *string, // which database of the inventory; needed where it has several
	backup *string, // ID of the backup; the newest where it is not given
) error {
	return onDatabase(ctx, "backup:verify", database, func(ctx context.Context, t *run.Target, _ *inventory.Inventory, db *inventory.Database) error {
		return verifyBackup(ctx, t, db, backup)
	})
}

// Accept lets a suspicious backup be chosen from now on, for a reason that is kept beside it.
func (Backup) Accept(ctx context.Context,
	database *string, // which database of the inventory; needed where it has several
	backup *string, // ID of the backup
	why *string, // the reason, in a sentence that somebody understands next year
) error {
	return onDatabase(ctx, "backup:accept", database, func(ctx context.Context, t *run.Target, _ *inventory.Inventory, db *inventory.Database) error {
		return acceptBackup(ctx, t, db, given(backup), given(why))
	})
}
