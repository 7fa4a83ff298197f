package tree

import (
	"bytes"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Root is the folder that is looked at, with all below it. Moving it does not change what it is.
type Root struct {
	path     string
	fd       int
	stepwise bool // no openat2: a kernel before 5.6, or a seccomp filter that does not know it
}

// OpenRoot opens the folder; path itself may be a symbolic link to it. Every error is an *fs.PathError, also that the
// kernel is older than statx, which came with 4.11.
func OpenRoot(path string) (*Root, error) {
	fd, err := quiet(func(noatime int) (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|noatime, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if _, err := StatFd(fd); err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	r := &Root{path: path, fd: fd}
	if probe, err := r.beneath(fd, []byte("."), unix.O_PATH); err != nil {
		r.stepwise = true
	} else {
		unix.Close(probe)
	}
	return r, nil
}

// Close closes the root. Folders and chunks that are in use stay so.
func (r *Root) Close() error { return unix.Close(r.fd) }

// Folder opens the folder at rel, "" for the root itself. rel may be longer than PATH_MAX; it may not lead out of the
// root, and where a symbolic link lies on the way or at its end, the error is ELOOP or ENOTDIR.
func (r *Root) Folder(rel []byte) (*Folder, error) {
	fd, err := r.open(rel)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: string(rel), Err: err}
	}
	return newFolder(bytes.Clone(rel), fd), nil
}

// has says whether anything lies at rel, as far as can be said.
func (r *Root) has(rel []byte) bool {
	folder, name := Split(rel)
	parent, err := r.Folder(folder)
	if err == nil {
		defer parent.Close()
		_, err = parent.Stat(name)
	}
	return !errors.Is(err, fs.ErrNotExist)
}

// open opens the folder for listing.
func (r *Root) open(rel []byte) (int, error) {
	if len(rel) == 0 {
		return quiet(func(noatime int) (int, error) {
			return unix.Openat(r.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|noatime, 0)
		})
	}
	at, rest, err := r.approach(rel)
	if err != nil {
		return -1, err
	}
	if at != r.fd {
		defer unix.Close(at)
	}
	return quiet(func(noatime int) (int, error) { return r.beneath(at, rest, unix.O_RDONLY|noatime) })
}

// approach opens folders on the way to rel until the rest of it is short enough for one system call.
func (r *Root) approach(rel []byte) (at int, rest []byte, err error) {
	const most = unix.PathMax - 1 // without the NUL
	at, rest = r.fd, rel
	for len(rest) > most {
		cut := bytes.LastIndexByte(rest[:most+1], '/')
		next, err := -1, error(unix.ENAMETOOLONG)
		if cut > 0 {
			next, err = r.beneath(at, rest[:cut], unix.O_PATH)
		}
		if at != r.fd {
			unix.Close(at)
		}
		if err != nil {
			return -1, nil, err
		}
		at, rest = next, rest[cut+1:]
	}
	return at, rest, nil
}

// beneath opens the folder at path below the folder at, through no link and not by way of "..".
func (r *Root) beneath(at int, path []byte, flags int) (int, error) {
	flags |= unix.O_DIRECTORY | unix.O_CLOEXEC
	if r.stepwise {
		return steps(at, path, flags|unix.O_NOFOLLOW)
	}
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	for {
		fd, err := unix.Openat2(at, string(path), &how)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// steps is beneath without openat2: one folder after the other.
func steps(at int, path []byte, flags int) (int, error) {
	fd, first := at, true
	for name := range bytes.SplitSeq(path, []byte("/")) {
		if !valid(name) {
			return closed(fd, first, unix.EXDEV) // what openat2 says of a path that leads out
		}
		f := unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW
		if len(name) == len(path) {
			f = flags
		}
		path = path[min(len(name)+1, len(path)):]
		next, err := unix.Openat(fd, string(name), f, 0)
		closed(fd, first, nil)
		if err != nil {
			return -1, err
		}
		fd, first = next, false
	}
	return fd, nil
}

func closed(fd int, keep bool, err error) (int, error) {
	if !keep {
		unix.Close(fd)
	}
	return -1, err
}

// quiet opens without touching the access time, which only the owner and root may ask for (open(2), O_NOATIME).
func quiet(open func(noatime int) (int, error)) (int, error) {
	fd, err := open(unix.O_NOATIME)
	if err == unix.EPERM {
		fd, err = open(0)
	}
	return fd, err
}
