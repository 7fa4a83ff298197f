package host

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
)

// BenchmarkWrite writes one file of 200 MB, and forty of 5 MB, sixteen at once, over lines of two lengths, by Write and,
// four at once, by cat.
func BenchmarkWrite(b *testing.B) {
	data := make([]byte, 200<<20)
	_, _ = rand.Read(data)
	spec := benchHost(b)
	for _, rtt := range []time.Duration{0, 150 * time.Millisecond} {
		near := *spec
		if rtt > 0 {
			proxy, err := lab.NewProxy(spec.Address, rtt)
			if err != nil {
				b.Fatal(err)
			}
			defer proxy.Close()
			near.Address = proxy.Addr()
		}
		for _, files := range []int{1, 40} {
			each := len(data) / files
			part := func(i int) *bytes.Reader { return bytes.NewReader(data[i*each : (i+1)*each]) }
			b.Run(fmt.Sprintf("rtt=%v/files=%d/cat", rtt, files), func(b *testing.B) {
				benchWrites(b, &near, files, 4, func(h *Host, file string, i int) error {
					return h.Run(b.Context(), Cmd{Script: `exec cat >"$1"`, Args: []string{file}, Stdin: part(i)})
				})
			})
			b.Run(fmt.Sprintf("rtt=%v/files=%d/Write", rtt, files), func(b *testing.B) {
				h := benchWrites(b, &near, files, 16, func(h *Host, file string, i int) error {
					return h.Write(b.Context(), file, part(i), int64(each))
				})
				b.ReportMetric(float64(h.writers.most*h.writers.chunk)/(1<<20), "MiB-held")
				b.ReportMetric(float64(len(h.writers.all)), "writers")
				b.ReportMetric(float64(len(h.conns)), "connections")
			})
		}
	}
}

func benchWrites(b *testing.B, spec *inventory.Host, files, atOnce int, write func(h *Host, file string, i int) error) *Host {
	h := benchDial(b, spec)
	dir := b.TempDir()
	b.SetBytes(200 << 20)
	for b.Loop() {
		var all errgroup.Group
		all.SetLimit(atOnce)
		for i := range files {
			all.Go(func() error { return write(h, filepath.Join(dir, strconv.Itoa(i)), i) })
		}
		if err := all.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	return h
}
