package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"rehearsal/internal/run"
)

// block is what spans begin at multiples of. dd reads and writes as much at a time: cat takes twice that and is no faster
// through a pipe, which holds 64 KiB.
const block = 64 << 10

// answerSpans answers every line of stdin, "LOOK SKIP COUNT PATH", with so many blocks of a file from there, or what
// there is of them, and a trailer: a line feed, the marker $1, dd's exit status, the file's identity if LOOK asks for it
// before or after reading, and the first line that dd said.
//
//   - dd seeks, everywhere. tail -c +N of busybox reads all that comes before, and head is one process more.
//   - A path is decoded by printf %b. The dot keeps line feeds at its end, which $() drops.
//   - stdout is descriptor 4, because $() takes what dd says; first duplicated, then redirected.
//   - set -f and the function keep what ls says from being expanded, and $1 what it is.
const answerSpans = `set -f
exec 4>&1
nl='
'
look() {
	set -- $(ls -dinL "$file" 2>/dev/null)
	identity=$1/$6/$7/$8/$9
}
while read -r look skip count path; do
	case $path in
	*\\*) file=$(printf '%b.' "$path") file=${file%.} ;;
	*) file=$path ;;
	esac
	identity=-
	[ $look != before ] || look
	said=$(dd if="$file" bs=65536 skip=$skip count=$count 2>&1 >&4)
	status=$?
	[ $look != after ] || look
	printf '\n%s %s %s %s\n' "$1" $status "$identity" "${said%%"$nl"*}"
done`

// lane is a command on the host that answers one request after the other. The next ones wait there already, so that
// it never pauses for a round trip. Its stdin ends with the connection, and so does it.
type lane struct {
	of       *lanes
	marker   string // "\n" and what no file holds
	end      context.CancelCauseFunc
	requests chan string

	// Guarded by lanes.mu.
	generation int // lanes.generation when it was opened
	open       bool
	ended      bool
	queue      []*span // asked for, in order
	owed       int64   // bytes of them
	heard      time.Time
	watch      *time.Timer // fires when nothing has been heard for long
	pinged     bool        // since then
}

// mostRequests is how many requests a lane holds at most: what is more would only wait.
const mostRequests = 64

// Reasons for which a lane ends that are nobody's fault.
var (
	errIdle      = errors.New("nobody reads any more")
	errOutOfStep = errors.New("an answer that was not asked for")
)

// run opens a session and has it answer what is asked, until ctx ends or something breaks.
func (l *lane) run(ctx context.Context) {
	c := Cmd{Script: answerSpans, Args: []string{l.marker[1:]}, Env: map[string]string{"LC_ALL": "C"}, Stdin: &requests{c: l.requests}}
	p, release, err := l.of.host.shell(ctx, c, l.of.stall)
	if err != nil {
		l.of.lost(l, err)
		return
	}
	defer release()
	l.of.begin(l, p.conn)
	done := make(chan error, 1)
	go func() { done <- p.converse(func() { l.of.opened(l) }, l.answer) }()
	select {
	case err := <-done:
		l.of.lost(l, because(ctx, err))
	case <-ctx.Done():
		l.of.lost(l, context.Cause(ctx))
		p.finish(done)
	}
}

// requests is the stdin of a lane's command. It ends when no request can come any more.
type requests struct {
	c    chan string
	rest string
}

func (q *requests) Read(p []byte) (int, error) {
	if q.rest == "" {
		q.rest = <-q.c
	}
	if q.rest == "" {
		return 0, io.EOF
	}
	n := copy(p, q.rest)
	q.rest = q.rest[n:]
	return n, nil
}

// request asks for what a span lacks. The last of a whole file asks for a block more, which must not come.
func (sp *span) request() string {
	look, count := "-", max(1, (sp.want-len(sp.buf)+block-1)/block)
	switch {
	case sp.of.count > 1 && sp.index == 0:
		look = "before"
	case sp.of.count > 1 && sp.last():
		look = "after"
	}
	if sp.last() && sp.of.whole {
		count = (sp.want-len(sp.buf))/block + 1
	}
	return fmt.Sprintf("%s %d %d %s\n", look, (sp.at+int64(len(sp.buf)))/block, count, encode(sp.of.file))
}

// encode writes a path for printf %b, in characters that read leaves alone.
func encode(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c > ' ' && c <= '~' && c != '\\' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\0%03o`, c)
		}
	}
	return b.String()
}

// answer reads one answer into the span that was asked for.
func (l *lane) answer(from *bufio.Reader) error {
	if _, err := from.Peek(1); err != nil {
		return err
	}
	sp, buf := l.of.asked(l)
	if sp == nil {
		return errOutOfStep
	}
	for len(buf) < sp.want {
		n, err := from.Read(buf[len(buf):sp.want])
		buf = buf[:len(buf)+n]
		if !l.of.heard(l, sp, buf) {
			return errOutOfStep
		}
		if i := l.endsEarly(buf); i >= 0 {
			return l.short(sp, buf, from, i)
		}
		if err != nil {
			return err
		}
	}
	return l.trailer(sp, buf, from)
}

// endsEarly looks for the trailer where it is while nothing follows it.
func (l *lane) endsEarly(buf []byte) int {
	const most = 5 << 10 // it may name a path of 4 KiB
	if bytes.LastIndex(buf[max(0, len(buf)-most):], []byte(l.marker)) < 0 {
		return -1
	}
	return bytes.Index(buf, []byte(l.marker))
}

// trailer reads what follows a span that is full.
func (l *lane) trailer(sp *span, buf []byte, from *bufio.Reader) error {
	next, err := from.Peek(len(l.marker))
	if err != nil {
		return err
	}
	if string(next) == l.marker {
		_, _ = from.Discard(len(l.marker))
		line, err := from.ReadString('\n')
		if err != nil {
			return err
		}
		l.hear(sp, line, sp.want)
		return nil
	}
	// There was less of it, and what followed was taken for the rest. Or there is more.
	if i := bytes.Index(append(slices.Clip(buf), next...), []byte(l.marker)); i >= 0 {
		return l.short(sp, buf, from, i)
	}
	var longer error
	if sp.of.whole {
		longer = &SizeError{Host: l.of.host.spec.Name, File: sp.of.file, Want: sp.of.size, Size: sp.of.size + 1}
	}
	l.of.answered(l, sp, sp.want, "", longer)
	return errOutOfStep
}

// short is an answer whose data end at i. Where another's have been taken for the rest of them, the lane is given up.
func (l *lane) short(sp *span, buf []byte, from io.Reader, i int) error {
	taken := bytes.NewReader(slices.Clone(buf))
	rest := bufio.NewReader(io.MultiReader(taken, from))
	_, _ = rest.Discard(i + len(l.marker))
	line, err := rest.ReadString('\n')
	if err != nil {
		return err
	}
	l.hear(sp, line, i)
	if taken.Len()+rest.Buffered() > 0 {
		return errOutOfStep
	}
	return nil
}

// hear takes a trailer for what it says of a span of which there are so many bytes.
func (l *lane) hear(sp *span, line string, has int) {
	fields := strings.SplitN(strings.TrimSpace(line), " ", 3)
	status, err := strconv.Atoi(fields[0])
	host, file := l.of.host.spec.Name, sp.of.file
	switch {
	case err != nil || len(fields) < 2:
		err = fmt.Errorf("%s on %s: not an answer: %q", file, host, line)
	case status != 0:
		err = &ExitError{Host: host, Command: Cmd{Args: []string{"dd", "if=" + file}}.String(), Status: status, Stderr: strings.Join(fields[2:], "")}
	case has < sp.want && sp.of.whole:
		err = &SizeError{Host: host, File: file, Want: sp.of.size, Size: sp.at + int64(has)}
	}
	identity := ""
	if len(fields) > 1 {
		identity = fields[1]
	}
	l.of.answered(l, sp, has, identity, err)
}

// stalled ends a lane that owes us something of a file and is silent, with its connection if that is silent too.
func (l *lane) stalled(c *conn, file string) {
	name, after := l.of.host.spec.Name, l.of.stall
	if c.silence() >= after {
		c.drop(run.Fail(run.Unreachable, "see whether the host and the network between are up, then start again",
			"%s stopped answering: %w", name, io.ErrUnexpectedEOF))
		return
	}
	l.end(run.Fail(run.Unreachable, "look at the disk that the file is on", "%s has sent nothing of %s for %v", name, file, after))
}
