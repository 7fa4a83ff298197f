package guard

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"rehearsal/internal/run"
)

// asOwner is the next step where the host does not show us what a process of another user does.
const asOwner = "let the inventory's user of this host be the server's system user, or root"

// processes looks for a second postmaster on the data directory, in containers too: a container's processes are
// seen from its host. In one PID namespace PostgreSQL itself keeps them apart, so that between such two other
// things will do where we may not see the directory: the user, for a postmaster starts on its own user's
// directory only (checkDataDir), and the command line.
func (l *look) processes() Finding {
	f := l.finding("processes")
	if l.machine.err != nil {
		return f.unchecked(l.machine.hint(), "the processes of %s: %v", f.Host, l.machine.err)
	}
	ours := l.ours()
	if ours == nil {
		return f.unchecked("name the machine that the server runs on as the host; where /proc is mounted with hidepid, "+asOwner,
			"our own session is not among the processes of %s", f.Host)
	}
	var twins, unseen []string
	for _, p := range l.machine.postmasters {
		switch {
		case p.pid == ours.pid:
		case p.directory != "" && ours.directory != "":
			if p.directory == ours.directory {
				twins = append(twins, p.String())
			}
		case len(p.inner) == 1 && len(ours.inner) == 1 && p.user != ours.user:
		case len(p.inner) != 1 || len(ours.inner) != 1 || p.option() == "":
			unseen = append(unseen, p.String())
		case p.option() == ours.option() || p.option() == path.Clean(l.id.DataDirectory):
			twins = append(twins, p.String())
		}
	}
	switch {
	case len(twins) > 0:
		return f.failed("stop all of them, take a copy of the data directory, and find out what is in it before one starts again",
			"%d postmasters work on one data directory: %s and %s", len(twins)+1, ours, strings.Join(twins, " and "))
	case len(unseen) > 0:
		return f.unchecked(asOwner, "whose data directory this is cannot be seen: %s", strings.Join(unseen, ", "))
	}
	return f.ok("%s alone works there%s%s", ours, others(len(l.machine.postmasters)-1), l.scope())
}

// hint is the next step where nothing was seen of the host.
func (m *machine) hint() string {
	if hint := run.HintOf(m.err); hint != "" {
		return hint
	}
	return "the looks need sh, grep, stat and Linux's /proc on the host, and answer within " + run.Duration(longest)
}

func others(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d more on other directories", n)
}

// scope says what was not looked at where sshd itself runs in a container.
func (l *look) scope() string {
	if l.machine.whole {
		return ""
	}
	return "; " + l.server.Spec.Host.Name + " is a container itself, what runs outside does not show"
}

// ours is the postmaster that our own session belongs to, or nil. A session's process is known by its number,
// as the server's own PID namespace counts, and by its title.
func (l *look) ours() *postmaster {
	i := slices.IndexFunc(l.machine.children, func(c child) bool {
		return last(c.inner, c.pid) == l.health.Backend && strings.Contains(c.title, " "+l.health.Session+" ")
	})
	if i < 0 {
		return nil
	}
	return l.machine.postmaster(l.machine.children[i].parent)
}

func (m *machine) postmaster(pid int) *postmaster {
	i := slices.IndexFunc(m.postmasters, func(p postmaster) bool { return p.pid == pid })
	if i < 0 {
		return nil
	}
	return &m.postmasters[i]
}

func last(numbers []int, otherwise int) int {
	if len(numbers) == 0 {
		return otherwise
	}
	return numbers[len(numbers)-1]
}

func (p *postmaster) String() string {
	text := fmt.Sprintf("process %d", p.pid)
	if p.container != "" {
		text += " in container " + p.container[:12]
	} else if len(p.inner) > 1 {
		text += " in a container"
	}
	return text
}

// option is the folder of -D in the command line; "" where there is none, or one relative to we know not what.
func (p *postmaster) option() string {
	_, rest, ok := strings.Cut(p.args, " -D")
	if !ok {
		return ""
	}
	dir, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if !path.IsAbs(dir) {
		return ""
	}
	return path.Clean(dir)
}

// startup is how long a postmaster may take from its first line, the time in postmaster.pid, to what
// pg_postmaster_start_time tells: reading its configuration, preloading libraries and making shared memory are
// between them (PostmasterMain). It is never the other way round.
const startup = 5 * time.Second

// postmasterPID compares the postmaster.pid on disk with the server that answers. Of two postmasters the one
// that started last has written it; the other one does not notice where both have the same pid.
func (l *look) postmasterPID() Finding {
	f := l.finding("postmaster.pid")
	text := l.pidFile()
	if text == "" {
		return f.unchecked(fmt.Sprintf("%s; or as superuser in database postgres: GRANT EXECUTE ON FUNCTION pg_read_file(text) TO %s", asOwner, l.server.Spec.User),
			"neither %s nor the role %s may read it", l.server.Spec.Host.Name, l.server.Spec.User)
	}
	const hint = "a second postmaster has started on this data directory: look at all of the host's containers and services, and stop both"
	lines := append(strings.Split(text, "\n"), "", "", "", "")
	started, err := strconv.ParseInt(strings.TrimSpace(lines[2]), 10, 64)
	began := time.Unix(started, 0)
	port, portErr := strconv.Atoi(strings.TrimSpace(lines[3]))
	switch answers := l.id.StartedAt; {
	case err != nil || portErr != nil:
		return f.unchecked("is a server starting just now? try again", "it reads %q", text)
	case began.After(answers) || began.Before(answers.Add(-startup)):
		return f.failed(hint, "it is of a postmaster that began at %s; the one that answers began at %s", clock(began), clock(answers))
	case port != l.health.Port:
		return f.failed(hint, "it is of a postmaster on port %d; the one that answers has port %d", port, l.health.Port)
	}
	return f.ok("of the server that answers, begun at %s", clock(began))
}

func clock(t time.Time) string { return t.UTC().Format(time.DateTime + " MST") }

// pidFile is the text of postmaster.pid: as the server reads it, from its working directory, or by its path where
// that is sure to mean the same to us, or "".
func (l *look) pidFile() string {
	if l.pidErr == nil && l.pidSQL != "" {
		return l.pidSQL
	}
	ours := l.ours()
	switch {
	case ours == nil:
		return ""
	case ours.file != "":
		return ours.file
	case len(ours.inner) == 1:
		return l.machine.file
	}
	return ""
}
