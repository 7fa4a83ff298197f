package content

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pages reads a file and leaves the page cache as it was: what was in memory stays, what was not is not afterwards. A reader
// that only drops what it read takes the hot pages of the programs that serve the files.
//
// Linux does it itself where asked to by RWF_DONTCACHE. Elsewhere mincore(2) tells before what is in memory, and
// posix_fadvise(2) drops the rest after. What mincore does not tell us, as we neither own the file nor may write it, it calls
// in memory, and then all of it stays there.
type pages struct {
	dontcache bool // RWF_DONTCACHE is to be tried

	fd   int
	size int64
	asks bool                // RWF_DONTCACHE is in use for this file
	iov  unix.Iovec          // of that
	cold []span              // what was not in memory when the file was opened, and has not been dropped
	core []byte              // what mincore says, one byte for each page
	all  unix.CachestatRange // the whole file
	stat unix.Cachestat_t
}

// span is some whole pages of a file, the last of them maybe cut short by its end.
type span struct{ from, to int64 }

// At the most so much of a file is mapped at once, and so many spans of it are dropped, so that memory is bounded
// whatever the file. A file whose pages are so unlike each other keeps the rest.
const (
	mapAtOnce = 64 << 20
	maxSpans  = 4096
)

func newPages() pages {
	return pages{dontcache: trustsDontcache(), core: make([]byte, mapAtOnce/os.Getpagesize())}
}

// trustsDontcache says whether RWF_DONTCACHE is to be tried. It came with Linux 6.14, where a read could drop a page that
// another program had just written to; 6.15 was released with it turned off; 6.16 has the corrections ("mm/filemap: use
// filemap_end_dropbehind() for read invalidation").
var trustsDontcache = sync.OnceValue(func() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	return atLeast(unix.ByteSliceToString(u.Release[:]), 6, 16)
})

// atLeast compares a kernel's release, "6.18.44-generic", with a version.
func atLeast(release string, major, minor int) bool {
	first, rest, _ := strings.Cut(release, ".")
	second, _, _ := strings.Cut(rest, ".")
	if i := strings.IndexFunc(second, func(c rune) bool { return c < '0' || c > '9' }); i >= 0 {
		second = second[:i]
	}
	x, err1 := strconv.Atoi(first)
	y, err2 := strconv.Atoi(second)
	return err1 == nil && err2 == nil && (x > major || x == major && y >= minor)
}

// open begins with a file of which nothing has been read.
func (c *pages) open(fd int, size int64) {
	c.fd, c.size, c.asks, c.cold = fd, size, c.dontcache, c.cold[:0]
	if !c.asks {
		c.look()
	}
}

// pread is pread(2).
func (c *pages) pread(p []byte, off int64) (int, error) {
	if c.asks {
		n, err := c.preadDontcache(p, off)
		if err != unix.EOPNOTSUPP { // which the file system says before it has read anything
			return n, err
		}
		c.asks = false
		c.look()
	}
	for {
		n, err := unix.Pread(c.fd, p, off)
		if err != unix.EINTR {
			c.drop(off + int64(max(n, 0)))
			return n, err
		}
	}
}

func (c *pages) preadDontcache(p []byte, off int64) (int, error) {
	for {
		c.iov.Base = unsafe.SliceData(p)
		c.iov.SetLen(len(p))
		n, _, errno := unix.Syscall6(unix.SYS_PREADV2, uintptr(c.fd), uintptr(unsafe.Pointer(&c.iov)), 1,
			uintptr(off), 0, unix.RWF_DONTCACHE)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// close drops what reading ahead may have brought, also where the reading ended early.
func (c *pages) close() {
	c.drop(c.size)
}

// look finds the cold spans.
func (c *pages) look() {
	if c.allHot() {
		return
	}
	for off := int64(0); off < c.size; off += mapAtOnce {
		n := min(c.size-off, mapAtOnce)
		core, err := c.mincore(off, n)
		if err != nil || !c.add(off, off+n, core) {
			return // what is not known to be cold stays
		}
	}
}

// allHot says whether all of the file is known to be in memory. It asks cachestat(2), which Linux has had since 6.5, and
// which is quicker than mincore by far; but of a file on overlayfs, whose pages are another inode's, it says that none are in memory.
func (c *pages) allHot() bool {
	page := uint64(os.Getpagesize())
	c.stat.Cache = 0
	err := unix.Cachestat(uint(c.fd), &c.all, &c.stat, 0)
	return err == nil && c.stat.Cache >= (uint64(c.size)+page-1)/page
}

// mincore says of each page whether it is in memory: bit 0 of its byte.
func (c *pages) mincore(off, n int64) ([]byte, error) {
	addr, err := unix.MmapPtr(c.fd, off, nil, uintptr(n), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	defer unix.MunmapPtr(addr, uintptr(n))
	page := int64(os.Getpagesize())
	core := c.core[:(n+page-1)/page]
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(addr), uintptr(n), uintptr(unsafe.Pointer(&core[0]))); errno != 0 {
		return nil, errno
	}
	return core, nil
}

// add appends the cold spans among the pages from off to end, and reports whether there was room.
func (c *pages) add(off, end int64, core []byte) bool {
	page := int64(os.Getpagesize())
	for i, resident := range core {
		if resident&1 != 0 {
			continue
		}
		from := off + int64(i)*page
		to := min(from+page, end)
		if last := len(c.cold) - 1; last >= 0 && c.cold[last].to == from {
			c.cold[last].to = to
		} else if len(c.cold) < maxSpans {
			c.cold = append(c.cold, span{from, to})
		} else {
			return false
		}
	}
	return true
}

// drop drops the cold spans up to an offset. A span that goes on is kept from its beginning: a folio of several pages is
// dropped as a whole, or not.
func (c *pages) drop(upto int64) {
	done := 0
	for _, s := range c.cold {
		if s.from >= upto {
			break
		}
		unix.Fadvise(c.fd, s.from, min(s.to, upto)-s.from, unix.FADV_DONTNEED) // advice: there is nothing to do where it is not taken
		if s.to > upto {
			break
		}
		done++
	}
	c.cold = c.cold[:copy(c.cold, c.cold[done:])]
}
