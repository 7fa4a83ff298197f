package run

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Step runs f as a named, timed part of the target and prints one line when it ends, failed or not.
// It returns f's error as it is: Main's error is printed once, at the end. On a context that has already
// ended it returns the cause of that and does not begin. Steps come one after the other; the goroutines
// of one step share its *Step.
func (t *Target) Step(ctx context.Context, name string, f func(ctx context.Context, s *Step) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s := newStep(name)
	leave := t.enter(s)
	ok := false
	defer func() { // also when f panics
		leave()
		t.finish(s, ok)
	}()
	err := f(ctx, s)
	ok = err == nil
	return err
}

// Part is a step to come.
type Part struct {
	name string
	do   func(ctx context.Context, s *Step) error
}

// Named makes a part.
func Named(name string, do func(ctx context.Context, s *Step) error) Part { return Part{name, do} }

// Steps runs parts one after the other as steps, up to the first that fails.
func (t *Target) Steps(ctx context.Context, parts ...Part) error {
	for _, p := range parts {
		if err := t.Step(ctx, p.name, p.do); err != nil {
			return err
		}
	}
	return nil
}

// Step is a running step. Its methods feed the progress that people see and are safe for concurrent use.
type Step struct {
	name     string
	started  time.Time
	bytes    atomic.Int64
	expected atomic.Int64
	meter    meter // belongs to the goroutine that shows the progress

	mu     sync.Mutex
	count  string
	detail string
}

func newStep(name string) *Step {
	now := time.Now()
	return &Step{name: name, started: now, meter: meter{{now, 0}}}
}

// Expect sets the number of bytes that Add will sum up to, for the share done and the time left.
func (s *Step) Expect(bytes int64) { s.expected.Store(bytes) }

// Add counts bytes as done.
func (s *Step) Add(bytes int64) { s.bytes.Add(bytes) }

// Bytes is what Add has counted.
func (s *Step) Bytes() int64 { return s.bytes.Load() }

// Count says how many things of a kind are done, shown as "tables 12/40".
func (s *Step) Count(done, total int, unit string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count = fmt.Sprintf("%s %d/%d", unit, done, total)
}

// Detail sets a few words for the end of the step's line.
func (s *Step) Detail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detail = fmt.Sprintf(format, args...)
}

func (s *Step) status() status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return status{name: s.name, elapsed: time.Since(s.started), bytes: s.bytes.Load(),
		expected: s.expected.Load(), count: s.count, detail: s.detail}
}

func (s *Step) record() stepRecord {
	return stepRecord{s.name, seconds(time.Since(s.started)), s.bytes.Load()}
}

// finish records a step that has ended and prints its line.
func (t *Target) finish(s *Step, ok bool) {
	t.mu.Lock()
	t.steps = append(t.steps, s.record())
	t.mu.Unlock()
	t.out.print(s.status().finished(ok) + "\n")
}
