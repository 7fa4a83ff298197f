//go:build mage

// Rehearsal: would our backup really come back?
//
// Every reset of staging is a dress rehearsal of disaster recovery: the newest backup is restored, masked,
// counted and proven, then replaces staging.
//
// Hosts and databases are read from inventory/hosts.yaml (REHEARSAL_INVENTORY names another file).
// REHEARSAL_FORMAT=json prints one JSON object a target. Exit codes: README.md.
package main

import (
	"context"

	"github.com/magefile/mage/mg"

	"rehearsal/internal/backup"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
	"rehearsal/internal/staging"
)

//mage:multiline

// Backup makes and lists backups.
type Backup mg.Namespace

// Staging replaces staging by a masked copy of production's backup.
type Staging mg.Namespace

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
) error {
	return onDatabase(ctx, "staging:reset", database, func(ctx context.Context, t *run.Target, inv *inventory.Inventory, db *inventory.Database) error {
		return staging.Reset(ctx, t, db, inv.Accounts, staging.Options{Backup: backup})
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

// onDatabase runs a target on one database of the inventory.
func onDatabase(ctx context.Context, target string, name *string,
	do func(context.Context, *run.Target, *inventory.Inventory, *inventory.Database) error) error {
	return run.Main(ctx, target, func(ctx context.Context, t *run.Target) error {
		inv, err := inventory.Load(inventory.Path())
		if err != nil {
			return err
		}
		db, err := inv.Database(given(name))
		if err != nil {
			return err
		}
		return do(ctx, t, inv, db)
	})
}

// given is a flag's value, "" where it was not given.
func given(flag *string) string {
	if flag == nil {
		return ""
	}
	return *flag
}
