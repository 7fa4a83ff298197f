//go:build mage

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/magefile/mage/mg"

	"rehearsal/internal/backup"
	"rehearsal/internal/images"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
	"rehearsal/internal/staging"
)

// labDir is where the lab's inventory lies, below the working directory.
const labDir = ".lab"

// Lab is three hosts on this machine, with OpenSSH and PostgreSQL: to try everything without touching anything.
type Lab mg.Namespace

// Up starts production, backup and staging on this machine and writes .lab/hosts.yaml.
func (Lab) Up(ctx context.Context,
	orders *int, // how many orders production's shop has; 200000 where it is not given
	delay *time.Duration, // round trip to the backup host, e.g. 150ms; none where it is not given
) error {
	o := lab.Options{Dir: labDir}
	if orders != nil {
		o.Orders = *orders
	}
	if delay != nil {
		o.Delay = *delay
	}
	return run.Main(ctx, "lab:up", func(ctx context.Context, t *run.Target) error {
		if o.Orders < 0 || o.Delay < 0 {
			return run.Fail(run.Usage, "", "-orders and -delay must not be negative")
		}
		if _, err := up(ctx, t, o); err != nil {
			return err
		}
		t.Printf("\nthe lab is up; to use it:\n  export REHEARSAL_INVENTORY=%s\n  mage backup:create staging:reset\n  mage lab:down\n",
			filepath.Join(labDir, "hosts.yaml"))
		return nil
	})
}

// Down ends the lab's processes and removes its files.
func (Lab) Down(ctx context.Context) error {
	return run.Main(ctx, "lab:down", func(ctx context.Context, t *run.Target) error {
		return t.Step(ctx, "take the lab down", func(ctx context.Context, s *run.Step) error {
			l, err := lab.Open(labDir)
			if errors.Is(err, fs.ErrNotExist) {
				s.Detail("it was down")
				return nil
			}
			if err != nil {
				return err
			}
			return l.Down(ctx)
		})
	})
}

// Demo shows the main jobs on the lab: a backup, a reset of staging, a look at the images, a search for what must not be there.
func Demo(ctx context.Context) error {
	return run.Main(ctx, "demo", func(ctx context.Context, t *run.Target) error {
		l, err := up(ctx, t, lab.Options{Dir: labDir})
		if err != nil {
			return err
		}
		inv, err := inventory.Load(l.Inventory())
		if err != nil {
			return err
		}
		db, err := inv.Database("")
		if err != nil {
			return err
		}
		t.Printf("\n$ mage backup:create\n")
		if err := backup.Create(ctx, t, db); err != nil {
			return err
		}
		t.Printf("\n$ mage staging:reset\n")
		if err := staging.Reset(ctx, t, db, inv.Accounts, staging.Options{}); err != nil {
			return err
		}
		t.Printf("\n$ mage backup:list\n")
		if err := backup.List(ctx, t, db); err != nil {
			return err
		}
		t.Printf("\n$ mage images:verify\n")
		stores, err := inv.ImageStores("")
		if err != nil {
			return err
		}
		if err := images.Verify(ctx, t, stores, images.Options{}); err != nil {
			return err
		}
		t.Printf("\nand is anything of production's people on staging's disk?\n")
		if err := search(ctx, t, l, inv); err != nil {
			return err
		}
		t.Printf("\nthe lab stays up for you to try the rest:\n  export REHEARSAL_INVENTORY=%s\n  mage -l\n  mage lab:down\n", filepath.Join(labDir, "hosts.yaml"))
		return nil
	})
}

// search looks for the raw values of production's people in every file of staging's PostgreSQL.
func search(ctx context.Context, t *run.Target, l *lab.Lab, inv *inventory.Inventory) error {
	var admins []string
	for _, a := range inv.Accounts {
		admins = append(admins, a.Email, a.Name)
	}
	return t.Step(ctx, "search", func(ctx context.Context, s *run.Step) error {
		r, err := l.Residue(ctx, admins...)
		if err != nil {
			return err
		}
		s.Add(r.Bytes)
		s.Detail("%d e-mail addresses, names and phones, none found in %d files", r.Values, r.Files)
		if len(r.Found) > 0 {
			return run.Fail(run.Unclean, "", "values of production lie in %v", r.Found)
		}
		return nil
	})
}

// up brings the lab up, and installs what it needs where that is missing.
func up(ctx context.Context, t *run.Target, o lab.Options) (*lab.Lab, error) {
	if err := install(ctx, t); err != nil {
		return nil, err
	}
	var l *lab.Lab
	err := t.Step(ctx, "lab", func(ctx context.Context, s *run.Step) (err error) {
		l, err = lab.Up(ctx, o, func(what string) { s.Detail("%s", what) })
		return err
	})
	return l, err
}

// install installs the Debian packages that the lab needs, after saying so.
func install(ctx context.Context, t *run.Target) error {
	missing := lab.Missing()
	if len(missing) == 0 {
		return nil
	}
	return t.Step(ctx, "install", func(ctx context.Context, s *run.Step) error {
		s.Detail("%v", missing)
		if err := lab.Install(ctx, missing, os.Stderr); err != nil {
			return err
		}
		if left := lab.Missing(); len(left) > 0 {
			return fmt.Errorf("apt-get was done and %v is still missing", left)
		}
		return nil
	})
}
