package doctor

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// patience is for all answers of a host that lets us in: a disk that hangs must not hang the doctor.
const patience = 30 * time.Second

// machine is one host and what was learned of it.
type machine struct {
	spec    *inventory.Host
	roles   []place
	refused error // of dialling
	clock   fact[clock]
}

// place is what a host is to a database.
type place struct {
	*subject
	role inventory.Role
}

func (m *machine) sees(s *subject, role inventory.Role) { m.roles = append(m.roles, place{s, role}) }

// look dials the host and asks it everything at once.
func (m *machine) look(ctx context.Context) {
	h, err := host.Dial(ctx, m.spec)
	if err != nil {
		m.refused = err
		return
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	looks := []func(){func() { m.clock.learn(readClock(ctx, h)) }}
	for _, p := range m.roles {
		looks = append(looks, func() { p.look(ctx, h) })
	}
	together(looks...)
}

func (p place) look(ctx context.Context, h *host.Host) {
	switch p.role {
	case inventory.Production:
		p.production.look(ctx, h, p.Database)
	case inventory.Backup:
		p.backups.look(ctx, h, p.Database)
	case inventory.Staging:
		p.staging.look(ctx, h, p.Database)
	}
}

func (m *machine) judge(r *report, now time.Time) {
	if m.refused != nil {
		r.error("reachable", m.refused)
		r.unchecked("everything else", "", "not reached")
		return
	}
	m.judgeClock(r)
	for _, p := range m.roles {
		r.prefix = p.prefix
		switch p.role {
		case inventory.Production:
			p.judgeProduction(r)
		case inventory.Backup:
			p.judgeBackups(r, now)
		case inventory.Staging:
			p.judgeStaging(r)
		}
	}
}

// A backup that is ten minutes from the future is refused (archive.Choose); a clock that is well kept is within a second.
const (
	clockDrifts = 10 * time.Second
	clockWrong  = 10 * time.Minute
)

func (m *machine) judgeClock(r *report) {
	key := "known_hosts has it"
	if m.spec.HostKey != "" {
		key = "pinned in the inventory"
	}
	if !m.clock.known() {
		r.ok("reachable", "logged in")
		r.ok("host key", "%s", key)
		r.error("clock", m.clock.err)
		return
	}
	c := m.clock.is
	r.ok("reachable", "%s a round trip", run.Duration(c.trip))
	r.ok("host key", "%s", key)
	const hint = "set the clock of the one that is wrong, by NTP as a rule: timedatectl status"
	switch off := c.ahead.Abs(); {
	case off > clockWrong:
		r.fail(run.Unfit, "clock", hint, "%s; a backup from the future is refused", c)
	case off > clockDrifts:
		r.warn("clock", hint, "%s", c)
	case off < time.Second:
		r.ok("clock", "within a second of this machine's")
	default:
		r.ok("clock", "%s", c)
	}
}

// clock is a host's clock as seen from here.
type clock struct {
	ahead time.Duration // of this machine's; negative: behind
	trip  time.Duration // the quickest round trip
}

func (c clock) String() string {
	if c.ahead < 0 {
		return run.Duration(-c.ahead) + " behind this machine's"
	}
	return run.Duration(c.ahead) + " ahead of this machine's"
}

// readClock asks for the time over a session that is already open, so that one answer takes one round trip. The second
// answer counts as a rule: the first waits for the shell to start.
func readClock(ctx context.Context, h *host.Host) (best clock, err error) {
	stdin, question := io.Pipe()
	answer, stdout := io.Pipe()
	defer question.Close()
	defer answer.Close()
	ended := make(chan error, 1)
	go func() {
		// A date without %N prints it as it is.
		err := h.Run(ctx, host.Cmd{Script: `while read -r line; do date +%s.%N || exit; done`, Stdin: stdin, Stdout: stdout})
		stdin.CloseWithError(io.ErrClosedPipe)
		stdout.CloseWithError(cmp.Or(err, io.EOF))
		ended <- err
	}()
	lines := bufio.NewReader(answer)
	for range 2 {
		if _, err := io.WriteString(question, "\n"); err != nil { // returns when it is on its way
			return best, fmt.Errorf("asking %s for the time: %w", h.Name(), cmp.Or(<-ended, err))
		}
		sent := time.Now()
		line, err := lines.ReadString('\n')
		if err != nil {
			return best, fmt.Errorf("asking %s for the time: %w", h.Name(), err)
		}
		trip := time.Since(sent)
		at, err := parseTime(strings.TrimSpace(line))
		if err != nil {
			return best, fmt.Errorf("asking %s for the time: %w", h.Name(), err)
		}
		if best.trip == 0 || trip < best.trip {
			best = clock{ahead: at.Sub(sent.Add(trip / 2)), trip: trip}
		}
	}
	return best, nil
}

// parseTime reads seconds since 1970 with or without a fraction; without one it is half a second more, on average.
func parseTime(text string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("date answers %q", text)
	}
	nanoseconds := int64(time.Second / 2)
	if len(fraction) == 9 {
		if n, err := strconv.ParseInt(fraction, 10, 64); err == nil {
			nanoseconds = n
		}
	}
	return time.Unix(seconds, nanoseconds), nil
}

// readFolders looks whether our user may write into folders, without writing. One that is not there yet is made by
// those who need it, so its nearest parent counts.
func readFolders(ctx context.Context, h *host.Host, paths ...string) (folders, error) {
	out, err := h.Output(ctx, host.Cmd{Args: paths, Script: `id -un
for p; do
	while [ ! -e "$p" ] && [ "$p" != / ]; do p=${p%/*}; p=${p:-/}; done
	[ -d "$p" ] && [ -w "$p" ] && [ -x "$p" ] && echo || printf '%s\n' "$p"
done`})
	if err != nil {
		return folders{}, fmt.Errorf("looking at folders on %s: %w", h.Name(), err)
	}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != len(paths)+1 {
		return folders{}, fmt.Errorf("looking at folders on %s: the answer is %q", h.Name(), out)
	}
	return folders{user: lines[0], paths: paths, closed: lines[1:]}, nil
}

// folders are folders we write into.
type folders struct {
	user   string
	paths  []string
	closed []string // for each, what does not let us in; "" where nothing
}

func (r *report) judgeFolders(f fact[folders]) {
	if !f.known() {
		r.error("folders", f.err)
		return
	}
	for i, path := range f.is.paths {
		why := f.is.closed[i]
		if why == "" {
			continue
		}
		q := host.Quote(path)
		r.fail(run.Unreachable, "folders", fmt.Sprintf("as root on %s: mkdir -p %s && chown %s %s", r.host, q, host.Quote(f.is.user), q),
			"%s cannot write into %s (%s is not writable)", f.is.user, path, why)
		return
	}
	r.ok("folders", "%s is writable", strings.Join(f.is.paths, " and "))
}

// disk is the free room at a folder.
type disk struct {
	dir  string
	free int64
}

// judgeDisk compares the free room with what is needed for what; needs of 0 are not known.
func (r *report) judgeDisk(f fact[disk], need int64, what, hint string) {
	if !f.known() {
		r.error("disk", f.err)
		return
	}
	detail := fmt.Sprintf("%s free, %s needs about %s: %s", run.Bytes(f.is.free), what, run.Bytes(need), f.is.dir)
	switch {
	case need == 0:
		r.unchecked("disk", "", "%s free at %s; what %s needs is not known without a backup and production's size", run.Bytes(f.is.free), f.is.dir, what)
	case f.is.free < need:
		r.fail(run.Unreachable, "disk", hint, "%s", detail)
	case f.is.free < 2*need:
		r.warn("disk", hint, "%s", detail)
	default:
		r.ok("disk", "%s", detail)
	}
}

// lacking asks which tools are not there; alternatives are separated by "|".
func lacking(ctx context.Context, h *host.Host, tools ...string) ([]string, error) {
	out, err := h.Output(ctx, host.Cmd{Args: tools, Script: `IFS='|'
for names; do
	found=
	for name in $names; do command -v "$name" >/dev/null && found=1; done
	[ "$found" ] || printf '%s\n' "$names"
done`})
	if err != nil {
		return nil, fmt.Errorf("looking for programs on %s: %w", h.Name(), err)
	}
	return strings.Fields(out), nil
}

func (r *report) judgeTools(f fact[[]string], all ...string) {
	switch {
	case !f.known():
		r.error("programs", f.err)
	case len(f.is) > 0:
		missing := strings.ReplaceAll(strings.Join(f.is, ", "), "|", " or ")
		r.fail(run.Unreachable, "programs", "install it for the user who logs in", "%s is not there", missing)
	default:
		r.ok("programs", "%s", strings.ReplaceAll(strings.Join(all, ", "), "|", " or "))
	}
}
