package index

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// walked is what a walk gives: folders, and in each its entries.
type walked struct {
	folder  []byte
	entries []Entry
}

func walk(files, each int, read func(i int) uint32) []walked {
	var all []walked
	for i := range files {
		if i%each == 0 {
			all = append(all, walked{folder: fmt.Appendf(nil, "%02x/%05d", i/each/256, i/each)})
		}
		last := &all[len(all)-1]
		last.entries = append(last.entries, ordinary(i, read(i)).Entry)
	}
	return all
}

// BenchmarkUnchanged is what the index costs a walk of 200 000 files that finds nothing changed. "seal-ms" is the disk's
// time to keep it.
func BenchmarkUnchanged(b *testing.B) {
	for _, c := range []struct {
		what string
		read func(i int) uint32
	}{
		{"one-age", func(int) uint32 { return 1764000000 }},
		{"30-ages-mixed", func(i int) uint32 { return 1764000000 + uint32(i*7919%30)*86400 }},
	} {
		b.Run(c.what, func(b *testing.B) {
			dir := b.TempDir()
			tree := walk(200_000, 50, c.read)
			copyOf(b, dir, tree, false)
			b.ReportAllocs()
			for b.Loop() {
				copyOf(b, dir, tree, true)
			}
			info, err := os.Stat(dir + "/" + sealedName)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/200_000, "ns/entry")
			b.ReportMetric(float64(info.Size())/200_000, "bytes/entry")
		})
	}
}

// copyOf writes the index of the tree, with the entries found in the old one.
func copyOf(b *testing.B, dir string, tree []walked, find bool) {
	w, err := Create(dir, header)
	if err != nil {
		b.Fatal(err)
	}
	var r *Reader
	if find {
		if r, err = Open(dir, header); err != nil {
			b.Fatal(err)
		}
		defer r.Close()
	}
	for _, f := range tree {
		w.Folder(f.folder)
		for i := range f.entries {
			e := &f.entries[i]
			if find {
				if e = r.Find(f.folder, e.Name); e == nil || e.Meta != f.entries[i].Meta {
					b.Fatal("lost")
				}
			}
			w.Add(e)
		}
	}
	b.StopTimer()
	defer b.StartTimer()
	if _, err := w.Seal(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkSeal(b *testing.B) {
	dir := b.TempDir()
	all := ordinaries(0, 200_000, 7)
	for b.Loop() {
		b.StopTimer()
		w, err := Create(dir, header)
		if err != nil {
			b.Fatal(err)
		}
		add(b, w, all)
		b.StartTimer()
		if _, err := w.Seal(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFiveMillion writes, reads and resumes an index of a large store, and says how much memory the process had at
// most. Run it alone: -bench FiveMillion -benchtime 1x -run '^$'.
func BenchmarkFiveMillion(b *testing.B) {
	const n = 5_000_000
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(30 << 20))
	dir := b.TempDir()
	name, folder := []byte("IMG_00000000_original.jpg"), []byte("0000/0000")
	fill := func(b *testing.B, w *Writer, n int, read uint32) {
		e := ordinary(0, read).Entry
		e.Name = name
		for i := range n {
			decimal(name[4:12], i)
			decimal(folder[:4], i/100/250)
			decimal(folder[5:], i/100%250)
			e.Inode, e.Mtime, e.Size = uint64(i*3), int64(i)*0x123456789abcd>>4, int64(8000+i*7919%32000)
			e.Ctime = e.Mtime + 1000000
			e.Hash[i%16], e.Hash[(i+7)%16] = byte(i>>3), byte(i>>7)
			if err := w.Folder(folder); err != nil {
				b.Fatal(err)
			}
			if err := w.Add(&e); err != nil {
				b.Fatal(err)
			}
		}
	}
	run := func(what string, f func(b *testing.B)) {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				f(b)
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/n, "ns/entry")
			b.ReportMetric(peak(b), "peak-MB")
		})
	}
	create := func(b *testing.B) *Writer {
		w, err := Create(dir, header)
		if err != nil {
			b.Fatal(err)
		}
		return w
	}
	run("write", func(b *testing.B) {
		w := create(b)
		fill(b, w, n, 1764000000)
		if _, err := w.Seal(); err != nil {
			b.Fatal(err)
		}
		info, err := os.Stat(dir + "/" + sealedName)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/n, "bytes/entry")
	})
	run("read", func(b *testing.B) {
		r := opened(b, dir)
		count := 0
		for _, _, err := r.Next(); err == nil; _, _, err = r.Next() {
			count++
		}
		if count != n {
			b.Fatal(count)
		}
	})
	run("resume", func(b *testing.B) {
		b.StopTimer()
		w := create(b)
		fill(b, w, n/2, 1764100000)
		w.Close()
		b.StartTimer()
		resume(b, dir, true)
	})
}

func decimal(b []byte, n int) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// peak is the most memory that this process has had, in MB.
func peak(b *testing.B) float64 {
	for line := range strings.Lines(string(read(b, "/proc/self/status"))) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 64)
			if err != nil {
				b.Fatal(err)
			}
			return n / 1000
		}
	}
	b.Skip("no VmHWM here")
	return 0
}
