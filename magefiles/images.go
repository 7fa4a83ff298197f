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
	return onImages(ctx, "images:verify", store, func(ctx context.Context, t *run.Target, stores []*inventory.ImageStore) error {
		return images.Verify(ctx, t, stores, images.Options{Full: full != nil && *full, Deep: deep != nil && *deep})
	})
}

// Repair copies what is missing or damaged, where it is certain which side is right; it deletes nothing.
//
// A file that is replaced is kept on its host, in the state folder below replaced/.
func (Images) Repair(ctx context.Context,
	store *string, // of the inventory's images; all of them where it is not given
	dryRun *bool, // say what would be copied, and copy nothing
) error {
	return onImages(ctx, "images:repair", store, func(ctx context.Context, t *run.Target, stores []*inventory.ImageStore) error {
		return images.Repair(ctx, t, stores, dryRun != nil && *dryRun)
	})
}

// onImages runs a target on image stores of the inventory.
func onImages(ctx context.Context, target string, store *string,
	do func(context.Context, *run.Target, []*inventory.ImageStore) error) error {
	return run.Main(ctx, target, func(ctx context.Context, t *run.Target) error {
		inv, err := inventory.Load(inventory.Path())
		if err != nil {
			return err
		}
		stores, err := inv.ImageStores(given(store))
		if err != nil {
			return err
		}
		return do(ctx, t, stores)
	})
}
