package deploy

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"rehearsal/internal/host"
	"rehearsal/internal/run"
)

// Put brings the agent for the host's platform to the host and returns its absolute path there. One that is there
// already is used if its sha256 is right and it runs, which takes one command; another case takes two.
//
// An error about the host (unknown platform, a folder that is noexec, full or not writable) has the code run.Unreachable,
// one about this machine, which has neither the agent nor what builds it, run.Usage.
func Put(ctx context.Context, h *host.Host) (string, error) {
	there, err := look(ctx, h)
	if err != nil {
		return "", err
	}
	arch, ok := platforms[there.platform]
	if !ok {
		return "", run.Fail(run.Unreachable, "keep the images on a host with Linux on x86_64 or aarch64",
			"the agent does not run on %s: uname -sm says %q", h.Name(), there.platform)
	}
	p, err := find(ctx, arch)
	if err != nil {
		return "", err
	}
	if !there.has(p) {
		err = there.send(ctx, h, p)
	}
	return h.State(p.name()), err
}

// platforms are what uname -sm calls those that the agent is built for, with Go's names.
var platforms = map[string]string{"Linux x86_64": "amd64", "Linux aarch64": "arm64"}

// remote is what the host has.
type remote struct {
	platform string // as uname -sm prints it
	packing  string // gzip, or plain where there is no gzip
	agents   []agent
}

// agent is one that lies on the host and runs there.
type agent struct {
	name, sum string // the sha256 in hex; "-" where the host has no sha256sum
	size      int
}

// probe says what the host is and what is in the folder $1. An agent is run only under the name that its content gives it.
const probe = `uname -sm || exit
command -v gzip >/dev/null && echo gzip || echo plain
for f in "$1"/agent-*; do
	[ -f "$f" ] || continue
	sum=-
	if command -v sha256sum >/dev/null; then
		sum=$(sha256sum <"$f" 2>/dev/null)
		sum=${sum%% *}
		[ "${f##*/}" = "agent-$(printf %.16s "$sum")" ] || continue
	fi
	"$f" -version >/dev/null 2>&1 </dev/null || continue
	echo "${f##*/}" "$sum" $(wc -c <"$f")
done`

// posix has the host's tools say in English that a disk is full: see host.ExitError.
var posix = map[string]string{"LC_ALL": "C"}

func look(ctx context.Context, h *host.Host) (*remote, error) {
	out, err := h.Output(ctx, host.Cmd{Script: probe, Args: []string{h.State()}, Env: posix})
	if err != nil {
		return nil, fail(h, "looking for the agent", err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) < 2 {
		return nil, run.Fail(run.Unreachable, "uname -sm there should print one line", "looking for the agent on %s: it says %q", h.Name(), out)
	}
	there := &remote{platform: lines[0], packing: lines[1]}
	for _, line := range lines[2:] {
		var a agent
		if _, err := fmt.Sscan(line, &a.name, &a.sum, &a.size); err == nil { // a name with a blank is not one of ours
			there.agents = append(there.agents, a)
		}
	}
	return there, nil
}

func (there *remote) has(p *program) bool {
	return slices.ContainsFunc(there.agents, func(a agent) bool {
		return a.name == p.name() && a.size == len(p.data) && (a.sum == p.sum || a.sum == "-")
	})
}

// install unpacks stdin to $3 by way of $2, both in the folder $1; $4 is its size and $5 its sha256, $6 how it is packed.
// What has the name $3 has run. Of the agents of other versions those go that were put there a day ago or earlier: somebody
// may be about to start a younger one. Status 126 is a shell's for a program that it may not execute.
const install = `umask 077
mkdir -p -- "$1" || exit
[ ! -d "$3" ] || { echo "$3 is a directory" >&2; exit 1; }
trap 'rm -f -- "$2"' EXIT
trap 'exit 1' HUP INT PIPE TERM
case $6 in
gzip) gzip -dc >"$2" ;;
*) cat >"$2" ;;
esac || exit
[ "$(wc -c <"$2")" -eq "$4" ] || { echo "not all of it arrived" >&2; exit 1; }
if command -v sha256sum >/dev/null; then
	sum=$(sha256sum <"$2") || exit
	[ "${sum%% *}" = "$5" ] || { echo "it arrived as another file, with the sha256 ${sum%% *}" >&2; exit 1; }
fi
chmod 700 "$2" || exit
"$2" -version >/dev/null </dev/null
status=$?
case $status in
0) ;;
126) exit 126 ;;
*) echo "agent -version ended with status $status" >&2; exit 125 ;;
esac
mv -f -- "$2" "$3" || exit
find "$1"/agent-* "$1"/.agent-*.partial -prune -type f -mtime +0 ! -name "${3##*/}" -exec rm -f -- {} + 2>/dev/null
exit 0`

func (there *remote) send(ctx context.Context, h *host.Host, p *program) error {
	data := p.data
	if there.packing == "gzip" {
		data = packed(data)
	}
	at, partial := h.State(p.name()), h.State(".agent-"+rand.Text()+".partial")
	args := []string{path.Dir(at), partial, at, strconv.Itoa(len(p.data)), p.sum, there.packing}
	if err := h.Run(ctx, host.Cmd{Script: install, Args: args, Env: posix, Stdin: bytes.NewReader(data)}); err != nil {
		return fail(h, "putting the agent there", err)
	}
	return nil
}

func packed(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(data) // a bytes.Buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// fail says what the end of one of the scripts means, and what to do about it.
func fail(h *host.Host, doing string, err error) error {
	var exit *host.ExitError
	if !errors.As(err, &exit) { // the host itself says what happened
		return fmt.Errorf("%s: %w", doing, err)
	}
	says := strings.TrimSpace(exit.Stderr)
	state := fmt.Sprintf("the `state` of %s in the inventory", h.Name())
	switch {
	case exit.DiskFull():
		return run.Fail(run.Unreachable, "make room there, or let "+state+" be a folder on another disk",
			"%s has no room for the agent in %s: %s", h.Name(), h.State(), says)
	case exit.Status == 126:
		return run.Fail(run.Unreachable, "let "+state+" be a folder on a file system without noexec",
			"%s does not run programs from %s: %s", h.Name(), h.State(), says)
	case exit.Status == 125:
		return run.Fail(run.Unreachable, "its kernel's log may say what ended it", "the agent does not run on %s: %s", h.Name(), says)
	}
	return run.Fail(run.Unreachable, "let "+state+" be a folder that we may write", "%s, in %s on %s: %s", doing, h.State(), h.Name(), says)
}
