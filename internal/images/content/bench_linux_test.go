package content

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehearsal/internal/images/tree"
)

// BenchmarkRead compares a Reader with plain reading, of files that are in memory and of files that are not. What plain
// reading costs others, since it fills the page cache, does not show.
func BenchmarkRead(b *testing.B) {
	for _, files := range []struct{ n, size int }{{2000, 24_000}, {16, 4_000_000}} {
		dir := b.TempDir()
		var names [][]byte
		for i := range files.n {
			name := fmt.Sprintf("%06d.jpg", i)
			noise(b, filepath.Join(dir, name), files.size)
			names = append(names, []byte(name))
		}
		f := folder(b, dir)
		time.Sleep(tick)
		unix.Sync()
		for _, hot := range []bool{true, false} {
			b.Run(fmt.Sprintf("files=%d/size=%d/hot=%v", files.n, files.size, hot), func(b *testing.B) {
				benchmarkWays(b, f, names, files.size, func() {
					for _, name := range names {
						if hot {
							warmAll(b, f, name)
						} else {
							coolAll(b, f, name)
						}
					}
				})
			})
		}
	}
}

func benchmarkWays(b *testing.B, f *tree.Folder, names [][]byte, size int, prepare func()) {
	buf := make([]byte, bufferSize)
	run := func(way string, read func(name []byte) error) {
		b.Run(way, func(b *testing.B) {
			b.SetBytes(int64(len(names) * size))
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				prepare()
				b.StartTimer()
				for _, name := range names {
					if err := read(name); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(len(names)*b.N)/b.Elapsed().Seconds(), "files/s")
		})
	}
	nothing := func([]byte) {}
	run("plain/no-hash", func(name []byte) error { return readPlain(f, name, buf, nothing) })
	for _, algorithm := range []string{BLAKE3, XXH128} {
		d, _ := newDigest(algorithm)
		run("plain/"+algorithm, func(name []byte) error {
			d.reset()
			err := readPlain(f, name, buf, d.write)
			d.hash()
			return err
		})
		for way, dontcache := range map[string]bool{"RWF_DONTCACHE": true, "mincore": false} {
			r := newReader(b, Options{Algorithm: algorithm})
			r.pages.dontcache = dontcache
			run(way+"/"+algorithm, func(name []byte) error {
				_, err := r.Read(b.Context(), f, name)
				return err
			})
		}
	}
}

// readPlain reads a file as most programs do: fstat, read, no second look.
func readPlain(f *tree.Folder, name, buf []byte, use func([]byte)) error {
	file, err := f.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	m, err := tree.StatFd(int(file.Fd()))
	for off := int64(0); err == nil && off < m.Size; {
		var n int
		n, err = unix.Pread(int(file.Fd()), buf[:min(int64(len(buf)), m.Size-off)], off)
		use(buf[:n])
		off += int64(n)
	}
	return err
}

func warmAll(b *testing.B, f *tree.Folder, name []byte) {
	if err := readPlain(f, name, make([]byte, bufferSize), func([]byte) {}); err != nil {
		b.Fatal(err)
	}
}

func coolAll(b *testing.B, f *tree.Folder, name []byte) {
	file, err := f.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
}
