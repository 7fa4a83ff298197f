package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// lister lists folders, one after the other, for one worker.
type lister struct {
	ignore  *ignore
	count   *atomic.Int64 // for Count: files are counted there and not kept
	more    func() error  // asked now and then, with the names so far: whether to go on
	buf     []byte
	files   names
	folders names
	ignored int
}

// A buffer of 64 KiB holds a thousand names, more than most folders have; larger ones are no faster.
const listBuffer = 64 << 10

func newLister(ig *ignore, count *atomic.Int64) *lister {
	return &lister{ignore: ig, count: count, buf: make([]byte, listBuffer)}
}

func (l *lister) reset() {
	l.files.reset()
	l.folders.reset()
	l.ignored = 0
}

// list reads the names in the folder. With an error, what it has read so far is there too.
func (l *lister) list(path []byte, fd int) error {
	for {
		n, err := unix.Getdents(fd, l.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "getdents", Path: string(path), Err: err}
		}
		if n == 0 {
			return nil
		}
		if err := l.parse(path, fd, l.buf[:n]); err != nil {
			return err
		}
		if err := l.more(); err != nil {
			return err
		}
	}
}

// parse takes apart what getdents64(2) returned: inode and offset in 8 bytes each, the record's length in 2, the type
// in 1, the name, and NUL up to the record's end.
func (l *lister) parse(path []byte, fd int, buf []byte) error {
	for len(buf) > 0 {
		record := buf[:binary.NativeEndian.Uint16(buf[16:])]
		buf = buf[len(record):]
		name := record[19:]
		name = name[:bytes.IndexByte(name, 0)]
		if string(name) == "." || string(name) == ".." {
			continue
		}
		if l.ignore.match(path, name) {
			l.ignored++
			continue
		}
		if !l.add(name, isFolder(fd, name, record[18])) {
			return errTooMany
		}
	}
	return nil
}

var errTooMany = errors.New("more than 4 GiB of names in one folder")

func (l *lister) add(name []byte, folder bool) bool {
	switch {
	case folder:
		return l.folders.add(name)
	case l.count != nil:
		l.count.Add(1)
		return true
	}
	return l.files.add(name)
}

// isFolder asks the file system where the listing does not say: some, like ext4 without its filetype feature and many
// FUSE ones, never do. What is gone meanwhile passes for a file, whose stat will say so. A NUL follows the name.
func isFolder(fd int, name []byte, dtype byte) bool {
	if dtype != unix.DT_UNKNOWN {
		return dtype == unix.DT_DIR
	}
	_, err := statx(fd, &name[0], unix.AT_SYMLINK_NOFOLLOW)
	return err == unix.EISDIR
}
