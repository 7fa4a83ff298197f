package index

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"rehearsal/internal/images/tree"
)

// Resume saves what a run that was interrupted had added: afterwards the index of the folder dir holds that, up to the
// last entry that is whole, and what it held before from there on. It says whether there was anything to save.
//
// It may itself be interrupted at any point, and loses nothing: the new index is written beside both, takes the old
// one's name in one step, and only then is the interrupted run's part removed. A part that is left because of an
// interruption just there is saved again, with the same result.
//
// The index has Totals afterwards only where the one before had: else it is of a part of the tree.
func Resume(dir string, h Header) (resumed bool, err error) {
	part, err := open(filepath.Join(dir, partialName), h)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case unusable(err):
		return false, forget(dir)
	case err != nil:
		return false, err
	}
	defer part.Close()
	old, err := Open(dir, h)
	if err != nil && !unusable(err) {
		return false, err
	}
	if old != nil {
		defer old.Close()
	}
	resumed, err = save(dir, h, part, old)
	if err != nil {
		os.Remove(filepath.Join(dir, resumedName)) // it may be what fills the disk
		return false, err
	}
	return resumed, forget(dir)
}

// unusable says whether a file is none, or none of ours, for good.
func unusable(err error) bool {
	for _, reason := range []error{fs.ErrNotExist, ErrVersion, ErrOther, ErrDamaged} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// forget removes what an interrupted run has left, and an interrupted Resume.
func forget(dir string) error {
	for _, name := range []string{resumedName, partialName} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncFolder(filepath.Join(dir, partialName))
}

// save makes the index of part, and of what old, which may be nil, holds after it.
func save(dir string, h Header, part, old *Reader) (resumed bool, err error) {
	w, err := create(filepath.Join(dir, resumedName), os.O_TRUNC, h)
	if err != nil {
		return false, err
	}
	defer w.Close()
	if err := w.take(part); err != nil || w.tally.Entries == 0 {
		return false, err
	}
	whole := false
	if old != nil {
		if err := w.take(old); err != nil {
			return false, err
		}
		_, whole = old.Totals()
	}
	if whole {
		_, err = w.finish()
	} else {
		err = w.Close()
	}
	if err != nil {
		return false, err
	}
	return true, replace(w.path, filepath.Join(dir, sealedName))
}

// take adds the entries of r that come after the last one of w.
func (w *Writer) take(r *Reader) error {
	for {
		folder, e, err := r.Next()
		if err == io.EOF {
			return nil
		}
		c := tree.Compare(folder, w.folder)
		if c < 0 || c == 0 && bytes.Compare(e.Name, w.name) <= 0 {
			continue
		}
		if err := w.Folder(folder); err != nil {
			return err
		}
		if err := w.Add(e); err != nil {
			return err
		}
	}
}
