package restore

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/canary"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// What a Loader and Serve say to each other: lines, each of them one JSON object. The runner asks one thing after the other,
// and the last answer to each has Done or Failed; without either it does not count. What one of them does not know is an
// error: they are of one source, but for a file that somebody forgot beside a compiled runner.
//
// No row crosses in either direction: counts do, and the names of tables and columns; and of what a Sieve let through on
// staging, the fields, to this machine. The masking key and, where there is one, PostgreSQL's password go to the program's
// stdin and are in its memory only.

// Version is that of all that follows, and of what the program does with it.
const Version = 2

// ask is a line of the runner.
type ask struct {
	Do      verb          `json:"do,omitempty"` // empty: the runner is still there
	Ends    *ends         `json:"ends,omitempty"`
	Job     *job          `json:"job,omitempty"`
	Allowed []string      `json:"allowed,omitempty"`
	Sieve   *canary.Sieve `json:"sieve,omitempty"`

	judge func(canary.Suspect) // gets what the sieve lets through
}

// verb is what is asked for.
type verb string

const (
	toConnect verb = "connect" // Ends: where the backup comes from and goes to; the first to be asked
	toPrepare verb = "prepare" // Job: the restore that all of the others are about
	toRead    verb = "read"    // Job, without a restore: the TOC of a file of pg_dump -Fc
	toCount   verb = "count"   // the rows in a file of pg_dump -Fc that are not loaded: Skipped
	toLoad    verb = "load"
	toSearch  verb = "search" // Allowed, as Search has it: Found
	toSift    verb = "sift"   // Allowed, Sieve: the same without the canaries: Suspects, then Read
)

// answer is a line of the program.
type answer struct {
	Progress *run.Progress   `json:"progress,omitempty"`
	Warning  string          `json:"warning,omitempty"`
	Done     bool            `json:"done,omitempty"`
	Failed   *failure        `json:"failed,omitempty"`
	Found    *Searched       `json:"found,omitempty"`
	Suspect  *canary.Suspect `json:"suspect,omitempty"`
	Read     *reading        `json:"read,omitempty"`
	Skipped  []TableResult   `json:"skipped,omitempty"`
	TOC      []byte          `json:"toc,omitempty"`
}

// ends are both ends of a transfer, as the runner knows them.
type ends struct {
	Version   int                 `json:"version"`
	Database  *inventory.Database `json:"database"`         // its staging, and the folder of its backups
	Access    *host.Access        `json:"access,omitempty"` // to the backup host; nil: nothing is read there
	Password  string              `json:"password,omitempty"`
	ReadAhead int64               `json:"read_ahead,omitempty"`
}

// job is a restore as its runner has rehearsed it.
type job struct {
	Database string           `json:"database"` // the new one
	Dir      string           `json:"dir"`
	Backup   string           `json:"backup"` // its ID
	Kind     archive.Kind     `json:"kind"`
	Files    []archive.File   `json:"files"` // of the manifest, whose events are nobody's business there
	TOC      []byte           `json:"toc"`
	File     string           `json:"file"` // columns.yaml, for messages
	Rules    []byte           `json:"rules"`
	Tables   []postgres.Table `json:"tables"`        // with their indexes, which the new database has not yet
	Key      []byte           `json:"key,omitempty"` // where rows are masked
}

// failure is an error as it crosses.
type failure struct {
	Code    run.Code `json:"code"`
	Hint    string   `json:"hint,omitempty"`
	Message string   `json:"message"`
}

// failed makes err cross. Nobody has interrupted the program but a runner that no longer listens.
func failed(err error) *failure {
	f := &failure{run.CodeOf(err), run.HintOf(err), err.Error()}
	if f.Code == run.Interrupted {
		f.Code = run.Unexpected
	}
	return f
}

func (f *failure) err() error { return run.Fail(f.Code, f.Hint, "%w", errors.New(f.Message)) }

// signOfLife is how often the runner says that it is still there. A program that hears nothing for four times as long ends:
// a line may be dead for hours before sshd notices. A variable, so that a test need not wait as long.
var signOfLife = 10 * time.Second

// decode reads a line.
func decode(line []byte, value any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	return d.Decode(value)
}

// lines writes values as lines, for several goroutines.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) write(value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.w.Write(append(text, '\n'))
	return err
}
