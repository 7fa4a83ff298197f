package restore

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Loader is a program of ours on staging that sees rows in this machine's place: it pulls those of a backup from the
// backup host, masks and loads them, and searches for what it sampled; or it reads those of the new database alone, for what
// may be one of our canaries. It runs the code of this package (Serve). It logs in to the backup host by a key that it is
// lent, and ends with its connection.
type Loader struct {
	staging *host.Host
	to      *lines
	stdin   *io.PipeWriter
	stop    context.CancelFunc
	answers chan answer // closed when the program has ended
	unheard chan struct{}
	hush    sync.Once // closes unheard
	why     error     // it ended; set before answers is closed

	prepared *Restore
}

// StartLoader starts the program at path, on staging's host, and has it log in to the backup host, unless that is nil. It
// lives as long as the target. An error is run.Unreachable where either host does not let that happen: staging's sshd
// forwards no agent (host.ErrNoAgent), or staging does not reach the backup host.
func StartLoader(ctx context.Context, t *run.Target, path string, db *inventory.Database, staging, backup *host.Host) (*Loader, error) {
	known := &ends{Version: Version, Database: public(db), Password: os.Getenv(db.Staging.PasswordEnv)}
	if backup != nil {
		access, err := backup.Access()
		if err != nil {
			return nil, err
		}
		known.Access, known.ReadAhead = &access, backup.Memory
	}
	l := start(ctx, t, path, staging, backup)
	t.Cleanup("end the loader on "+staging.Name(), func(context.Context) error { l.close(); return nil })
	if _, err := l.ask(ctx, ask{Do: toConnect, Ends: known}, nil); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// public is what the program needs to know of a database.
func public(db *inventory.Database) *inventory.Database {
	known := func(h *inventory.Host) *inventory.Host {
		return &inventory.Host{Name: h.Name, Address: h.Address, User: h.User, Role: h.Role, PostgresBin: h.PostgresBin, State: h.State}
	}
	staging := db.Staging
	staging.Host = known(staging.Host)
	return &inventory.Database{Name: db.Name, Staging: staging, Backups: inventory.Backups{Host: known(db.Backups.Host), Path: db.Backups.Path}}
}

func start(ctx context.Context, t *run.Target, path string, staging, backup *host.Host) *Loader {
	ctx, stop := context.WithCancel(ctx)
	in, stdin := io.Pipe()
	stdout, out := io.Pipe()
	l := &Loader{staging: staging, to: &lines{w: stdin}, stdin: stdin, stop: stop, answers: make(chan answer), unheard: make(chan struct{})}
	go func() {
		err := staging.Run(ctx, host.Cmd{Args: []string{path}, Stdin: in, Stdout: out, Lend: backup})
		if err == nil {
			err = io.EOF
		}
		in.CloseWithError(err)
		out.CloseWithError(err)
	}()
	go l.listen(stdout, t.Warn)
	go l.live()
	return l
}

// longestAnswer bounds what is kept of a line. The longest has a TOC.
const longestAnswer = 512 << 20

// listen takes in what the program says until it has ended. A line that is no answer is not shown: nobody knows what is in it.
func (l *Loader) listen(stdout *io.PipeReader, warn func(string, ...any)) {
	defer close(l.answers)
	defer l.stop()
	from := bufio.NewScanner(stdout)
	from.Buffer(nil, longestAnswer)
	for from.Scan() {
		var a answer
		if err := decode(from.Bytes(), &a); err != nil {
			l.why = run.Fail(run.Unexpected, "", "the loader on %s says what is no answer", l.staging.Name())
			_ = stdout.CloseWithError(l.why) // which ends the program
			return
		}
		if a.Warning != "" {
			warn("%s", a.Warning)
			continue
		}
		select {
		case l.answers <- a:
		case <-l.unheard:
		}
	}
	l.why = l.ended(from.Err())
}

// ended says what the end of the program means, without what it wrote to stderr: the stack of a panic may quote a row.
func (l *Loader) ended(err error) error {
	var exit *host.ExitError
	status := 0
	if errors.As(err, &exit) {
		status = exit.Status
	} else if err != nil {
		return err
	}
	return run.Fail(run.Unreachable, "what ended it there? With status 137 the kernel's log may say that memory ran out; `transfer: relay` in the inventory needs none there",
		"the loader on %s ended early, with exit status %d", l.staging.Name(), status)
}

// saysNothing is the error of an answer without what was asked for: a check that was not made is none that was passed.
func (l *Loader) saysNothing() error {
	return run.Fail(run.Unexpected, "", "the loader on %s says that it has searched, and not what it found", l.staging.Name())
}

// live tells the program that we are there, until it has ended.
func (l *Loader) live() {
	tick := time.NewTicker(signOfLife)
	defer tick.Stop()
	for range tick.C {
		if l.to.write(ask{}) != nil {
			return
		}
	}
}

// close ends the program, which takes the end of its stdin as the word to, and returns when it has ended.
func (l *Loader) close() {
	l.hush.Do(func() { close(l.unheard) })
	l.stdin.Close()
	late := time.AfterFunc(patience, l.stop)
	defer late.Stop()
	for range l.answers {
	}
}

// patience is how long the program may take to end what it does.
const patience = 2 * time.Second

// ask asks the program for one thing; s, which may be nil, shows how far it is.
func (l *Loader) ask(ctx context.Context, a ask, s *run.Step) (answer, error) {
	if err := l.to.write(a); err != nil && ctx.Err() == nil {
		for range l.answers { // until it is known why nobody reads
		}
		return answer{}, l.why
	}
	for {
		select {
		case got, ok := <-l.answers:
			if !ok && ctx.Err() == nil {
				return answer{}, l.why
			}
			if got.Progress != nil && s != nil {
				s.Follow(*got.Progress)
			}
			if got.Suspect != nil && a.judge != nil {
				a.judge(*got.Suspect)
			}
			if got.Failed != nil {
				return got, got.Failed.err()
			}
			if got.Done {
				return got, nil
			}
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			l.close()
			return answer{}, context.Cause(ctx)
		}
	}
}

// TOC is Archive.TOC, read by the program, with which some rows of a file of pg_dump -Fc come.
func (l *Loader) TOC(ctx context.Context, b *archive.Backup) (*archive.TOC, []byte, error) {
	got, err := l.ask(ctx, ask{Do: toRead, Job: &job{Backup: b.ID, Kind: b.Kind, Files: b.Manifest.Files}}, nil)
	if err != nil {
		return nil, nil, err
	}
	toc, err := archive.ParseTOC(got.TOC)
	return toc, got.TOC, err
}

// loadRows loads the rows of all tables: this machine does, or the Loader.
func (r *Restore) loadRows(ctx context.Context, s *run.Step) error {
	switch {
	case r.Loader != nil:
		_, err := r.remotely(ctx, r.Loader, ask{Do: toLoad}, s)
		return err
	case r.toc.Kind == archive.Custom:
		return r.loadArchive(ctx, s)
	}
	return r.loadTables(ctx, s)
}

// searchRows is search, by who has loaded.
func (r *Restore) searchRows(ctx context.Context, s *run.Step, allowed []string) (found Searched, err error) {
	if r.Loader == nil {
		return r.search(ctx, s, allowed)
	}
	got, err := r.remotely(ctx, r.Loader, ask{Do: toSearch, Allowed: allowed}, s)
	if got.Found != nil {
		found = *got.Found
	} else if err == nil {
		err = r.Loader.saysNothing()
	}
	return found, err
}

// countArchive is countInArchive, by who will load.
func (r *Restore) countArchive(ctx context.Context) ([]TableResult, error) {
	if r.Loader == nil {
		return r.countInArchive(ctx)
	}
	got, err := r.remotely(ctx, r.Loader, ask{Do: toCount}, nil)
	return got.Skipped, err
}

// remotely asks l, which has to know first what this restore is.
func (r *Restore) remotely(ctx context.Context, l *Loader, a ask, s *run.Step) (answer, error) {
	if l.prepared != r {
		_, toc, err := r.Contents()
		if err != nil {
			return answer{}, err
		}
		if _, err := l.ask(ctx, ask{Do: toPrepare, Job: r.job(toc)}, nil); err != nil {
			return answer{}, err
		}
		l.prepared = r
	}
	return l.ask(ctx, a, s)
}

func (r *Restore) job(toc []byte) *job {
	j := &job{Database: r.Database, Dir: r.dir, Backup: r.Backup.ID, Kind: r.Backup.Kind, Files: r.Backup.Manifest.Files, TOC: toc}
	if r.Loader != nil {
		j.Key = r.Key.Secret()
	}
	j.File, j.Rules = r.Rules.Text()
	for _, t := range r.Plan.Tables {
		j.Tables = append(j.Tables, t.Table)
	}
	return j
}

// backup is that of a job, as far as its files are concerned.
func (j *job) backup() *archive.Backup {
	return &archive.Backup{ID: j.Backup, Kind: j.Kind, Manifest: &archive.Manifest{Files: j.Files}}
}

// restore is the restore of a job, as far as rows are concerned: without a Target, and without a Session.
func (j *job) restore(staging *postgres.Server, from *archive.Archive) (*Restore, error) {
	toc, err := archive.ParseTOC(j.TOC)
	if err != nil {
		return nil, err
	}
	rules, err := mask.Parse(j.File, j.Rules)
	if err != nil {
		return nil, err
	}
	plan, err := rules.Plan(j.Tables)
	if err != nil {
		return nil, err
	}
	r := &Restore{Archive: from, Backup: j.backup(), Staging: staging, Database: j.Database, Rules: rules, Key: mask.KeyOf(j.Key), toc: toc, dir: j.Dir, near: true}
	r.plan(plan)
	return r, nil
}
