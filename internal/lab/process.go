package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// runsIn reports whether the process lives and its command line names folder: the lab signals nothing else.
func runsIn(pid int, folder string) bool {
	if pid <= 1 {
		return false
	}
	line, err := exec.Command("ps", "-ww", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(line), folder)
}

// process is a process as ps shows it. Its number may be another's later, number and start never are.
type process struct {
	pid, parent int
	started     string
	args        string
}

func processes(ctx context.Context) ([]process, error) {
	out, err := exec.CommandContext(ctx, "ps", "-A", "-ww", "-o", "pid=,ppid=,lstart=,args=").Output()
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var all []process
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line) // lstart has five: Mon Nov 23 03:43:22 2026
		if len(f) < 8 {
			continue
		}
		pid, _ := strconv.Atoi(f[0])
		parent, _ := strconv.Atoi(f[1])
		all = append(all, process{pid, parent, strings.Join(f[2:7], " "), strings.Join(f[7:], " ")})
	}
	return all, nil
}

// processesIn lists the processes whose command line names folder, but neither this one nor those above it.
func processesIn(ctx context.Context, folder string) ([]process, error) {
	all, err := processes(ctx)
	above := []int{os.Getpid()}
	for i := 0; i < len(above); i++ {
		for _, p := range all {
			if p.pid == above[i] && !slices.Contains(above, p.parent) {
				above = append(above, p.parent)
			}
		}
	}
	return slices.DeleteFunc(all, func(p process) bool {
		return !strings.Contains(p.args, folder) || slices.Contains(above, p.pid)
	}), err
}

// descendants lists the processes that roots started, directly or not: connections of sshd and the commands
// they run.
func descendants(ctx context.Context, roots ...int) ([]process, error) {
	all, err := processes(ctx)
	var found []process
	for queue := slices.Clone(roots); len(queue) > 0; queue = queue[1:] {
		for _, p := range all {
			if p.parent == queue[0] {
				found = append(found, p)
				queue = append(queue, p.pid)
			}
		}
	}
	return found, err
}

// signal signals the process if it is still the same one, and reports whether it is.
func (p process) signal(ctx context.Context, s syscall.Signal) bool {
	out, err := exec.CommandContext(ctx, "ps", "-o", "stat=,lstart=", "-p", strconv.Itoa(p.pid)).Output()
	state, started, _ := strings.Cut(strings.Join(strings.Fields(string(out)), " "), " ")
	if err != nil || started != p.started || strings.HasPrefix(state, "Z") { // a zombie has ended
		return false
	}
	return syscall.Kill(p.pid, s) == nil
}
