package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How long an interrupted target may take. Mage exits with 1 five seconds after SIGINT, whatever runs; we
// end before that, to keep our exit code and to say what is left behind.
const (
	grace     = 4500 * time.Millisecond
	windUp    = 500 * time.Millisecond // before the end of grace: cleanups that heed their context stop
	lastWords = 300 * time.Millisecond // after it: to write the result, on a stdout that nobody may read
)

// interruption is the cause of a context that was ended from outside.
type interruption string

func (i interruption) Error() string        { return string(i) }
func (i interruption) Is(target error) bool { return target == context.Canceled }

// stopSignals ask a target to end. SIGINT is Ctrl-C: mage ends its context then, but only mage does.
// SIGTERM comes from systemd, timeout(1) and CI, SIGHUP from a terminal that was closed.
var stopSignals = map[os.Signal]interruption{
	syscall.SIGINT:  "interrupted by SIGINT",
	syscall.SIGTERM: "interrupted by SIGTERM",
	syscall.SIGHUP:  "interrupted by SIGHUP",
}

// listener ends the context of a target when someone outside asks for it.
type listener struct {
	t            *Target
	ctx          context.Context
	cancel       context.CancelCauseFunc
	stopCleanups context.CancelFunc
	signals      chan os.Signal
	pipe         chan os.Signal // never read
	mage         int            // process id of the mage that started us, or 0
	stop         chan struct{}
	stopped      chan struct{}

	first sync.Once
	cause interruption // of the first signal; known once named is closed
	named chan struct{}
	ints  int // how many SIGINT came
}

func (t *Target) listen(parent context.Context) *listener {
	l := &listener{t: t, signals: make(chan os.Signal, 8), pipe: make(chan os.Signal, 1), mage: parentMage(),
		stop: make(chan struct{}), stopped: make(chan struct{}), named: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancelCause(parent)
	t.cleanCtx, l.stopCleanups = context.WithCancel(context.WithoutCancel(parent))
	for s := range stopSignals {
		if !signal.Ignored(s) { // nohup ignores SIGHUP for us, a shell SIGINT for what it starts with &
			signal.Notify(l.signals, s)
		}
	}
	// Go dies of SIGPIPE when stdout is closed (`mage x | head`), cleaning nothing up, unless someone
	// asked for the signal. Ignoring it instead would be inherited by every command we start.
	signal.Notify(l.pipe, syscall.SIGPIPE)
	go l.loop()
	return l
}

// close gives the signals back and calls off the watchdog.
func (l *listener) close() {
	close(l.stop)
	<-l.stopped
	signal.Stop(l.signals)
	signal.Stop(l.pipe)
	l.cancel(nil)
	l.stopCleanups()
}

// judge says what the error of f is: after an interruption it is one, whatever it says. Ctrl-C also hits
// the commands that we run, and their failure may reach us a little before the signal does.
func (l *listener) judge(err error) error {
	if err == nil || isPanic(err) {
		return err
	}
	select {
	case <-l.ctx.Done():
		return &interruptedError{l.reason(), err}
	case <-time.After(20 * time.Millisecond):
		return err
	}
}

// reason says who ended the context. If mage did so, because of a signal, that signal reaches both of us,
// in any order.
func (l *listener) reason() error {
	cause := context.Cause(l.ctx)
	var ours interruption
	if errors.As(cause, &ours) {
		return ours
	}
	select {
	case <-l.named:
		return l.cause
	case <-time.After(50 * time.Millisecond):
	}
	if cause == context.Canceled {
		return interruption("interrupted")
	}
	return interruption("interrupted: " + cause.Error())
}

func (l *listener) loop() {
	defer close(l.stopped)
	poll := time.NewTicker(500 * time.Millisecond)
	defer poll.Stop()
	for l.ctx.Err() == nil {
		select {
		case <-l.stop:
			return
		case <-l.ctx.Done():
		case s := <-l.signals:
			l.heed(s)
		case <-poll.C:
			if l.mage != 0 && os.Getppid() != l.mage {
				l.cancel(interruption("interrupted: mage was ended"))
			}
		}
	}
	l.watch()
}

// heed ends the context, and remembers which signal came first.
func (l *listener) heed(s os.Signal) {
	if s == syscall.SIGINT {
		l.ints++
	}
	l.first.Do(func() { l.cause = stopSignals[s]; close(l.named) })
	l.cancel(stopSignals[s])
}

// watch waits for Main to end an interrupted target, and ends the process if that takes too long.
// A second SIGINT is impatience, as it is for mage. A second SIGTERM is not: timeout(1) sends one to its
// child and another to the whole process group.
func (l *listener) watch() {
	soft, hard := time.After(grace-windUp), time.After(grace)
	for {
		select {
		case <-l.stop:
			return
		case s := <-l.signals:
			if l.heed(s); l.ints > 1 {
				l.giveUp("at the second SIGINT")
				return
			}
		case <-soft:
			l.stopCleanups()
		case <-hard:
			l.giveUp("after " + Duration(grace))
			return
		}
	}
}

// giveUp ends the process, unless Main is already writing the result and manages to.
func (l *listener) giveUp(when string) {
	exit := time.AfterFunc(lastWords, func() { os.Exit(int(Interrupted)) })
	if l.t.ended.CompareAndSwap(false, true) {
		l.t.abandon(l.reason(), when)
		os.Exit(int(Interrupted))
	}
	<-l.stop
	exit.Stop()
}

// abandon says what is left behind and writes the result. The error goes first, to stderr and past the
// lock of the output, which a goroutine may hold that writes to a stdout nobody reads.
func (t *Target) abandon(reason error, when string) {
	t.out.over.Store(true)
	left, err := t.unfinished(when)
	failed := &failure{&Error{Code: Interrupted, Err: &interruptedError{reason, err}}}
	erase := ""
	if t.out.live {
		erase = "\r" + eraseRest
	}
	fmt.Fprintf(os.Stderr, "%sError: %v\n", erase, failed)
	for _, c := range left {
		t.Warn("left behind: %s", c.what)
	}
	if err := t.out.result(t.object(failed)); err != nil {
		fmt.Fprintf(os.Stderr, "writing the result: %v\n", err)
	}
}

// unfinished returns the cleanups that have not ended and an error that says what we did not wait for.
func (t *Target) unfinished(when string) (left []*cleanup, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left = slices.Clone(t.cleanups)
	err = fmt.Errorf("gave up %s", when)
	switch {
	case t.cleaning != nil:
		left = append(left, t.cleaning)
		err = fmt.Errorf("%w while cleaning up %s", err, t.cleaning.what)
	case t.running != nil:
		t.steps = append(t.steps, t.running.record())
		err = fmt.Errorf("%w in the step %q", err, t.running.name)
	}
	if t.failed != nil && !errors.Is(t.failed, context.Canceled) {
		err = fmt.Errorf("%w, after this: %w", err, t.failed)
	}
	slices.Reverse(left)
	return left, err
}

// parentMage returns the process id of our parent if that is mage, else 0. A signal that ends mage alone
// (as systemd, CI and kill send it) leaves the program that mage compiled, us, running with no one to
// report to. Any other parent may end: under nohup we go on.
func parentMage() int {
	ppid := os.Getppid()
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", ppid))
	if err != nil { // no /proc, as on macOS, where ps prints the whole path
		name, _ = exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(ppid)).Output()
	}
	if filepath.Base(strings.TrimSpace(string(name))) == "mage" {
		return ppid
	}
	return 0
}
