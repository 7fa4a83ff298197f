//go:build mage

package main

import (
	"context"

	"github.com/magefile/mage/mg"

	"rehearsal/internal/images"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Images is about the images on production and their backup.
type Images mg.Namespace

// Verify compares the images on production with their backup, and says which side is wrong.
//
// What has not changed since it was read is not read again, but for a share of the bytes, those first that were read
// longest ago. A first run reads everything.
func (Images) Verify(ctx context.Context,
	store *string, // of the inventory's images; all of them where it is not given
	full *bool, // read every byte again
	deep *bool, // decode the pixels, too
) error {
	return run.Main(ctx, "images:verify", func(ctx context.Context, t *run.Target) error {
		inv, err := inventory.Load(inventory.Path())
		if err != nil {
			return err
		}
		stores, err := inv.ImageStores(given(store))
		if err != nil {
			return err
		}
		return images.Verify(ctx, t, stores, images.Options{Full: full != nil && *full, Deep: deep != nil && *deep})
	})
}
