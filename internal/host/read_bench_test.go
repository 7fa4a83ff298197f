package host

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
)

// BenchmarkRead reads a file of 200 MB over lines of two lengths, by Read and by cat. The proxy costs processor time of
// its own, more than the rest on a small machine, so it is left out where it would not delay.
func BenchmarkRead(b *testing.B) {
	const size = 200 << 20
	file := filepath.Join(b.TempDir(), "file")
	f, err := os.Create(file)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyN(f, rand.Reader, size); err != nil {
		b.Fatal(err)
	}
	f.Close()
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
		b.Run(fmt.Sprintf("rtt=%v/cat", rtt), func(b *testing.B) {
			h := benchDial(b, &near)
			b.SetBytes(size)
			for b.Loop() {
				if err := h.Run(b.Context(), Cmd{Args: []string{"cat", file}, Stdout: io.Discard}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("rtt=%v/Read", rtt), func(b *testing.B) {
			h := benchDial(b, &near)
			b.SetBytes(size)
			for b.Loop() {
				if err := h.Read(b.Context(), io.Discard, file, size); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(h.lanes.most)/(1<<20), "MiB-held")
			b.ReportMetric(float64(len(h.lanes.all)), "lanes")
			b.ReportMetric(float64(len(h.conns)), "connections")
		})
	}
}

func benchHost(b *testing.B) *inventory.Host {
	identity := filepath.Join(b.TempDir(), "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", identity).CombinedOutput(); err != nil {
		b.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.ReadFile(identity + ".pub")
	if err != nil {
		b.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		b.Fatal(err)
	}
	s, err := lab.StartSSHD(b.Context(), "db1", filepath.Join(b.TempDir(), "sshd"), string(public))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Stop() })
	return &inventory.Host{Name: "db1", Address: fmt.Sprintf("127.0.0.1:%d", s.Port), User: me.Username, Identity: identity, HostKey: s.HostKey}
}

func benchDial(b *testing.B, spec *inventory.Host) *Host {
	h, err := Dial(b.Context(), spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { h.Close() })
	return h
}
