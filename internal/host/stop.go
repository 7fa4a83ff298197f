package host

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// endGroup ends the process group $1: SIGTERM, and SIGKILL for what is left of it a good second later. A zombie
// does not count: some containers have an init that is late to bury it, or none. Where ps does not know these
// options, it does count. ps is asked late, because a busy host is slow to answer it. Not every sleep knows
// fractions.
const endGroup = `left() {
	kill -0 "-$group" 2>/dev/null || return
	[ "$1" = soon ] || ps -A -o pgid= -o stat= 2>/dev/null |
		awk -v g="$group" '$1 == g && $2 !~ /^Z/ { n++ } END { exit !(n || !NR) }'
}
wait_for() {
	when=$1
	shift
	for pause; do
		sleep $pause 2>/dev/null || sleep 1
		left $when || exit 0
	done
}
group=$1
kill -TERM "-$group" 2>/dev/null || exit 0
wait_for soon 0.02 0.05 0.1 0.2
wait_for late 0.3 0.5
kill -KILL "-$group" 2>/dev/null
wait_for soon 0.02 0.05
wait_for late 0.1 0.3
exit 1`

func endGroupLine(pid int) string {
	return forLoginShell("set -- " + strconv.Itoa(pid) + "\n" + endGroup)
}

// stopping is how long ending a command may take: the grace of endGroup, and two round trips.
var stopping = 4 * time.Second

// stop ends the command's process group and returns why, wrapped. It does so from a second session, because sshd
// passes the signals of the first on only for some users and to some commands. A command that cannot be ended
// takes the connection with it, so that no reader or writer of the caller stays in use.
func (p *process) stop(done <-chan error, why error) error {
	why = fmt.Errorf("%s on %s: %w", p.cmd, p.host.spec.Name, why)
	ctx, cancel := context.WithTimeout(context.Background(), stopping)
	defer cancel()
	select {
	case <-done: // it ended by itself meanwhile
		return why
	case pid := <-p.pid:
		if p.host.kill(ctx, pid) == nil && within(ctx, done) {
			return why
		}
	case <-ctx.Done():
	}
	p.conn.drop(p.host.errClosed())
	last, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	within(last, done)
	return fmt.Errorf("%w (it may still run there)", why)
}

func within(ctx context.Context, done <-chan error) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// kill ends a process group and returns when it is gone.
func (h *Host) kill(ctx context.Context, pid int) error {
	s, c, err := h.session(ctx)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		defer h.release(c)
		defer s.Close()
		ended <- s.Run(endGroupLine(pid))
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
