package index

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeEarly has the kernel begin to write a part of a file to the disk, and does not wait for it. It promises nothing, and
// takes no error away from the fsync that does: sync_file_range(2) without its waiting flags looks at none.
func writeEarly(f *os.File, from, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
}
