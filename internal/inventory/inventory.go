package inventory

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rehearsal/internal/run"
)

// Load reads and validates the inventory at path and the accounts.yaml in the same folder, if there is one. Every error
// is a *run.Error with the code run.Usage; about the content of a file it has a message for each problem, in the order
// of the lines.
func Load(path string) (*Inventory, error) {
	src, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, run.Fail(run.Usage,
			"copy inventory/hosts.example.yaml to inventory/hosts.yaml and edit it, or set REHEARSAL_INVENTORY; mage demo shows everything on this machine alone",
			"there is no inventory at %s", path)
	}
	if err != nil {
		return nil, run.Fail(run.Usage, "REHEARSAL_INVENTORY names the file to read", "reading the inventory: %w", err)
	}
	inv, problems, err := hosts(path, src)
	if err != nil {
		return nil, run.Fail(run.Usage, "", "reading the inventory: %w", err)
	}
	beside := filepath.Join(filepath.Dir(path), "accounts.yaml")
	src, err = read(beside)
	if err == nil {
		var more []string
		inv.Accounts, more = accounts(beside, src)
		problems = append(problems, more...)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, run.Fail(run.Usage, "", "reading who is admin on staging: %w", err)
	}
	if len(problems) > 0 {
		return nil, run.Fail(run.Usage, "inventory/hosts.example.yaml and accounts.example.yaml show every key",
			"%s", strings.Join(problems, "\n"))
	}
	return inv, nil
}

// Path returns where the inventory is: REHEARSAL_INVENTORY, or inventory/hosts.yaml.
func Path() string {
	if path := os.Getenv("REHEARSAL_INVENTORY"); path != "" {
		return path
	}
	return filepath.Join("inventory", "hosts.yaml")
}

// Database returns the database called name; "" will do where there is exactly one.
func (inv *Inventory) Database(name string) (*Database, error) {
	return pick(inv.File, "database", "-database", name, inv.Databases)
}

// ImageStores returns the image store called name, or all of them, by name, where it is "".
func (inv *Inventory) ImageStores(name string) (stores []*ImageStore, err error) {
	if name == "" && len(inv.Images) > 0 {
		for _, name := range slices.Sorted(maps.Keys(inv.Images)) {
			stores = append(stores, inv.Images[name])
		}
		return stores, nil
	}
	store, err := pick(inv.File, "image store", "-store", name, inv.Images)
	return []*ImageStore{store}, err
}

func pick[T any](file, kind, flag, name string, all map[string]*T) (*T, error) {
	names := slices.Sorted(maps.Keys(all))
	known := strings.Join(names, ", ")
	switch {
	case len(names) == 0:
		return nil, run.Fail(run.Usage, "inventory/hosts.example.yaml shows one", "%s has no %s", file, kind)
	case name == "" && len(names) == 1:
		return all[names[0]], nil
	case name == "":
		return nil, run.Fail(run.Usage, "", "%s=NAME is needed: the inventory has %s", flag, known)
	case all[name] == nil:
		return nil, run.Fail(run.Usage, "", "there is no %s %q: the inventory has %s", kind, name, known)
	}
	return all[name], nil
}

// maxSize is far above any inventory, and far below a dump that REHEARSAL_INVENTORY may name by mistake: the time that
// go-yaml takes grows with the square of the size.
const maxSize = 256 << 10

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(src) > maxSize {
		return nil, fmt.Errorf("%s is larger than 256 KiB", path)
	}
	return src, err
}
