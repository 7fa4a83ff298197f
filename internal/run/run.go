package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// cleanupTimeout bounds each cleanup of a target that was not interrupted.
const cleanupTimeout = time.Minute

// Target is one running target. Its methods may be called from several goroutines, except Step.
type Target struct {
	name     string
	started  time.Time
	out      *output
	cleanCtx context.Context // of the cleanups: ends shortly before the grace of an interruption does
	ended    atomic.Bool     // set by the one who writes the result: Main, or the watchdog of an interruption

	mu       sync.Mutex // guards what follows; never held while writing
	steps    []stepRecord
	fields   []field
	warnings []string
	running  *Step // the step, or the progress of the cleanup, that runs now
	failed   error // what f returned, once it has
	cleanups []*cleanup
	cleaning *cleanup // the one that runs now
}

type cleanup struct {
	what string
	f    func(ctx context.Context) error
}

// Main runs the target NAME, which is f, and returns nil or an error whose Error() is all a person needs,
// the hint on a second line, and whose ExitStatus() is the exit code. A magefile must return that error
// as it is: mage prints it as "Error: …", and asks only the outermost error for its code.
//
// The context of f ends with ctx, on SIGINT, SIGTERM and SIGHUP, and when the mage that started us is
// gone. Whatever error f then returns is an interruption, code 130; nil stays success. What has not ended
// 4.5 s later is left behind: the process says what and exits 130, before mage would end it with 1.
// A panic of f is an error, code 1, with its stack on stderr. Cleanups run at every end.
func Main(ctx context.Context, name string, f func(ctx context.Context, t *Target) error) error {
	out, err := newOutput()
	if err != nil {
		return conclude(err)
	}
	Economise()
	t := &Target{name: name, started: time.Now(), out: out}
	l := t.listen(ctx)
	defer l.close()
	err = l.judge(t.guard(func() error { return f(l.ctx, t) }))
	t.cleanUp(err)
	return t.end(err)
}

// Economise has the garbage of a stream collected once it is worth it: by itself Go would do so for every few megabytes,
// as little else is held, which takes more processor time than reading them. In exchange memory has a limit. Main does it.
func Economise() {
	if isOurs() {
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(memory)
	}
}

// Allow raises that limit by what is held on purpose.
func Allow(bytes int64) {
	if isOurs() {
		debug.SetMemoryLimit(debug.SetMemoryLimit(-1) + bytes)
	}
}

// isOurs says whether nobody has told Go's runtime otherwise.
func isOurs() bool { return os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" }

// memory is where collecting becomes eager, in bytes. The program itself, of which Go takes no account, comes to 15 MB.
const memory = 110 << 20

// Printf prints text for people on stdout, and nothing in JSON mode. A missing final newline is added.
func (t *Target) Printf(format string, args ...any) {
	t.out.print(strings.TrimSuffix(fmt.Sprintf(format, args...), "\n") + "\n")
}

// Table prints rows in aligned columns on stdout, and nothing in JSON mode. The header may be nil.
func (t *Target) Table(header []string, rows [][]string) {
	if header != nil {
		rows = append([][]string{header}, rows...)
	}
	t.out.print(table(rows))
}

// Warn reports what does not stop the target but must not go unseen: a line of text, or in JSON mode an
// element of "warnings".
func (t *Target) Warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	t.mu.Lock()
	t.warnings = append(t.warnings, text)
	t.mu.Unlock()
	t.out.warn(text)
}

// Cleanup registers f to undo something when the target ends, however it ends; the last registered runs
// first. what names, in a noun phrase, the thing that stays behind if f fails: that is a warning and never
// changes the exit code. f gets a fresh context of one minute; after an interruption all cleanups together
// get what is left of 4.5 s. The returned done forgets f without running it.
func (t *Target) Cleanup(what string, f func(ctx context.Context) error) (done func()) {
	c := &cleanup{what, f}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, c)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.cleanups = slices.DeleteFunc(t.cleanups, func(other *cleanup) bool { return other == c })
	}
}

// cleanUp runs the cleanups, also those which cleanups register. err is what the target ended with.
func (t *Target) cleanUp(err error) {
	t.mu.Lock()
	t.failed = err
	t.mu.Unlock()
	for c := t.nextCleanup(); c != nil; c = t.nextCleanup() {
		ctx, cancel := context.WithTimeout(t.cleanCtx, cleanupTimeout)
		leave := t.enter(newStep("clean up: " + c.what))
		err := t.guard(func() error { return c.f(ctx) })
		leave()
		cancel()
		if err != nil {
			t.Warn("left behind: %s: %s", c.what, withHint(err.Error(), HintOf(err)))
		}
	}
}

func (t *Target) nextCleanup() *cleanup {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleaning = nil
	if n := len(t.cleanups); n > 0 {
		t.cleaning, t.cleanups = t.cleanups[n-1], t.cleanups[:n-1]
	}
	return t.cleaning
}

// end writes the result and returns what Main returns.
func (t *Target) end(err error) error {
	if !t.ended.CompareAndSwap(false, true) {
		select {} // the watchdog writes the result and exits
	}
	failed := conclude(err)
	lost := t.out.result(t.object(failed))
	switch {
	case lost != nil && failed != nil:
		t.out.note(fmt.Sprintf("writing the result: %v", lost))
	case lost != nil:
		failed = conclude(Fail(Unexpected, "the target itself succeeded: see its effects before running it again",
			"writing the result: %w", lost))
	}
	if failed == nil {
		return nil // a nil *failure would not be a nil error
	}
	return failed
}

// guard calls f and turns a panic into an error. The stack goes to stderr here: mage would lose it.
func (t *Target) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.out.note(fmt.Sprintf("panic: %v\n\n%s", p, debug.Stack()))
			err = &panicError{p}
		}
	}()
	return f()
}

type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }
func (e *panicError) Unwrap() error { err, _ := e.value.(error); return err }

func isPanic(err error) bool {
	var p *panicError
	return errors.As(err, &p)
}
