package deploy

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"rehearsal/internal/host"
)

// Agent is the agent on a host, which is supposed to be there, as it is in every run but the first. To look for it first
// would cost a round trip; where it turns out not to be there, Put brings it. It is safe for concurrent use.
type Agent struct {
	host *host.Host

	mu    sync.Mutex
	start host.Cmd
	put   bool
}

// Expect returns the agent on a host, of those that this machine has.
func Expect(h *host.Host, ready Ready) *Agent {
	args := []string{h.State()}
	for platform, p := range ready {
		args = append(args, platform, p.file(), strconv.Itoa(len(p.data)), p.sum)
	}
	return &Agent{host: h, start: host.Cmd{Script: begin, Args: args, Env: posix}}
}

// begin becomes the agent in the folder $1, of which the arguments that follow say for each platform its name, size and
// sha256. Nothing is run that is not as large and has not that sum. Status 127 is a shell's for a program that is
// not there, 126 for one that it may not execute; the agent itself never ends with either. All leave stdin to it.
const begin = `folder=$1
platform=$(uname -sm)
shift
while [ "$1" != "$platform" ]; do
	[ $# -gt 4 ] || exit 127
	shift 4
done
agent=$folder/$2
[ -f "$agent" ] || exit 127
if command -v sha256sum >/dev/null; then
	sum=$(sha256sum <"$agent" 2>/dev/null)
	[ "${sum%% *}" = "$4" ] || exit 127
else
	[ "$(wc -c <"$agent")" -eq "$3" ] && "$agent" -version >/dev/null 2>&1 </dev/null || exit 127
fi
exec "$agent"`

// Cmd starts the agent. It needs a Stdin and a Stdout.
func (a *Agent) Cmd() host.Cmd {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.start
}

// Missing tells whether an error of Cmd is that the agent is not there, not as it was put there, or may not be executed.
// Then Put brings it, or knows why it cannot.
func (a *Agent) Missing(err error) bool {
	var exit *host.ExitError
	return errors.As(err, &exit) && (exit.Status == 126 || exit.Status == 127)
}

// Put sees to it that the agent is there, once, whoever else asks for it, with the errors of the function Put.
func (a *Agent) Put(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.put {
		return nil
	}
	at, err := Put(ctx, a.host)
	if err == nil {
		a.start, a.put = host.Cmd{Args: []string{at}}, true
	}
	return err
}
