//go:build mage

package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"rehearsal/internal/doctor"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Default is the target of a plain `mage`.
var Default = Doctor

// x is where Mage 1.17 looks for the flags of a default target: the code that it generates (template.go, DefaultFunc)
// uses a variable that only the code of named targets declares. A plain `mage` has no flags, so it stays 0.
//
//lint:ignore U1000 only generated code reads it
var x int

// Doctor looks at every host, tool, version, key, disk and clock, at production's identity and the newest backup's age:
// one line each, with the next step.
func Doctor(ctx context.Context,
	database *string, // which database of the inventory; all where it is not given
) error {
	return run.Main(ctx, "doctor", func(ctx context.Context, t *run.Target) error {
		inv, err := inventory.Load(inventory.Path())
		if err != nil {
			return err
		}
		databases, err := chosen(inv, database)
		if err != nil {
			return err
		}
		return doctor.Run(ctx, t, inv, databases)
	})
}

// chosen are the databases that the flag asks for, in the order of their names.
func chosen(inv *inventory.Inventory, name *string) ([]*inventory.Database, error) {
	if name == nil {
		return slices.SortedFunc(maps.Values(inv.Databases), func(a, b *inventory.Database) int { return strings.Compare(a.Name, b.Name) }), nil
	}
	db, err := inv.Database(*name)
	return []*inventory.Database{db}, err
}
