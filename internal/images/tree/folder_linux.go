package tree

import (
	"bytes"
	"io/fs"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Folder is an open folder, safe for concurrent use. Every error of its methods is an *fs.PathError with the path
// relative to the root; a name that is no single component is EINVAL.
type Folder struct {
	path []byte
	fd   int
	uses atomic.Int32 // chunks, or the one that Root.Folder gave out
}

func newFolder(path []byte, fd int) *Folder {
	f := &Folder{path: path, fd: fd}
	f.uses.Store(1)
	return f
}

// Open opens the entry for reading, a link excepted (ELOOP). It never waits, not even for the other end of a pipe, and
// leaves the access time as it is where we may: then the file is ours, or we are root.
func (f *Folder) Open(name []byte) (*os.File, error) {
	fd, err := f.Descriptor(name)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), string(name)), nil
}

// Descriptor is Open for who closes the descriptor himself and opens many: os.NewFile asks whether the runtime's poller takes
// the file, which it never does with a regular one, and that is two system calls of eight for a small file.
func (f *Folder) Descriptor(name []byte) (fd int, err error) {
	fd, err = -1, unix.EINVAL
	if valid(name) {
		fd, err = quiet(func(noatime int) (int, error) {
			return unix.Openat(f.fd, string(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|noatime, 0)
		})
	}
	if err != nil {
		return -1, f.failed("open", name, err)
	}
	return fd, nil
}

// Stat looks at the entry itself, not at what it links to. Of a folder the Kind is Unknown and the error EISDIR.
func (f *Folder) Stat(name []byte) (Meta, error) {
	if !valid(name) {
		return Meta{Kind: Unknown}, f.failed("stat", name, unix.EINVAL)
	}
	m, err := statx(f.fd, unsafe.SliceData(append(name[:len(name):len(name)], 0)), unix.AT_SYMLINK_NOFOLLOW)
	if err != 0 {
		return m, f.failed("stat", name, err)
	}
	return m, nil
}

// Readlink is the target of a symbolic link, as it is written there.
func (f *Folder) Readlink(name []byte) ([]byte, error) {
	if !valid(name) {
		return nil, f.failed("readlink", name, unix.EINVAL)
	}
	for size := 256; ; size *= 4 {
		target := make([]byte, size)
		n, err := unix.Readlinkat(f.fd, string(name), target)
		if err != nil {
			return nil, f.failed("readlink", name, err)
		}
		if n < size {
			return target[:n], nil
		}
	}
}

// Close closes a folder that Root.Folder opened. That of a chunk is closed by Release.
func (f *Folder) Close() error {
	if f.uses.Add(-1) == 0 {
		return unix.Close(f.fd)
	}
	return nil
}

func (f *Folder) failed(op string, name []byte, err error) error {
	return &fs.PathError{Op: op, Path: string(AppendPath(nil, f.path, name)), Err: err}
}

// StatFd looks at an open file: what it returns may be compared with what Walk and Folder.Stat say.
func StatFd(fd int) (Meta, error) {
	var empty [1]byte
	m, err := statx(fd, &empty[0], unix.AT_EMPTY_PATH)
	if err != 0 && err != unix.EISDIR {
		return m, err
	}
	return m, nil
}

// statx is statx(2) of a name that ends in NUL. It asks the file's server, if there is one, as stat(2) does:
// AT_STATX_DONT_SYNC would be no faster on a local file system, and on NFS and FUSE what it says may be arbitrarily old.
func statx(at int, name *byte, flags int) (Meta, unix.Errno) {
	const mask = unix.STATX_TYPE | unix.STATX_SIZE | unix.STATX_MTIME | unix.STATX_CTIME | unix.STATX_INO
	var st unix.Statx_t
	for {
		_, _, err := unix.Syscall6(unix.SYS_STATX, uintptr(at), uintptr(unsafe.Pointer(name)), uintptr(flags), mask, uintptr(unsafe.Pointer(&st)), 0)
		if err == unix.EINTR {
			continue
		}
		if err != 0 {
			return Meta{Kind: Unknown}, err
		}
		break
	}
	m := Meta{Kind: kind(st.Mode), Size: int64(st.Size), Mtime: nanoseconds(st.Mtime), Ctime: nanoseconds(st.Ctime), Inode: st.Ino}
	if m.Kind == Unknown {
		return m, unix.EISDIR
	}
	return m, 0
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

// kind is Unknown for a folder only.
func kind(mode uint16) Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return File
	case unix.S_IFLNK:
		return Link
	case unix.S_IFIFO:
		return Pipe
	case unix.S_IFSOCK:
		return Socket
	case unix.S_IFBLK, unix.S_IFCHR:
		return Device
	}
	return Unknown
}

// valid says whether name is one component and leads nowhere else.
func valid(name []byte) bool {
	switch string(name) {
	case "", ".", "..":
		return false
	}
	return bytes.IndexByte(name, '/') < 0 && bytes.IndexByte(name, 0) < 0
}
