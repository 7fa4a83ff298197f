package tree

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Chunk is a folder, or some of its entries where it has more than ChunkSize.
type Chunk struct {
	Path    []byte  // of the folder, relative to the root, "" for the root itself, no '/' at the ends
	First   bool    // the folder's first chunk
	Last    bool    // the folder's last chunk
	Names   int     // how many names the folder has that are no folders and not ignored, in all its chunks
	Entries []Entry // by name, bytewise; later chunks of the folder have later names
	Ignored int     // names that a pattern ignores, folders too; in the first chunk
	Err     error   // in the last chunk: why the folder could not be listed, or not to its end
	Folder  *Folder // to open the entries, valid until Release; nil where Err says that it could not be opened

	walk  *walk // nil after Release
	names []byte
}

// ChunkSize is the most entries of a chunk: it bounds memory, whatever a folder holds. It is also the share of a large
// folder that one worker looks at.
const ChunkSize = 1024

// Release gives back what the chunk holds, its Folder too. It may be called from any goroutine, once, also after Walk
// returned.
func (c *Chunk) Release() {
	w := c.walk
	if w == nil {
		panic("tree: a chunk is released twice")
	}
	if c.Folder != nil {
		c.Folder.Close()
	}
	clear(c.Entries)
	*c = Chunk{Entries: c.Entries[:0], names: c.names[:0]}
	w.recycle(c)
}

// fill looks at the entries with these names, and leaves out those that are gone.
func (c *Chunk) fill(all *names, from, to int) {
	size := 0
	for i := from; i < to; i++ {
		size += len(all.at(i)) + 1
	}
	if cap(c.names) < size {
		c.names = make([]byte, 0, size)
	}
	if cap(c.Entries) < to-from {
		c.Entries = make([]Entry, 0, to-from)
	}
	for i := from; i < to && !c.walk.stopped.Load(); i++ {
		start := len(c.names)
		c.names = append(append(c.names, all.at(i)...), 0)
		c.look(c.names[start : len(c.names)-1])
	}
}

// look adds the entry. The name has a NUL behind it.
func (c *Chunk) look(name []byte) {
	m, err := statx(c.Folder.fd, unsafe.SliceData(name), unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return
	}
	e := Entry{Name: name[:len(name):len(name)], Meta: m}
	if err != 0 {
		e.Meta = Meta{Kind: Unknown}
		e.Err = c.Folder.failed("stat", name, err)
	}
	c.Entries = append(c.Entries, e)
}
