package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/postgres"
)

// machine is what runs beside the server, as our user on its host sees it.
type machine struct {
	err         error // why nothing is known of the processes
	whole       bool  // they are all of the host's, not those of a container only
	postmasters []postmaster
	children    []child
	file        string // postmaster.pid by the data directory's path; "" where we may not read it
	engines     []engine
}

// postmaster is a process that is called as PostgreSQL's server is and has no such parent.
type postmaster struct {
	pid       int
	inner     []int  // its number in each PID namespace it is in, ours first
	directory string // device:inode of its working directory, which is its data directory; "" where we may not see it
	args      string
	user      string // its number
	container string // its id, or ""
	file      string // postmaster.pid in its directory; "" where we may not read it
}

// child is a process that a postmaster has forked.
type child struct {
	pid, parent int
	inner       []int
	title       string
	silent      bool // its client has not said a word, in two looks
}

// engine is docker or podman, where there is one.
type engine struct {
	name       string
	asleep     bool   // its daemon does not run, so neither do containers
	trouble    string // why it did not answer
	containers []container
}

// container is one that runs, as inspect tells.
type container struct {
	ID, Name string
	PID      int
	Mounts   []mount
}

type mount struct {
	Source, Destination string
	RW                  bool
}

// surveying looks at everything once; $1 is the data directory, $2 how many connections of ours are silent. A line
// is a kind, a pid and a text.
//
//   - A shell's read drops the NUL bytes of a command line, and forks nothing: there may be hundreds of sessions.
//   - A session's process is titled "postgres: role database client …" once its client has said who it is. Until
//     then it has the command line of its postmaster. On a busy host it may be born a little late, hence the tries;
//     a second look at the silent goes last, so that one of another client, just being born, is not taken for ours.
//   - What has no command line is a zombie, or gone; what has a session's title and no postmaster any more ends soon.
const surveying = `exec 2>/dev/null
export LC_ALL=C
say() { printf '%s\t%s\t%s\n' "$1" "$2" "$3"; }
lines() { while IFS= read -r line; do say "$1" "$2" "$line"; done <"$3"; }
title() { title=; IFS= read -r title <"$1/cmdline"; case $title in ''|'postgres: '*) false ;; esac; }
child() { parent=; read -r _ _ _ parent _ <$1/stat; case $all in *" $parent "*) ;; *) false ;; esac; }
scan() {
	all=' ' young= silent=0
	for p in [0-9]*; do
		name=; read -r name <$p/comm
		case $name in postgres|postmaster|edb-postgres) all="$all$p " ;; esac
	done
	for p in $all; do ! child $p || ! title $p || { young="$young $p"; silent=$((silent + 1)); }; done
}
[ ! -r "$1/postmaster.pid" ] || lines file 0 "$1/postmaster.pid"

cd /proc && [ -r self/stat ] || { say blind 0 -; exit 0; }
say namespace 0 "$(readlink self/ns/pid)"
for try in 1 2 3 4 5; do
	scan
	[ $silent -lt $2 ] || break
	sleep 0.1
done
status=
for p in $all; do
	status="$status $p/status"
	if child $p; then title $p; say child $p "$parent $title"; continue; fi
	args=$(tr '\0\n' '  ' <$p/cmdline) directory=$(stat -L -c %d:%i $p/cwd)
	case $args in ''|'postgres: '*) continue ;; esac
	[ -n "$directory" ] || [ -n "$(tr -d '\0' <$p/cmdline)" ] || continue
	say postmaster $p "$args"
	say directory $p "$directory"
	say container $p "$(grep -o '[0-9a-f]\{64\}' $p/cgroup | head -n 1)"
	[ ! -r $p/cwd/postmaster.pid ] || lines file $p $p/cwd/postmaster.pid
done
[ -z "$status" ] || grep -HE '^(NSpid|Uid):' $status | while IFS=: read -r file key text; do say $key ${file%/status} "$text"; done

limit=; ! timeout 1 true || limit='timeout 2'
shape='{"ID":{{json .Id}},"Name":{{json .Name}},"PID":{{.State.Pid}},"Mounts":{{json .Mounts}}}'
for engine in docker podman; do
	program=$(command -v $engine) socket=
	if [ $engine = docker ]; then
		for f in /var/run/docker.sock "${DOCKER_HOST#unix://}"; do [ ! -S "$f" ] || socket=$f; done
	fi
	[ -n "$program$socket" ] || continue
	say engine 0 $engine
	if [ -z "$program" ]; then say trouble 0 "there is $socket, but no docker in PATH"; continue; fi
	if [ $engine = docker ] && [ -z "$socket$DOCKER_HOST" ]; then say asleep 0 -; continue; fi
	if ! ids=$($limit $engine ps -q --no-trunc 2>&1); then say trouble 0 "$(echo "$ids" | tail -n 1)"; continue; fi
	[ -z "$ids" ] || $limit $engine inspect --format "$shape" $ids >/dev/null || say trouble 0 "inspect failed"
	[ -z "$ids" ] || $limit $engine inspect --format "$shape" $ids | while IFS= read -r line; do say running 0 "$line"; done
done

sleep 0.1 || sleep 1
for p in $young; do [ ! -r $p/cmdline ] || ! title $p || say silent $p -; done
exit 0`

// longest is how long the script may take; a docker that hangs has its own, shorter limit.
const longest = 10 * time.Second

// survey runs the script. What it could not see is missing in the machine, for the findings to say so.
func survey(ctx context.Context, h *host.Host, id postgres.Identity, routes []route) machine {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	silent := 0
	for _, r := range routes {
		if r.conn != nil {
			silent++
		}
	}
	out, err := h.Output(ctx, host.Cmd{Script: surveying, Args: []string{id.DataDirectory, strconv.Itoa(silent)}})
	if err != nil {
		return machine{err: err}
	}
	return parse(out)
}

// initialNamespace is PROC_PID_INIT_INO of Linux: the PID namespace that has every process.
const initialNamespace = "pid:[4026531836]"

// parse reads the script's lines.
func parse(out string) (m machine) {
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		if len(f) < 3 {
			continue // the rest of a title with a line feed in it
		}
		pid, _ := strconv.Atoi(f[1])
		kind, text := f[0], f[2]
		switch kind {
		case "blind":
			m.err = errors.New("there is no /proc to read")
		case "namespace":
			m.whole = text == initialNamespace
		case "postmaster":
			m.postmasters = append(m.postmasters, postmaster{pid: pid, args: strings.TrimSpace(text)})
		case "child":
			parent, title, _ := strings.Cut(text, " ")
			c := child{pid: pid, title: title}
			c.parent, _ = strconv.Atoi(parent)
			m.children = append(m.children, c)
		case "engine":
			m.engines = append(m.engines, engine{name: text})
		default:
			m.detail(kind, pid, text)
		}
	}
	return m
}

// detail adds to what an earlier line has named.
func (m *machine) detail(kind string, pid int, text string) {
	if i := slices.IndexFunc(m.children, func(c child) bool { return c.pid == pid }); i >= 0 {
		m.children[i].detail(kind, text)
	}
	if i := slices.IndexFunc(m.postmasters, func(p postmaster) bool { return p.pid == pid }); i >= 0 {
		m.postmasters[i].detail(kind, text)
	}
	if kind == "file" && pid == 0 {
		m.file += text + "\n"
	}
	if n := len(m.engines); n > 0 {
		m.engines[n-1].detail(kind, text)
	}
}

func (c *child) detail(kind, text string) {
	switch kind {
	case "NSpid":
		c.inner = numbers(text)
	case "silent":
		c.silent = true
	}
}

func (p *postmaster) detail(kind, text string) {
	switch kind {
	case "NSpid":
		p.inner = numbers(text)
	case "Uid":
		p.user, _, _ = strings.Cut(strings.TrimSpace(text), "\t") // the real one of four
	case "directory":
		p.directory = text
	case "container":
		p.container = text
	case "file":
		p.file += text + "\n"
	}
}

func (e *engine) detail(kind, text string) {
	switch kind {
	case "asleep":
		e.asleep = true
	case "trouble":
		e.trouble = text
	case "running":
		var c container
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			e.trouble = fmt.Sprintf("inspect answers %q", text)
		}
		e.containers = append(e.containers, c)
	}
}

func numbers(text string) (n []int) {
	for _, word := range strings.Fields(text) {
		i, _ := strconv.Atoi(word)
		n = append(n, i)
	}
	return n
}
