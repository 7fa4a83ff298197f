package tree

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// The tree of the benchmarks: 200 000 files in 4 000 folders, warm after the first round.
func benchTree(b *testing.B) string {
	dir := b.TempDir()
	for i := range 4000 {
		folder := filepath.Join(dir, fmt.Sprintf("%02x", i%64), fmt.Sprintf("%03x", i))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 50 {
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("product-%06d-large.jpg", (i*50+j)*7919%1000000)), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	return dir
}

func BenchmarkWalk(b *testing.B) {
	dir := benchTree(b)
	for _, workers := range []int{1, 2, 8, 16} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				expect(b, walkOnce(b, dir, workers))
			}
		})
	}
	b.Run("names", func(b *testing.B) {
		for b.Loop() {
			r := open(b, dir)
			var n atomic.Int64
			if err := r.Count(context.Background(), Options{Workers: 2}, &n); err != nil {
				b.Fatal(err)
			}
			expect(b, int(n.Load()))
		}
	})
	b.Run("WalkDir", func(b *testing.B) {
		for b.Loop() {
			expect(b, walkDir(b, dir))
		}
	})
}

// BenchmarkFlat is for one folder of a million files.
func BenchmarkFlat(b *testing.B) {
	dir := b.TempDir()
	for i := range 1000000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("product-%07d-large.jpg", i*7919%10000000)), nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for _, workers := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				walkOnce(b, dir, workers)
			}
		})
	}
}

func expect(b *testing.B, files int) {
	if files != 200000 {
		b.Fatalf("%d files", files)
	}
}

func walkOnce(b *testing.B, dir string, workers int) (files int) {
	r := open(b, dir)
	err := r.Walk(context.Background(), Options{Workers: workers}, func(c *Chunk) error {
		files += len(c.Entries)
		c.Release()
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return files
}

func walkDir(b *testing.B, dir string) (files int) {
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			_, err = d.Info()
			files++
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return files
}

func open(t testing.TB, dir string) *Root {
	t.Helper()
	r, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
