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

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

//mage:multiline

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
