package run

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal that keeps all that was written to it.
type terminal struct {
	slave    *os.File
	all      bytes.Buffer
	finished chan struct{}
}

func openTerminal(t *testing.T, columns uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	p := &terminal{slave: slave, finished: make(chan struct{})}
	go func() {
		defer close(p.finished)
		io.Copy(&p.all, master) // ends with EIO when nobody has the slave open
		master.Close()
	}()
	return p
}

// run runs a child on the terminal and returns everything it wrote.
func (p *terminal) run(c *child, stdout, stderr io.Writer) string {
	c.t.Helper()
	c.cmd.Stdout, c.cmd.Stderr = stdout, stderr
	c.start()
	p.slave.Close()
	c.wantExit(Done)
	<-p.finished
	return p.all.String()
}

// screen is what a terminal shows in the end. It knows what we use: \r, \n, EL and SGR.
func screen(written string) []string {
	lines, column := []string{""}, 0
	for _, token := range regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]|(?s:.)").FindAllString(written, -1) {
		line := []rune(lines[len(lines)-1])
		switch {
		case token == "\r":
			column = 0
		case token == "\n":
			lines, column = append(lines, ""), 0
		case token == eraseRest:
			lines[len(lines)-1] = string(line[:min(column, len(line))])
		case strings.HasPrefix(token, "\x1b"):
		default:
			line = append(line, []rune(strings.Repeat(" ", max(0, column-len(line))+1))...)
			line[column] = []rune(token)[0]
			lines[len(lines)-1] = string(line)
			column++
		}
	}
	return lines
}

func TestProgressOnATerminalIsOneLineThatNeverMixesWithOutput(t *testing.T) {
	t.Parallel()
	p := openTerminal(t, 60)
	written := p.run(command(t, "progress"), p.slave, p.slave)
	if n := strings.Count(written, "load tables   "); n < 4 {
		t.Errorf("progress was drawn %d times: %q", n, written)
	}
	for _, drawn := range regexp.MustCompile("\r(load tables[^\r\x1b]*)").FindAllStringSubmatch(written, -1) {
		if columns(drawn[1]) > 59 || !strings.HasSuffix(drawn[1], "…") {
			t.Errorf("%d columns on a terminal of 60: %q", columns(drawn[1]), drawn[1])
		}
	}
	got := screen(written)
	for i, want := range []string{"^half way$", "^warning: slow$", "^✓ load tables +[0-9.]+ m?s .*", "^$"} {
		if i >= len(got) || !regexp.MustCompile(want).MatchString(got[i]) {
			t.Fatalf("line %d is not %s:\n%s\nwritten: %q", i, want, strings.Join(got, "\n"), written)
		}
	}
	if len(got) != 4 || !strings.Contains(written, "\x1b[32m✓") {
		t.Errorf("no colour, or more than 3 lines:\n%s\nwritten: %q", strings.Join(got, "\n"), written)
	}
}

func TestTheProgressOfACleanupIsShownToo(t *testing.T) {
	t.Parallel()
	p := openTerminal(t, 100)
	written := p.run(command(t, "progress"), p.slave, p.slave)
	if !strings.Contains(written, "\rclean up: database   ") {
		t.Errorf("%q", written)
	}
}

func TestWithNO_COLORATerminalGetsNone(t *testing.T) {
	t.Parallel()
	p := openTerminal(t, 100)
	if written := p.run(command(t, "ok", "NO_COLOR=1"), p.slave, p.slave); strings.Contains(written, "\x1b") {
		t.Errorf("%q", written)
	}
}

func TestADumbTerminalGetsNoEscapeSequences(t *testing.T) {
	t.Parallel()
	p := openTerminal(t, 100)
	if written := p.run(command(t, "slow", "TERM=dumb"), p.slave, p.slave); strings.Contains(written, "\x1b") {
		t.Errorf("%q", written)
	}
}

func TestStdoutStaysCleanWhereOnlyStderrIsATerminal(t *testing.T) {
	t.Parallel()
	p := openTerminal(t, 100)
	c := command(t, "progress", asJSON)
	written := p.run(c, &c.stdout, p.slave)
	if !strings.Contains(written, "\rload tables   ") || !strings.HasSuffix(written, "\r"+eraseRest) {
		t.Errorf("%q", written)
	}
	c.object()
}

func TestAnAbandonedTargetLeavesNoProgressOnTheTerminal(t *testing.T) {
	t.Parallel()
	p := openTerminal(t, 100)
	c := command(t, "deaf")
	c.cmd.Stdout, c.cmd.Stderr = p.slave, p.slave
	c.start()
	p.slave.Close()
	c.interrupt(os.Interrupt)
	time.Sleep(3 * drawEvery) // also because two at once may count as one
	c.cmd.Process.Signal(os.Interrupt)
	c.wait()
	<-p.finished
	got := screen(p.all.String())
	want := []string{`Error: interrupted by SIGINT: gave up at the second SIGINT in the step "load"`, "warning: left behind: database", ""}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q", p.all.String())
	}
	if !strings.Contains(p.all.String(), "\rload   ") {
		t.Errorf("there was no progress to leave: %q", p.all.String())
	}
}

func TestCtrlCReachesTheTargetThroughTheTerminal(t *testing.T) {
	t.Parallel()
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip(err)
	}
	c := command(t, "wait")
	c.cmd.Path, c.cmd.Args = script, []string{"script", "-qec", os.Args[0], "/dev/null"}
	keys, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.start().awaitDiary("ready")
	keys.Write([]byte{3})
	c.wantExit(Interrupted)
	c.wantStdout("Error: interrupted by SIGINT: loading orders on staging")
	c.wantDiary("ready\ncleaned second <nil>\ncleaned first <nil>\n")
}
