package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// took runs readers that take n bytes each time, and spend busy on each, for a while, and returns the bytes of all.
func took(t *testing.T, l *Limit, readers, n int, busy, while time.Duration, at func(inRead int)) int64 {
	ctx, cancel := context.WithTimeout(t.Context(), while)
	defer cancel()
	var total, inRead atomic.Int64
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for l.take(ctx, n) == nil {
				total.Add(int64(n))
				inRead.Add(1)
				time.Sleep(busy)
				inRead.Add(-1)
			}
		})
	}
	if at != nil {
		for ctx.Err() == nil {
			at(int(inRead.Load()))
			time.Sleep(5 * time.Millisecond)
		}
	}
	wg.Wait()
	return total.Load()
}

func TestReadersTogetherKeepToTheLimit(t *testing.T) {
	for _, c := range []struct {
		rate    int64
		readers int
		n       int
	}{
		{5e6, 1, 1 << 20},
		{5e6, 16, 24 << 10},
		{400e6, 16, 24 << 10},
		{300e3, 4, 1 << 20}, // less than a buffer in a second
	} {
		t.Run(fmt.Sprintf("%d B/s, %d readers of %d B", c.rate, c.readers, c.n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Limit{rate: c.rate}
				const while = 20 * time.Second
				got := took(t, l, c.readers, c.n, 10*time.Microsecond, while, nil)
				most := c.rate * int64(while/time.Second) * 11 / 10
				least := c.rate*int64(while/time.Second)*9/10 - int64(c.readers*c.n)
				if got > most || got < least {
					t.Errorf("%d bytes in %s, want %d to %d", got, while, least, most)
				}
			})
		})
	}
}

func TestTimeSpentElsewhereIsNotSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Limit{rate: 1e6}
		l.take(t.Context(), 1)
		time.Sleep(time.Hour)
		if got := took(t, l, 1, 10e3, 0, time.Second, nil); got > 1.1e6 {
			t.Errorf("%d bytes in the first second after a pause, the limit is 1000000", got)
		}
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	l := NewLimit(1)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := l.take(ctx, 1<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("take: %v", err)
	}
	if err := (*Limit)(nil).take(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("take without a limit: %v", err)
	}
}

// pressure writes a file like /proc/pressure/io, whose count grows while someone waits.
type pressure struct {
	file   *os.File
	last   time.Time
	waited time.Duration
}

func newPressure(t *testing.T) *pressure {
	file, err := os.Create(filepath.Join(t.TempDir(), "io"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	p := &pressure{file: file}
	p.write(t, false)
	return p
}

func (p *pressure) write(t *testing.T, waiting bool) {
	now := time.Now()
	if waiting && !p.last.IsZero() {
		p.waited += now.Sub(p.last)
	}
	p.last = now
	us := p.waited.Microseconds() // always as many digits, so that it may be overwritten in place
	if _, err := fmt.Fprintf(io.NewOffsetWriter(p.file, 0), "some avg10=0.00 avg60=0.00 avg300=0.00 total=%015d\n", us); err != nil {
		t.Error(err)
	}
}

func TestReadersGiveWayToOthersButNotToThemselves(t *testing.T) {
	const while, busy, n = 30 * time.Second, 5 * time.Millisecond, 1000
	all := int64(while / busy * n)
	for _, c := range []struct {
		name        string
		waiting     func(inRead int) bool
		least, most float64 // the share of what they read undisturbed
	}{
		{"nobody waits", func(int) bool { return false }, 0.95, 1.01},
		{"only we wait", func(inRead int) bool { return inRead > 0 }, 0.85, 0.97},
		{"others wait", func(int) bool { return true }, 0.15, 0.30},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPressure(t)
			synctest.Test(t, func(t *testing.T) {
				l := &Limit{courtesy: courtesy{file: p.file.Name()}}
				p.last = time.Time{}
				got := float64(took(t, l, 1, n, busy, while, func(inRead int) { p.write(t, c.waiting(inRead)) })) / float64(all)
				if got < c.least || got > c.most {
					t.Errorf("read %.2f of what it could, want %.2f to %.2f", got, c.least, c.most)
				}
			})
		})
	}
}

func TestReadersGoOnOnceTheOthersAreDone(t *testing.T) {
	p := newPressure(t)
	synctest.Test(t, func(t *testing.T) {
		l := &Limit{courtesy: courtesy{file: p.file.Name()}}
		p.last = time.Time{}
		took(t, l, 1, 1, time.Millisecond, 10*time.Second, func(int) { p.write(t, true) })
		quiet := took(t, l, 1, 1, time.Millisecond, 10*time.Second, func(int) { p.write(t, false) })
		if quiet < 8500 {
			t.Errorf("%d reads of a millisecond in the 10 s after the others were done", quiet)
		}
	})
}

func TestWithoutPressureFileNobodyPauses(t *testing.T) {
	for name, content := range map[string]string{"absent": "", "empty": "", "strange": "some total=x\n"} {
		file := filepath.Join(t.TempDir(), "io")
		if name != "absent" {
			os.WriteFile(file, []byte(content), 0o600)
		}
		synctest.Test(t, func(t *testing.T) {
			l := &Limit{courtesy: courtesy{file: file}}
			if got := took(t, l, 1, 1, time.Millisecond, 5*time.Second, nil); got < 4900 {
				t.Errorf("%s: %d reads of a millisecond in 5 s", name, got)
			}
		})
	}
}

func TestThisKernelsPressureIsUnderstood(t *testing.T) {
	if _, err := os.ReadFile("/proc/pressure/io"); err != nil {
		t.Skip(err)
	}
	if d, ok := waitedForDisk("/proc/pressure/io"); !ok || d < 0 {
		t.Errorf("waited %s, %v", d, ok)
	}
}
