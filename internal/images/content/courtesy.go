package content

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// courtesy tells our readers when to pause because others wait for the disk.
//
// The kernel counts the time in which any task waited for I/O, ours included, and readers like ours wait most of the time.
// So where there was much waiting, courtesy makes our readers silent for a moment and listens: what is counted then is
// the others'. Alone on a busy disk that costs a fifteenth of the time. Where the others wait, our readers have the disk for a fifth
// of the time, and never less: some databases always wait, and a run has to end.
//
// See Documentation/accounting/psi.rst in the kernel's source. Linux before 4.20, or booted with psi=0, counts nothing:
// then nobody pauses.
type courtesy struct {
	file    string // /proc/pressure/io
	phase   phase
	until   time.Time     // the end of the phase
	began   time.Time     // its beginning
	waited  time.Duration // the kernel's count at its beginning
	waiting bool          // others waited when we last listened
}

type phase byte

const (
	reading   phase = iota
	draining        // no reads are begun, those under way end
	listening       // none of our reads is under way
)

// The share of time that is much waiting. A commit of some file system now and then is not.
const muchWaiting = 0.25

// How long the phases last; reading and listening also while others wait.
const (
	readFor       = 2 * time.Second
	readForOthers = 250 * time.Millisecond
	drainFor      = 50 * time.Millisecond
	listenFor     = 100 * time.Millisecond
	leaveFor      = time.Second
)

// hold tells how long to pause, and is asked again afterwards; 0 is not at all.
func (c *courtesy) hold(now time.Time) time.Duration {
	if !now.Before(c.until) {
		c.next(now)
	}
	if c.phase == reading {
		return 0
	}
	return c.until.Sub(now)
}

// next begins the phase after this one.
func (c *courtesy) next(now time.Time) {
	waited, ok := waitedForDisk(c.file)
	much := ok && float64(waited-c.waited) >= muchWaiting*float64(now.Sub(c.began))
	c.began, c.waited = now, waited
	switch {
	case c.phase == draining && c.waiting:
		c.phase, c.until = listening, now.Add(leaveFor)
	case c.phase == draining:
		c.phase, c.until = listening, now.Add(listenFor)
	case c.phase == listening && much:
		c.phase, c.until, c.waiting = reading, now.Add(readForOthers), true
	case c.phase == reading && much:
		c.phase, c.until = draining, now.Add(drainFor)
	default:
		c.phase, c.until, c.waiting = reading, now.Add(readFor), false
	}
}

// waitedForDisk is how long some task, at least one, has been waiting for I/O since the system started.
func waitedForDisk(file string) (time.Duration, bool) {
	data, err := os.ReadFile(file) // "some avg10=0.00 avg60=0.10 avg300=0.04 total=239637799\nfull …", total in microseconds
	if err != nil {
		return 0, false
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	_, total, ok := bytes.Cut(line, []byte(" total="))
	n, err := strconv.ParseInt(string(total), 10, 64)
	return time.Duration(n) * time.Microsecond, ok && err == nil && bytes.HasPrefix(line, []byte("some "))
}
