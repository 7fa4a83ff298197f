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
func Put(ctx context.Context, h *host.Host) (string, error) { return agent.put(ctx, h) }

// PutLoader is Put for the loader.
func PutLoader(ctx context.Context, h *host.Host) (string, error) { return loader.put(ctx, h) }

func (s *source) put(ctx context.Context, h *host.Host) (string, error) {
	there, err := s.look(ctx, h)
	if err != nil {
		return "", err
	}
	arch, ok := platforms[there.platform]
	if !ok {
		return "", run.Fail(run.Unreachable, s.needs, "the %s does not run on %s: uname -sm says %q", s.name, h.Name(), there.platform)
	}
	p, err := s.find(ctx, arch)
	if err != nil {
		return "", err
	}
	if !there.has(p) {
		err = there.send(ctx, h, p)
	}
	return h.State(p.file()), err
}

// platforms are what uname -sm calls those that our programs are built for, with Go's names.
var platforms = map[string]string{"Linux x86_64": "amd64", "Linux aarch64": "arm64"}

// remote is what the host has.
type remote struct {
	platform string // as uname -sm prints it
	packing  string // gzip, or plain where there is no gzip
	programs []lying
}

// lying is a program that lies on the host and runs there.
type lying struct {
	name, sum string // the sha256 in hex; "-" where the host has no sha256sum
	size      int
}

// probe says what the host is and which programs called $2 are in the folder $1. One is run only under the name that its content gives it.
const probe = `uname -sm || exit
command -v gzip >/dev/null && echo gzip || echo plain
for f in "$1/$2"-*; do
	[ -f "$f" ] || continue
	sum=-
	if command -v sha256sum >/dev/null; then
		sum=$(sha256sum <"$f" 2>/dev/null)
		sum=${sum%% *}
		[ "${f##*/}" = "$2-$(printf %.16s "$sum")" ] || continue
	fi
	"$f" -version >/dev/null 2>&1 </dev/null || continue
	echo "${f##*/}" "$sum" $(wc -c <"$f")
done`

// posix has the host's tools say in English that a disk is full: see host.ExitError.
var posix = map[string]string{"LC_ALL": "C"}

func (s *source) look(ctx context.Context, h *host.Host) (*remote, error) {
	out, err := h.Output(ctx, host.Cmd{Script: probe, Args: []string{h.State(), s.name}, Env: posix})
	if err != nil {
		return nil, s.fail(h, "looking for the "+s.name, err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) < 2 {
		return nil, run.Fail(run.Unreachable, "uname -sm there should print one line", "looking for the %s on %s: it says %q", s.name, h.Name(), out)
	}
	there := &remote{platform: lines[0], packing: lines[1]}
	for _, line := range lines[2:] {
		var a lying
		if _, err := fmt.Sscan(line, &a.name, &a.sum, &a.size); err == nil { // a name with a blank is not one of ours
			there.programs = append(there.programs, a)
		}
	}
	return there, nil
}

func (there *remote) has(p *program) bool {
	return slices.ContainsFunc(there.programs, func(a lying) bool {
		return a.name == p.file() && a.size == len(p.data) && (a.sum == p.sum || a.sum == "-")
	})
}

// install unpacks stdin to $3 by way of $2, both in the folder $1; $4 is its size and $5 its sha256, $6 how it is packed,
// $7 what the files of its other versions begin with. What has the name $3 has run. Of those versions the ones go that were put there a day ago or earlier: somebody
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
*) echo "$7 -version ended with status $status" >&2; exit 125 ;;
esac
mv -f -- "$2" "$3" || exit
find "$1/$7"-* "$1/.$7"-*.partial -prune -type f -mtime +0 ! -name "${3##*/}" -exec rm -f -- {} + 2>/dev/null
exit 0`

func (there *remote) send(ctx context.Context, h *host.Host, p *program) error {
	data := p.data
	if there.packing == "gzip" {
		data = packed(data)
	}
	at, partial := h.State(p.file()), h.State("."+p.name+"-"+rand.Text()+".partial")
	args := []string{path.Dir(at), partial, at, strconv.Itoa(len(p.data)), p.sum, there.packing, p.name}
	if err := h.Run(ctx, host.Cmd{Script: install, Args: args, Env: posix, Stdin: bytes.NewReader(data)}); err != nil {
		return p.fail(h, "putting the "+p.name+" there", err)
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
func (s *source) fail(h *host.Host, doing string, err error) error {
	var exit *host.ExitError
	if !errors.As(err, &exit) { // the host itself says what happened
		return fmt.Errorf("%s: %w", doing, err)
	}
	says := strings.TrimSpace(exit.Stderr)
	state := fmt.Sprintf("the `state` of %s in the inventory", h.Name())
	switch {
	case exit.DiskFull():
		return run.Fail(run.Unreachable, "make room there, or let "+state+" be a folder on another disk",
			"%s has no room for the %s in %s: %s", h.Name(), s.name, h.State(), says)
	case exit.Status == 126:
		return run.Fail(run.Unreachable, "let "+state+" be a folder on a file system without noexec",
			"%s does not run programs from %s: %s", h.Name(), h.State(), says)
	case exit.Status == 125:
		return run.Fail(run.Unreachable, "its kernel's log may say what ended it", "the %s does not run on %s: %s", s.name, h.Name(), says)
	}
	return run.Fail(run.Unreachable, "let "+state+" be a folder that we may write", "%s, in %s on %s: %s", doing, h.State(), h.Name(), says)
}
