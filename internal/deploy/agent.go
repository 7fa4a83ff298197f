package deploy

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"

	"rehearsal/internal/host"
)

// Agent is the agent on a host, which is supposed to be there, as it is in every run but the first. To look for it first
// would cost a round trip; where it turns out not to be there, Put brings it. It is safe for concurrent use.
type Agent struct {
	host *host.Host

	ready Ready

	mu    sync.Mutex
	start host.Cmd
	there *remote // what a start without the agent has told of the host
	put   bool
}

// Expect returns the agent on a host, of those that this machine has.
func Expect(h *host.Host, ready Ready) *Agent {
	args := []string{h.State()}
	for platform, p := range ready {
		args = append(args, platform, p.file(), strconv.Itoa(len(p.data)), p.sum)
	}
	return &Agent{host: h, ready: ready, start: host.Cmd{Script: begin, Args: args, Env: posix}}
}

// begin becomes the agent in the folder $1, of which the arguments that follow say for each platform its name, size and
// sha256. Nothing is run that is not as large and has not that sum. Status 127 is a shell's for a program that is
// not there, 126 for one that it may not execute; the agent itself never ends with either. All leave stdin to it. Who has
// to bring the agent needs to know the platform, and how it can be packed.
const begin = `folder=$1
platform=$(uname -sm)
shift
missing() {
	packing=plain
	command -v gzip >/dev/null && packing=gzip
	printf '\n%s\n%s\n' "$platform" "$packing" >&2
	exit 127
}
while [ "$1" != "$platform" ]; do
	[ $# -gt 4 ] || missing
	shift 4
done
agent=$folder/$2
[ -f "$agent" ] || missing
if command -v sha256sum >/dev/null; then
	sum=$(sha256sum <"$agent" 2>/dev/null)
	[ "${sum%% *}" = "$4" ] || missing
else
	[ "$(wc -c <"$agent")" -eq "$3" ] && "$agent" -version >/dev/null 2>&1 </dev/null || missing
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
	if !errors.As(err, &exit) || exit.Status != 126 && exit.Status != 127 {
		return false
	}
	said := strings.Split(strings.TrimSpace(exit.Stderr), "\n")
	if n := len(said); exit.Status == 127 && n >= 2 && a.ready[said[n-2]] != nil {
		a.mu.Lock()
		a.there = &remote{platform: said[n-2], packing: said[n-1]}
		a.mu.Unlock()
	}
	return true
}

// Put sees to it that the agent is there, once, whoever else asks for it, with the errors of the function Put.
func (a *Agent) Put(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.put {
		return nil
	}
	at, err := a.bring(ctx)
	if err == nil {
		a.start, a.put = host.Cmd{Args: []string{at}}, true
	}
	return err
}

// bring is the function Put, which has nothing to ask where a start has told it all.
func (a *Agent) bring(ctx context.Context) (string, error) {
	if a.there == nil {
		return Put(ctx, a.host)
	}
	p := a.ready[a.there.platform]
	return a.host.State(p.file()), a.there.send(ctx, a.host, p)
}
