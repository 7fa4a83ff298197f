package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rehearsal/internal/lab"
)

// sample is one run of one contender.
type sample struct {
	seconds map[string]float64 // by figure
	steps   []step             // of a target of ours
	found   string             // what a contender says of two trees
	cuts    int                // of the line to the backup host
	line    int64              // bytes that went over it
	size    int64              // of the database that it made
	wal     int64              // written on staging
	rss     int64              // peak memory of the runner, 0 where a contender has none

	// Who used the processors. On a shared machine these compare better than seconds do.
	server time.Duration // PostgreSQL on staging
	hosts  time.Duration // sshd and what it starts on staging and backup: psql, zstd, the loader; the line between
	client time.Duration // the process that we started
	others time.Duration // everybody else on this machine
	shared float64       // others, as a part of what all processors could do meanwhile
}

// tried gives the figures the names that they have in a trial.
func (s *sample) tried(trial string) {
	seconds := map[string]float64{}
	for what, took := range s.seconds {
		seconds[at(trial, what)] = took
	}
	s.seconds = seconds
}

// usage is what a command took.
type usage struct {
	wall, cpu time.Duration // cpu with the processes that it started and waited for
	rss       int64
}

// finish runs a command to its end and returns its stdout; the end of its stderr is in the error.
//
// The peak memory of a process includes what it shared with us between clone and exec (Linux counts the memory that an
// exec replaces), so it is never less than ours.
func finish(cmd *exec.Cmd) ([]byte, usage, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	u := usage{wall: time.Since(began)}
	if p := cmd.ProcessState; p != nil {
		u.cpu = p.UserTime() + p.SystemTime()
		u.rss = p.SysUsage().(*syscall.Rusage).Maxrss * 1024 // kB, getrusage(2)
	}
	if err != nil {
		text := bytes.TrimSpace(stderr.Bytes())
		err = fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, text[max(0, len(text)-2048):])
	}
	return stdout.Bytes(), u, err
}

// reading is the state of the meters at one moment.
type reading struct {
	at                     time.Time
	wal, line              int64
	server, hosts, machine time.Duration // of processors, since boot or start
}

// readProcessors reads what everybody has used: a server of ours, the processes of hosts, the machine.
func readProcessors(server int, hosts []int) (r reading, err error) {
	all, err := processTimes()
	if err != nil {
		return r, err
	}
	if server != 0 {
		r.server = all.tree(server)
	}
	for _, pid := range hosts {
		r.hosts += all.tree(pid)
	}
	r.machine, err = machineTime()
	r.at = time.Now()
	return r, err
}

func pids(sshds []*lab.SSHD) (pids []int) {
	for _, s := range sshds {
		pids = append(pids, s.PID)
	}
	return pids
}

// spend notes what was used between two readings.
func (s *sample) spend(before, after reading) {
	s.wal, s.line = after.wal-before.wal, after.line-before.line
	s.server, s.hosts = after.server-before.server, after.hosts-before.hosts
	s.others = max(0, after.machine-before.machine-s.server-s.hosts-s.client)
	s.shared = s.others.Seconds() / after.at.Sub(before.at).Seconds() / float64(runtime.NumCPU())
}

// tick is the unit of /proc/PID/stat and /proc/stat: Linux shows USER_HZ, which is 100 on every architecture that Go
// runs on.
const tick = time.Second / 100

// times are the processor times of all processes, each with those of its children that it waited for: what a process
// used moves to its parent when it ends, so the sum over a tree loses nothing.
type times map[int]struct {
	parent int
	used   time.Duration
}

// processTimes reads /proc, which only Linux has.
func processTimes() (times, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err == nil && len(stats) == 0 {
		err = errors.New("there is no /proc/PID/stat: the benchmark runs on Linux")
	}
	all := times{}
	for _, path := range stats {
		text, readErr := os.ReadFile(path)
		if readErr != nil {
			continue // it has ended since
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		// proc(5): the name in parentheses may hold anything. Behind it: state, ppid, then utime, stime, cutime, cstime
		// as fields 14 to 17 of the line.
		f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		p := all[pid]
		p.parent, _ = strconv.Atoi(f[1])
		for _, field := range f[11:15] {
			n, _ := strconv.ParseInt(field, 10, 64)
			p.used += time.Duration(n) * tick
		}
		all[pid] = p
	}
	return all, err
}

// tree is what a process and those below it have used.
func (all times) tree(root int) time.Duration {
	sum := all[root].used
	for pid, p := range all {
		if p.parent == root {
			sum += all.tree(pid)
		}
	}
	return sum
}

// machineTime is how long all processors together have been busy, also with what a hypervisor took away.
func machineTime() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var sum int64
	for i, field := range strings.Fields(line)[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading /proc/stat: %w", err)
		}
		if i != 3 && i != 4 {
			sum += n
		}
	}
	return time.Duration(sum) * tick, nil
}
