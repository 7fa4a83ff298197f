package restore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/canary"
	"rehearsal/internal/host"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Serve is the other end of a Loader, on staging: it does what it reads from in, and answers to out, until in ends or says
// nothing for a while, or ctx ends. What it has started has ended when it returns, and nothing of it is left. An error is
// one of the conversation; what goes wrong in the work is an answer.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{to: &lines{w: out}}
	defer s.close()
	asks, broken := make(chan ask), make(chan error, 1)
	go func() {
		defer cancel()
		broken <- hear(ctx, in, asks, cancel)
	}()
	for {
		select {
		case a := <-asks:
			if err := s.answer(ctx, a); err != nil {
				return err
			}
		case <-ctx.Done():
			select {
			case err := <-broken:
				return err
			default:
				return nil
			}
		}
	}
}

// hear passes on what is asked, and calls silent when nothing has been heard for too long.
func hear(ctx context.Context, in io.Reader, asks chan<- ask, silent func()) error {
	timer := time.AfterFunc(4*signOfLife, silent)
	defer timer.Stop()
	from := bufio.NewReader(in)
	for {
		line, err := from.ReadBytes('\n')
		if err != nil {
			return nil
		}
		timer.Reset(4 * signOfLife)
		var a ask
		if err := decode(line, &a); err != nil {
			return errors.New("the runner says what is no question")
		}
		if a.Do == "" {
			continue
		}
		select {
		case asks <- a:
		case <-ctx.Done():
			return nil
		}
	}
}

// server is one conversation, and what it is about.
type server struct {
	to      *lines
	staging *postgres.Server
	archive *archive.Archive
	restore *Restore
	loaded  bool // its rows have passed through here: only then a search knows what to search for
}

func (s *server) close() {
	if s.archive != nil {
		s.archive.Host.Close()
	}
	if s.staging != nil {
		s.staging.Host.Close()
	}
}

// answer does what is asked, and says how far it is from time to time.
func (s *server) answer(ctx context.Context, a ask) error {
	step := run.Unseen()
	last := answer{Done: true}
	ended := make(chan error, 1)
	go func() { ended <- s.do(ctx, a, step, &last) }()
	tick := time.NewTicker(200 * time.Millisecond) // as often as a terminal is drawn
	defer tick.Stop()
	var told run.Progress
	for {
		select {
		case <-tick.C:
			if now := step.Progress(); now != told {
				told = now
				if err := s.to.write(answer{Progress: &now}); err != nil {
					return err
				}
			}
		case err := <-ended:
			if ctx.Err() != nil { // nobody listens
				return nil
			}
			if err != nil {
				last.Done, last.Failed = false, failed(err)
			}
			now := step.Progress()
			last.Progress = &now
			return s.to.write(last)
		}
	}
}

func (s *server) do(ctx context.Context, a ask, step *run.Step, last *answer) (err error) {
	switch {
	case a.Do == toConnect && a.Ends != nil && s.staging == nil:
		return s.connect(ctx, a.Ends)
	case a.Do == toPrepare && a.Job != nil && s.staging != nil:
		s.loaded = false
		if s.restore, err = a.Job.restore(s.staging, s.archive); err != nil {
			return err
		}
		return s.restore.unpackable(ctx)
	case a.Do == toRead && a.Job != nil && s.archive != nil:
		_, last.TOC, err = s.archive.TOC(ctx, a.Job.backup())
		return err
	case s.restore == nil:
	case a.Do == toCount && s.archive != nil:
		last.Skipped, err = s.restore.CountSkipped(ctx)
		return err
	case a.Do == toLoad && s.archive != nil:
		err = s.restore.loadRows(ctx, step)
		s.loaded = err == nil
		return err
	case a.Do == toSearch && s.loaded:
		var found Searched
		found, err = s.restore.search(ctx, step, a.Allowed)
		last.Found = &found
		return err
	case a.Do == toSift && a.Sieve != nil:
		return s.sift(ctx, a, step, last)
	}
	return fmt.Errorf("the loader was asked to %s out of turn", a.Do)
}

// sift reads the new database for a runner that knows the canaries.
func (s *server) sift(ctx context.Context, a ask, step *run.Step, last *answer) error {
	scanner, err := a.Sieve.Scanner(func(x canary.Suspect) { _ = s.to.write(answer{Suspect: &x}) }, a.Allowed...)
	if err != nil {
		return err
	}
	read, err := s.restore.read(ctx, step, scanner)
	last.Read = &read
	return err
}

// connect makes this machine staging, and logs in to the backup host where there is something to fetch.
func (s *server) connect(ctx context.Context, e *ends) error {
	if e.Version != Version {
		return run.Fail(run.Usage, "build the loader beside this program anew: see README.md", "the loader is of version %d, this program of %d", Version, e.Version)
	}
	db := e.Database
	local, err := host.Local(db.Staging.Host)
	if err != nil {
		return err
	}
	s.staging = &postgres.Server{Host: local, Spec: db.Staging}
	if name := db.Staging.PasswordEnv; name != "" {
		if err := os.Setenv(name, e.Password); err != nil {
			return err
		}
	}
	if e.Access == nil {
		return nil
	}
	backup, err := host.DialAccess(ctx, db.Backups.Host, *e.Access)
	if err != nil {
		return fmt.Errorf("from %s: %w", db.Staging.Host.Name, err)
	}
	backup.WarnTo(func(format string, args ...any) { _ = s.to.write(answer{Warning: fmt.Sprintf(format, args...)}) })
	backup.ReadAhead(e.ReadAhead)
	s.archive = &archive.Archive{Host: backup, Database: db}
	return nil
}
