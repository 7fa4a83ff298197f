package content

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Yield makes the whole process give way to all others: it computes when nobody else would, and reads when the disk is
// idle. It returns what could not be set, which is no reason to stop. There is no way back for an ordinary user.
//
// Where the disk has no I/O scheduler, as most NVMe disks, its idle class means nothing; see Limit.
func Yield() error {
	return errors.Join(yieldThreads(), yieldAutogroup())
}

// yieldThreads lowers every thread, since Linux has both settings for each: setpriority(2), ioprio_set(2). New threads inherit from
// the one that starts them, so that all are lowered once a look finds none that is new.
func yieldThreads() error {
	lowered := map[string]error{}
	for {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		before := len(lowered)
		for _, t := range threads {
			if _, ok := lowered[t.Name()]; !ok {
				lowered[t.Name()] = yieldThread(t.Name())
			}
		}
		if len(lowered) == before {
			break
		}
	}
	for _, err := range lowered {
		if err != nil {
			return err
		}
	}
	return nil
}

// From linux/ioprio.h.
const (
	ioprioWhoProcess = 1       // one thread, in fact
	ioprioIdle       = 3 << 13 // the class, above 13 bits of a level that this class does not have
)

func yieldThread(name string) error {
	tid, err := strconv.Atoi(name)
	if err != nil {
		return err
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, tid, 19); err != nil && err != unix.ESRCH {
		return fmt.Errorf("setting nice 19: %w", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(tid), ioprioIdle)
	if errno != 0 && errno != unix.ESRCH {
		return fmt.Errorf("setting the I/O class idle: %w", errno)
	}
	return nil
}

// yieldAutogroup is for kernels that share the cores between sessions before they look at nice, see sched(7): every command
// over SSH is a session of its own, and so is every service. It leaves a session alone that another process began.
func yieldAutogroup() error {
	const file = "/proc/self/autogroup"
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	if leader, err := unix.Getsid(0); err != nil || leader != os.Getpid() {
		return errors.New("setting nice 19 for the session: it is not ours")
	}
	if err := os.WriteFile(file, []byte("19"), 0); err != nil {
		return fmt.Errorf("setting nice 19 for the session: %w", err)
	}
	return nil
}
