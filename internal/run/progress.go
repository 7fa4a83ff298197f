package run

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/fatih/color"
)

// The pace of progress. On a terminal the line is rewritten five times a second: often enough to look
// alive, seldom enough to cost nothing. A log gets a line now and then that shows the run is not stuck.
const drawEvery = 200 * time.Millisecond

var noteEvery = 30 * time.Second // a variable for the tests, which cannot wait

// enter shows the progress of s until leave is called.
func (t *Target) enter(s *Step) (leave func()) {
	t.mu.Lock()
	t.running = s
	t.mu.Unlock()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		t.follow(s, stop)
	}()
	return func() {
		close(stop)
		<-stopped
		t.mu.Lock()
		t.running = nil
		t.mu.Unlock()
	}
}

func (t *Target) follow(s *Step, stop <-chan struct{}) {
	every, show := noteEvery, t.out.note
	if t.out.live {
		every, show = drawEvery, t.out.draw
		defer t.out.erase()
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			st := s.status()
			st.rate, st.measured = s.meter.rate(now, st.bytes)
			show(st.running())
		}
	}
}

// status is what the line of a step says.
type status struct {
	name            string
	elapsed         time.Duration
	bytes, expected int64
	rate            float64       // bytes per second of late
	measured        time.Duration // the time over which rate was measured
	count, detail   string
}

// running is the line of a step that goes on:
//
//	load tables   5.0 s   120 MB of 300 MB (40%)   24.0 MB/s   7.5 s left   tables 12/40
func (s status) running() string {
	parts := []string{s.name, Duration(s.elapsed)}
	switch {
	case s.expected > 0 && s.bytes <= s.expected:
		share := int(100 * float64(s.bytes) / float64(s.expected))
		parts = append(parts, fmt.Sprintf("%s of %s (%d%%)", Bytes(s.bytes), Bytes(s.expected), share))
	case s.bytes > 0: // no estimate, or one that has proven wrong
		parts = append(parts, Bytes(s.bytes))
	}
	if s.measured > 0 {
		parts = append(parts, perSecond(s.rate))
	}
	if left, ok := s.left(); ok {
		parts = append(parts, Duration(left)+" left")
	}
	return s.join(parts)
}

// finished is the line of a step that has ended:
//
//	✓ load tables                    12.3 s   300 MB   24.4 MB/s   tables 40/40
func (s status) finished(ok bool) string {
	mark := color.GreenString("✓")
	if !ok {
		mark = color.RedString("✗")
	}
	parts := []string{fmt.Sprintf("%s %-26s %10s", mark, oneLine(s.name), Duration(s.elapsed))}
	if s.bytes > 0 {
		parts = append(parts, Bytes(s.bytes))
	}
	if s.bytes > 0 && s.elapsed > 0 {
		parts = append(parts, perSecond(float64(s.bytes)/s.elapsed.Seconds()))
	}
	return s.join(parts)
}

func (s status) join(parts []string) string {
	for _, more := range []string{s.count, s.detail} {
		if more != "" {
			parts = append(parts, more)
		}
	}
	return oneLine(strings.Join(parts, "   "))
}

// left estimates the time until all bytes are there, once two seconds of data give something to go by.
func (s status) left() (time.Duration, bool) {
	rest := float64(s.expected - s.bytes)
	if s.measured < 2*time.Second || rest <= 0 || s.rate <= 0 {
		return 0, false
	}
	return time.Duration(min(rest/s.rate*float64(time.Second), math.MaxInt64/2)), true
}

// meter measures the rate of late, because an average since the beginning hides a transfer that stalls.
// Its samples reach back ten seconds or one more sample, but not beyond the first byte.
type meter []sample

type sample struct {
	at    time.Time
	bytes int64
}

// rate adds a sample and returns bytes per second and the time over which they were measured.
func (m *meter) rate(now time.Time, bytes int64) (perSecond float64, measured time.Duration) {
	if bytes == 0 {
		*m = meter{{now, 0}}
		return 0, 0
	}
	*m = append(*m, sample{now, bytes})
	for len(*m) > 2 && now.Sub((*m)[1].at) >= 10*time.Second {
		*m = (*m)[1:]
	}
	measured = now.Sub((*m)[0].at)
	if measured <= 0 {
		return 0, 0
	}
	return float64(bytes-(*m)[0].bytes) / measured.Seconds(), measured
}
