package tree

import (
	"errors"
	"io/fs"
)

func (w *walk) worker() {
	l := newLister(&w.ignore, w.count)
	for slot := w.take(); slot != nil; slot = w.take() {
		if slot.unit.files != nil {
			w.look(slot)
		} else {
			w.list(slot, l)
		}
	}
}

// list lists a folder and looks at the first of its files.
func (w *walk) list(slot *node, l *lister) {
	path := slot.unit.path
	l.more = func() error { return w.mayGoOn(slot, l.files.len()+l.folders.len()) }
	f, err := w.open(path, l)
	switch {
	case err == errLater:
		w.putOff(slot)
		return
	case err == errStopped || err == errGone:
		w.finish(slot, nil, nil)
		return
	}
	l.files.sort()
	l.folders.sort()
	if w.count != nil {
		if f != nil {
			f.Close()
		}
		w.finish(slot, nil, l.left(path, nil, 0, nil))
		return
	}
	c := w.chunk(path)
	c.First, c.Names, c.Ignored, c.Folder = true, l.files.len(), l.ignored, f
	n := min(c.Names, ChunkSize)
	c.fill(&l.files, 0, n)
	left := l.left(path, f, n, err)
	if c.Last = n == c.Names; c.Last {
		c.Err = err
	}
	w.finish(slot, c, left)
}

// left is what is left to do in a folder after its first n files, or nil.
func (l *lister) left(path []byte, f *Folder, n int, err error) *source {
	if n == l.files.len() && l.folders.len() == 0 {
		return nil
	}
	s := &source{path: path, err: err, folders: l.folders.take()}
	if n < l.files.len() {
		files := l.files.take()
		s.files, s.file, s.open = &files, n, f
		f.uses.Add(1)
	}
	return s
}

// look looks at more files of a folder.
func (w *walk) look(slot *node) {
	u := slot.unit
	c := w.chunk(u.path)
	c.Folder, c.Names = u.open, u.files.len()
	c.fill(u.files, u.from, u.to)
	c.Last, c.Err = u.to == c.Names, u.err
	w.finish(slot, c, nil)
}

var (
	errStopped = errors.New("stopped")
	errLater   = errors.New("large, and not the next")
	errGone    = errors.New("gone")
)

// mayGoOn tells the lister of a slot's folder whether to go on after that many names.
func (w *walk) mayGoOn(slot *node, names int) error {
	if w.stopped.Load() {
		return errStopped
	}
	if names < largeFolder {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if slot != w.first {
		return errLater
	}
	return nil
}

// open opens and lists a folder. The folder is nil where it could not be opened, and where the error is errStopped,
// errLater, or errGone: its parent has it no more.
func (w *walk) open(path []byte, l *lister) (f *Folder, err error) {
	for range 3 { // for one that is deleted and made anew meanwhile
		l.reset()
		if f, err = w.root.Folder(path); err == nil {
			err = l.list(path, f.fd)
		}
		switch {
		case err == errStopped || err == errLater:
			f.Close()
			return nil, err
		case !errors.Is(err, fs.ErrNotExist) || len(path) == 0:
			return f, err
		}
		if f != nil {
			f.Close()
		}
		if !w.root.has(path) {
			return nil, errGone
		}
	}
	return nil, err
}
