package tree

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Drafts is the pattern of the names that files have while they are written: no walk means them.
const Drafts = ".rehearsal-*.partial"

// Draft is a new file of a folder that is being written, and is not under its name yet.
type Draft struct {
	*os.File
	Name   []byte
	folder *Folder
}

// Draft begins a new file, mode 0600, and locks it, so that nobody sweeps it away.
func (f *Folder) Draft() (*Draft, error) {
	name := []byte(".rehearsal-" + rand.Text() + ".partial")
	fd, err := unix.Openat(f.fd, string(name), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, f.failed("create", name, err)
	}
	_ = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) // where files cannot be locked, nothing is swept either
	return &Draft{os.NewFile(uintptr(fd), string(name)), name, f}, nil
}

// Finish gives the draft its mode and mtime (nanoseconds since 1970), and puts it on disk.
func (d *Draft) Finish(mode uint32, mtime int64) error {
	if err := unix.Fchmod(int(d.Fd()), mode&0o777); err != nil {
		return d.folder.failed("chmod", d.Name, err)
	}
	at := unix.NsecToTimespec(mtime)
	if err := unix.UtimesNanoAt(d.folder.fd, string(d.Name), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return d.folder.failed("set the times of", d.Name, err)
	}
	return d.Sync()
}

// Publish gives the draft its name, and takes the name from what had it where that may be replaced; else it is
// fs.ErrExist. Once it returns nil that is on disk.
func (d *Draft) Publish(name []byte, replace bool) error {
	if !valid(name) {
		return d.folder.failed("rename", name, unix.EINVAL)
	}
	err := error(unix.EINVAL)
	if !replace {
		err = unix.Renameat2(d.folder.fd, string(d.Name), d.folder.fd, string(name), unix.RENAME_NOREPLACE)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // NFS and old kernels know no flags
		err = unix.Renameat(d.folder.fd, string(d.Name), d.folder.fd, string(name))
	}
	if err != nil {
		return d.folder.failed("rename", name, err)
	}
	return d.folder.sync()
}

// Sweep removes the drafts of programs that were killed from the folder: nobody holds their locks, and they are not so
// young that somebody is about to. What cannot be removed stays.
func (f *Folder) Sweep() { f.sweep(time.Now()) }

func (f *Folder) sweep(now time.Time) {
	fd, err := unix.Openat(f.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	folder := os.NewFile(uintptr(fd), "")
	defer folder.Close()
	names, _ := folder.Readdirnames(-1)
	for _, name := range names {
		if draft, _ := filepath.Match(Drafts, name); !draft {
			continue
		}
		fd, err := unix.Openat(f.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		m, err := StatFd(fd)
		if err == nil && now.Sub(time.Unix(0, m.Ctime)) > time.Minute && unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = unix.Unlinkat(f.fd, name, 0)
		}
		unix.Close(fd)
	}
}

// Discard removes a draft that was not published; of one that was, it closes the file only.
func (d *Draft) Discard() {
	_ = unix.Unlinkat(d.folder.fd, string(d.Name), 0)
	d.Close()
}

// sync puts the names of the folder on disk. Its descriptor is one that cannot: it is opened to find things below it.
func (f *Folder) sync() error {
	fd, err := unix.Openat(f.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return f.failed("open", nil, err)
	}
	defer unix.Close(fd)
	if err := unix.Fsync(fd); err != nil {
		return f.failed("sync", nil, err)
	}
	return nil
}

// Keep makes what is called name be at path, too, which must not be there: by a hard link, or a copy on another file
// system. Folders on the way are made, mode 0700.
func (f *Folder) Keep(name []byte, path string) error {
	if !valid(name) {
		return f.failed("link", name, unix.EINVAL)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	err := unix.Linkat(f.fd, string(name), unix.AT_FDCWD, path, 0)
	if err == nil || errors.Is(err, unix.EEXIST) {
		if err != nil {
			err = &os.PathError{Op: "link", Path: path, Err: err}
		}
		return err
	}
	from, err := f.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Sync(), to.Close()); err != nil {
		_ = os.Remove(path) // half of it would look like what was kept
	}
	return err
}

// MakeFolder is Folder for one that may not be there yet; those on the way are made, too, mode 0755.
func (r *Root) MakeFolder(rel []byte) (*Folder, error) {
	f, err := r.Folder(rel)
	if err == nil || !errors.Is(err, unix.ENOENT) || len(rel) == 0 {
		return f, err
	}
	folder, name := Split(rel)
	parent, err := r.MakeFolder(folder)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if !valid(name) {
		return nil, parent.failed("mkdir", name, unix.EINVAL)
	}
	if err := unix.Mkdirat(parent.fd, string(name), 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, parent.failed("mkdir", name, err)
	}
	if err := parent.sync(); err != nil {
		return nil, err
	}
	return r.Folder(rel)
}
