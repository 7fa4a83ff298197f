package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"rehearsal/internal/inventory"
)

// Scripts of POSIX sh, as a team would write them. $DUMP is the dump's folder on the backup host, $HERE a folder of this
// machine and $THERE one of staging's host that are to become copies; $ON is the staging database. scp is sftp by another
// name since OpenSSH 9.
const (
	twoHops = `set -e
sftp -q -F "$CONFIG" -s "$SERVER" -b - backup <<END
get -r "$DUMP" "$HERE"
END
sftp -q -F "$CONFIG" -s "$SERVER" -b - staging <<END
put -r "$HERE" "$THERE"
END
ssh -F "$CONFIG" staging "$BIN/pg_restore $ON --no-owner --exit-on-error $THERE"
ssh -F "$CONFIG" staging "$BIN/psql $ON -X -q -v ON_ERROR_STOP=1 -f -" <"$UPDATE"
`
	oneHop = `set -e
sftp -q -F "$CONFIG" -s "$SERVER" -b - backup <<END
get -r "$DUMP" "$THERE"
END
"$BIN/pg_restore" $ON -j2 --no-owner --exit-on-error "$THERE"
`
	// sftpServer is for an sshd without the subsystem, which is what the lab's hosts have: see sftp(1), -s.
	sftpServer = `/bin/sh -c 'PATH=$PATH:/usr/lib/openssh:/usr/libexec/openssh:/usr/lib/ssh:/usr/libexec exec sftp-server'`
)

// script makes a contender of a script.
func script(name, text string) func(context.Context, *arena) (sample, error) {
	return func(ctx context.Context, a *arena) (s sample, err error) {
		here, there, c := filepath.Join(a.dir, "copy"), a.lab.Path("staging", "copy"), a.lab.Staging
		defer func() { err = errors.Join(err, os.RemoveAll(here), os.RemoveAll(there)) }()
		cmd := exec.CommandContext(ctx, "sh", "-c", text)
		cmd.Env = append(environ(), "CONFIG="+a.config, "SERVER="+sftpServer, "DUMP="+a.dump, "HERE="+here, "THERE="+there, "BIN="+c.Bin,
			fmt.Sprintf("ON=-h %s -p %d -U shop -d %s", c.Socket, c.Port, database), "UPDATE="+a.update())
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it has started ends with it
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		_, u, err := finish(cmd)
		return sample{seconds: map[string]float64{name: u.wall.Seconds()}, client: u.cpu}, err
	}
}

// writeSSH writes a configuration with which OpenSSH knows hosts by their names, and nothing else.
func writeSSH(dir string, hosts ...*inventory.Host) (config string, err error) {
	config = filepath.Join(dir, "ssh_config")
	known, text, keys := filepath.Join(dir, "known_hosts"), "", ""
	for _, h := range hosts {
		name, port, err := net.SplitHostPort(h.Address)
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf("Host %s\n\tHostName %s\n\tPort %s\n\tUser %s\n\tIdentityFile %q\n\tHostKeyAlias %[1]s\n", h.Name, name, port, h.User, h.Identity)
		keys += h.Name + " " + h.HostKey + "\n"
	}
	text += fmt.Sprintf("Host *\n\tIdentitiesOnly yes\n\tBatchMode yes\n\tLogLevel ERROR\n\tUserKnownHostsFile %q\n", known)
	return config, errors.Join(os.WriteFile(config, []byte(text), 0o600), os.WriteFile(known, []byte(keys), 0o600))
}

// How often the line is cut while a reset reads. With less than cutLeast between, a cut may hit a command on the backup
// host, which nobody tries again, instead of the files.
const (
	cutTimes = 10
	cutLeast = 1_000_000
)

// resetCut is resetStaging while the line is cut. A reset that was not cut cutTimes is no figure: a small backup comes too
// soon.
func resetCut(ctx context.Context, a *arena) (sample, error) {
	cutting, stop := context.WithCancel(ctx)
	cuts, failed := 0, make(chan error, 1)
	go func() {
		var err error
		cuts, err = cutEach(cutting, a.bytes, a.distance/2, a.passed, a.lab.Cut)
		failed <- err
	}()
	s, err := resetStaging(ctx, a)
	stop()
	err = errors.Join(err, <-failed)
	if s.cuts = cuts; cuts < cutTimes {
		s.seconds = nil
	}
	return s, err
}

// cutEach cuts cutTimes while so many bytes pass, in even parts, or until ctx ends. What passes twice because of a cut is
// not known to be so, and what passes while a cut is under way belongs to no part: the parts become smaller for that. A
// cut is as late as the line is long, so that what was counted has arrived.
func cutEach(ctx context.Context, bytes int64, late time.Duration, passed func() (int64, error), cut func() error) (cuts int, err error) {
	start, err := passed()
	last, now := start, start
	for err == nil && cuts < cutTimes {
		part, wait := max((start+bytes-last)/int64(cutTimes-cuts+1), cutLeast), 5*time.Millisecond
		if now, err = passed(); now-last >= part {
			wait = late
		}
		select {
		case <-ctx.Done():
			return cuts, err
		case <-time.After(wait):
		}
		if err == nil && now-last >= part {
			if err = cut(); err == nil {
				cuts++
				last, err = passed()
			}
		}
	}
	return cuts, err
}

// passed is how many bytes have gone over the line to the backup host, both ways: what the process before it has read.
func (a *arena) passed() (int64, error) {
	path := fmt.Sprintf("/proc/%d/io", a.lab.FarPID)
	read := find(path, processRead)
	n, err := strconv.ParseInt(read, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("asking %s for what has passed: %w", path, err)
	}
	return n, nil
}

var processRead = regexp.MustCompile(`(?m)^rchar: (\d+)$`) // proc(5)

// place sets where the backup host is: without a line to it where the trial is near, far away in any other.
func (a *arena) place(trial string) error {
	rtt := a.distance
	if a.near = trial == near; a.near {
		rtt = 0
	}
	return a.lab.Far(rtt)
}
