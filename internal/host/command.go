package host

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Cmd is one command on a host.
type Cmd struct {
	Args   []string          // argv; always quoted, never interpreted by a shell
	Script string            // POSIX sh script; Args are then its $1, $2, …
	Env    map[string]string // visible in ps on the host
	Secret map[string]string // environment too, but sent over stdin: never in argv
	Stdin  io.Reader         // nil: the command gets /dev/null and dies with the connection
	Stdout io.Writer         // nil: discarded
	Stderr io.Writer         // gets all of it beside the tail in ExitError; must not fail; nil: that tail only

	// Lend gives the command an agent, at SSH_AUTH_SOCK, that signs logins to that Host with the key which let us in there and
	// nothing else, until the command ends; DialAccess is for it. Root on the machine it runs on can log in with it as well.
	// It takes a login of its own. Where sshd forwards no agent the error is ErrNoAgent, with code Unreachable and the setting.
	// When the agent is asked for anything else whoever dialled the lent Host with DialFor is warned, once.
	Lend *Host
}

// remote is a Cmd as it goes over the wire.
type remote struct {
	line   string // what the login shell is given
	marker string // begins the line that ends a login shell's noise, on stdout and on stderr
	stdin  string // what is sent before the command's own: the marker on a line, and the secrets
}

// maxLine is what Linux takes as one argument of a program, MAX_ARG_STRLEN: sshd gives the line to the login
// shell as one.
const maxLine = 128<<10 - 1

// watchdog ends the command's process group when sshd closes stdin, which it does when the connection ends.
// On its own it would outlive the connection: without a terminal nothing tells a command that nobody waits.
//
//   - The shell would give a background job /dev/null as stdin, hence descriptor 3.
//   - The watchdog holds neither stdout nor stderr: sshd waits for both to be closed.
//   - After a normal end sshd closes stdin too; the leader is gone then and nothing is left to do.
//   - A process group is "-PID" right after the signal: dash refuses "kill -TERM -- -PID" and "kill -s TERM -PID",
//     busybox "kill -s TERM -- -PID".
const watchdog = `exec 3<&0 </dev/null
(cat <&3; kill -0 $$ || exit; trap '' TERM; kill -TERM -$$; sleep 2; kill -KILL -$$) >/dev/null 2>&1 &
exec 3<&-
`

// untouched fails the wrapper where what it reads does not begin with the line that we sent first: a start file of
// the login shell has read some of it, and what is left are no longer the secrets or the data.
const untouched = `IFS= read -r line && [ "$line" = %s ] || { echo "a start file of the login shell reads standard input" >&2; exit 1; }
`

// encode builds the remote command line: a wrapper in sh that says its pid, which is also its process group
// (sshd makes a command the leader of a session), takes the secrets, starts the watchdog and becomes the command.
//
// Stdin begins with a line that nobody has to read. A forced command that waits for a request there, as internal-sftp
// does, takes it for a broken one and ends; one that we waited for would cost each command a round trip.
func (c Cmd) encode() (*remote, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	r := &remote{marker: "rehearsal-" + rand.Text() + ":"}
	var wrapper, stdin strings.Builder
	fmt.Fprintf(&wrapper, "set -- %s\n", Quote(c.argv()...))
	stdin.WriteString(r.marker + "\n")
	if c.Stdin != nil || len(c.Secret) > 0 {
		fmt.Fprintf(&wrapper, untouched, r.marker)
	}
	fmt.Fprintf(&wrapper, `printf '\n%%s%%s\n' %s $$ >&2; printf '\n%%s\n' %[1]s`+"\n", r.marker)
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		fmt.Fprintf(&wrapper, "export %s=%s\n", name, quote(c.Env[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Secret)) {
		fmt.Fprintf(&wrapper, "IFS= read -r %s && export %[1]s || exit\n", name)
		stdin.WriteString(c.Secret[name] + "\n")
	}
	if c.Stdin == nil {
		wrapper.WriteString(watchdog)
	}
	wrapper.WriteString(`exec "$@"`)
	r.line, r.stdin = forLoginShell(wrapper.String()), stdin.String()
	if len(r.line) > maxLine {
		return nil, fmt.Errorf("%s: the command line has %d bytes, a host takes %d", c, len(r.line), maxLine)
	}
	return r, nil
}

func (c Cmd) argv() []string {
	if c.Script == "" {
		return c.Args
	}
	return append([]string{"sh", "-c", c.Script, "sh"}, c.Args...)
}

// variable is what a shell takes as a variable's name.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (c Cmd) check() error {
	if len(c.argv()) == 0 {
		return errors.New("a command without arguments")
	}
	for _, arg := range c.argv() {
		if strings.Contains(arg, "\x00") {
			return fmt.Errorf("%s: an argument holds a NUL byte", c)
		}
	}
	for name, value := range c.Env {
		if !variable.MatchString(name) || strings.Contains(value, "\x00") {
			return fmt.Errorf("%s: the variable %q cannot be set", c, name)
		}
	}
	for name, value := range c.Secret {
		// read takes a line; neither error shows the value.
		if !variable.MatchString(name) || strings.ContainsAny(value, "\x00\n") {
			return fmt.Errorf("%s: the secret variable %q cannot be set: its value has to be one line", c, name)
		}
	}
	return nil
}

// String is a short form for people. It never shows a variable.
func (c Cmd) String() string {
	if c.Script != "" {
		return "a script" // what calls it says what for
	}
	return shorten(strings.Join(strings.Fields(Quote(c.Args...)), " "))
}

func shorten(text string) string {
	const most = 120
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
