package content

import (
	"context"
	"sync"
	"time"
)

// Limit is how much the readers of a process may read together, and when.
//
// It bounds the bytes per second, and pauses the readers while other programs wait for the disk. A Reader without a
// Limit does neither.
type Limit struct {
	mu       sync.Mutex
	rate     int64     // bytes per second, 0 for as many as the disk gives
	paid     time.Time // when what was taken so far has been paid for with time
	courtesy courtesy
}

// NewLimit allows so many bytes per second; 0 sets no bound, and still gives way to others.
func NewLimit(bytesPerSecond int64) *Limit {
	return &Limit{rate: bytesPerSecond, courtesy: courtesy{file: "/proc/pressure/io"}}
}

// credit is how much time a reader may make up for that it spent otherwise, on opening files say. It bounds the bytes
// above the limit in any one second to a twentieth.
const credit = 50 * time.Millisecond

// take waits until n bytes may be read. It fails when ctx ends, only.
func (l *Limit) take(ctx context.Context, n int) error {
	if l == nil {
		return ctx.Err()
	}
	if err := sleep(ctx, l.pay(n)); err != nil {
		return err
	}
	for {
		wait := l.hold()
		if err := sleep(ctx, wait); wait <= 0 || err != nil {
			return err
		}
	}
}

// pay tells how long to wait for n bytes. Whoever comes meanwhile waits for these too.
func (l *Limit) pay(n int) time.Duration {
	if l.rate <= 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if oldest := now.Add(-credit); l.paid.Before(oldest) {
		l.paid = oldest
	}
	l.paid = l.paid.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	return l.paid.Sub(now)
}

func (l *Limit) hold() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.courtesy.hold(time.Now())
}

// sleep is time.Sleep that ends with ctx, and then fails.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
