package archive

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Backup is one backup as the catalogue shows it.
type Backup struct {
	ID          string
	Kind        Kind
	Manifest    *Manifest   // nil where it cannot be read; of one made by others what its archive says, without counts and hashes
	Problem     string      // why it is bad by what lies there, whatever its age; empty: nothing is known against it
	Failed      string      // what the newest rehearsal of it found, where that is newer than any that succeeded
	Suspicions  []string    // against floors and history
	Against     string      // ID of the backup it was compared with; empty: there is no history
	Accepted    *Acceptance // by a human, suspicions and all; nil: not
	Verdict     Verdict
	RehearsedAt time.Time // of the newest rehearsal that succeeded; zero: never

	changed  time.Time // of one made by others: when its file was
	stranger bool      // it is whole, and of another server than the inventory's
	old      bool      // its newest event is older than max_age, and nothing else is suspicious
	settled  bool      // a rehearsal found nothing suspicious: what it was compared with may be pruned by now
	writable bool      // its rehearsal can be recorded
}

// Kind says how a backup was made.
type Kind string

// The kinds.
const (
	Ours      Kind = ""            // by backup:create
	Custom    Kind = "pg_dump -Fc" // by others, one file
	Directory Kind = "pg_dump -Fd" // by others, a folder
)

// Acceptance is a human's word that a suspicious backup is what it should be.
type Acceptance struct {
	Why        string    `json:"why"`
	By         string    `json:"by"` // user@host
	At         time.Time `json:"accepted_at"`
	Suspicions []string  `json:"suspicions"` // as they were then
}

// Archive is the folder of one database's backups on the backup host.
type Archive struct {
	Host     *host.Host
	Database *inventory.Database
}

// Path is the absolute path of the folder on the backup host, with elem joined to it.
func (a *Archive) Path(elem ...string) string {
	return path.Join(append([]string{a.Host.Path(a.Database.Backups.Path)}, elem...)...)
}

// noFolder is the exit status of the listing where the folder is not there (EX_NOINPUT of sysexits.h).
const noFolder = 66

// listing prints, for each backup in the folder $1, its manifest, its records and what a human said of it, each text
// behind a line with the number of its lines; of what others put there when it was changed and its first bytes, in hex;
// whether we may write beside it, and the sizes of all files; "end" in the end. One ls and one awk for all of them: what
// a program takes to start is most of what a catalogue of hundreds costs. So awk reads the texts; of one that cannot be
// read it prints nothing.
//
// ls -n has the format that POSIX gives for ls -l; names of a dump's files have no blanks. /dev/null makes ls print the
// name of a folder though there is only one.
const listing = `
cd -- "$1" 2>/dev/null || exit 66
export LC_ALL=C
newline='
'
text() {
	case $2 in *"$newline"*) ;; *) [ -f "$2" ] && printf '%s %s\n' "$1" "$2" ;; esac
}
records() {
	for record in "$1"/*.json; do
		case $record in */accepted.json) text accepted "$record" ;; *) text record "$record" ;; esac
	done
}
changed() {
	printf 'changed %d -\n' "$(stat -c %Y -- "$1" 2>/dev/null || stat -f %m -- "$1" 2>/dev/null || echo 0)" # GNU's and busybox', or BSD's
}
foreign() {
	printf 'foreign %d %s\n' "$1" "$2"
	changed "$3"
	echo "head 0 " $(od -An -v -tx1 -N512 -- "$3") # on one line
	[ ! "$ours" ] || printf 'writable 0 %s\n' "$2"
	records "./.rehearsals/$2"
}
sizes() {
	[ $# = 0 ] || { echo sizes; ls -ln -- "$@" /dev/null 2>/dev/null; echo sized; }
}
list() {
	ours=
	[ ! -w . ] || [ ! -x . ] || ours=1
	for id in *; do
		case $id in
		*"$newline"*) continue ;;
		*[!0-9TZ]*) sealed= ;;
		*) sealed=1 ;;
		esac
		if [ -L "$id" ]; then
			continue
		elif [ -d "$id" ] && [ "$sealed" ]; then
			printf 'backup 0 %s\n' "$id"
			[ ! -w "$id" ] || [ ! -x "$id" ] || printf 'writable 0 %s\n' "$id"
			text manifest "./$id/manifest.json"
			text accepted "./$id/accepted.json"
			records "./$id/rehearsals"
			set -- "$@" "./$id/dump"
		elif [ -f "$id" ]; then
			foreign 0 "$id" "./$id"
			set -- "$@" "./$id"
		elif [ -f "$id/toc.dat" ]; then
			foreign 1 "$id" "./$id/toc.dat"
			set -- "$@" "./$id"
		fi
		[ $# -lt 200 ] || { sizes "$@"; set --; } # a command line has its length
	done
	sizes "$@"
	echo "end 0 -"
}
if command -v gzip >/dev/null 2>&1; then pack='gzip -1'; else pack=cat; fi
list | awk '
$0 == "sizes" { listing = 1; folder = ""; next }
$0 == "sized" { listing = 0; next }
listing && /^\.\/.*:$/ { folder = substr($0, 1, length($0) - 1) "/"; next }
listing && /^-/ {
	name = $0
	for (i = 0; i < 8; i++) sub(/^[^ ]+ +/, "", name) # mode links uid gid bytes month day time
	print "file", $5, folder name
}
listing { next }
/^(manifest|accepted|record) / {
	file = substr($0, length($1) + 2)
	n = 0
	while ((got = (getline line < file)) > 0) lines[++n] = line
	close(file)
	if (n || got == 0) print $1, n, file
	for (i = 1; i <= n; i++) print lines[i]
	next
}
{ print }' | $pack`

// List returns every backup, newest first, by one command. A folder that does not exist holds none.
func (a *Archive) List(ctx context.Context) ([]Backup, error) {
	out, err := a.Host.Output(ctx, host.Cmd{Script: listing, Args: []string{a.Path()}})
	var exit *host.ExitError
	if errors.As(err, &exit) && exit.Status == noFolder {
		return nil, nil
	}
	var backups []Backup
	if err == nil {
		backups, err = readListing(out)
	}
	if err != nil {
		return nil, fmt.Errorf("listing %s on %s: %w", a.Path(), a.Host.Name(), err)
	}
	a.judge(backups)
	return backups, nil
}

// Recordable fails with run.Unreachable where the catalogue saw that a rehearsal of b could not be recorded, before
// anything depends on it.
func (a *Archive) Recordable(b *Backup) error {
	if b.writable {
		return nil
	}
	dir := a.Path(b.ID)
	if b.Kind != Ours {
		dir = a.Path()
	}
	return run.Fail(run.Unreachable, fmt.Sprintf("let %s write to it on %s", a.Database.Backups.Host.User, a.Host.Name()),
		"%s on %s is not writable, so the rehearsal could not be recorded", dir, a.Host.Name())
}

// readListing parses what the host printed, packed where it has gzip: manifests and records are mostly the same words.
func readListing(out string) ([]Backup, error) {
	if strings.HasPrefix(out, "\x1f\x8b") {
		unpacked, err := gzip.NewReader(strings.NewReader(out))
		if err != nil {
			return nil, fmt.Errorf("unpacking the host's answer: %w", err)
		}
		text, err := io.ReadAll(unpacked)
		if err != nil {
			return nil, fmt.Errorf("unpacking the host's answer: %w", err)
		}
		out = string(text)
	}
	return parseListing(out)
}

// found is one backup while its part of the listing is read.
type found struct {
	Backup
	folder   bool             // of others: a folder, not a file
	head     []byte           // of others: the first bytes of the archive
	sizes    map[string]int64 // of its files
	texts    []func()         // add what was read of it
	reason   string           // why there is no manifest
	failed   time.Time        // of the newest rehearsal that failed
	failure  string
	restored []postgres.TableRows // what the newest rehearsal that succeeded counted
}

func parseListing(out string) ([]Backup, error) {
	r := bufio.NewReader(strings.NewReader(out))
	var all []*found
	byID := map[string]*found{}
	begin := func(f *found, id string) {
		f.ID, f.sizes = id, map[string]int64{}
		all, byID[id] = append(all, f), f
	}
	for {
		line, err := r.ReadString('\n')
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		number, name, ok := strings.Cut(rest, " ")
		n, numberErr := strconv.ParseInt(number, 10, 64)
		if err != nil && line == "" {
			return nil, errors.New("the host's answer breaks off")
		}
		if err != nil || !ok || numberErr != nil || len(all) == 0 && kind != "backup" && kind != "foreign" && kind != "end" {
			return nil, fmt.Errorf("the host's answer is not a listing: %q", line)
		}
		switch kind {
		case "backup":
			begin(&found{reason: "it has no manifest.json"}, name)
		case "foreign":
			begin(&found{Backup: Backup{Kind: Custom}, folder: n == 1}, name)
		case "file":
			addSize(byID, name, n)
		case "end":
			return finished(all), nil
		case "head", "changed", "writable":
			all[len(all)-1].note(kind, n, name)
		default:
			text, err := readLines(r, n)
			if err != nil {
				return nil, fmt.Errorf("the host's answer breaks off within %s", name)
			}
			f := all[len(all)-1]
			f.texts = append(f.texts, func() { f.add(kind, text) })
		}
	}
}

// readLines reads n lines.
func readLines(r *bufio.Reader, n int64) (text []byte, err error) {
	for ; n > 0 && err == nil; n-- {
		var line []byte
		line, err = r.ReadBytes('\n')
		text = append(text, line...)
	}
	return text, err
}

// addSize takes the size of a file: ./ID/dump/NAME, or ./ID/NAME or ./ID of what others made.
func addSize(byID map[string]*found, file string, bytes int64) {
	id, name, inFolder := strings.Cut(strings.TrimPrefix(file, "./"), "/")
	f := byID[id]
	switch {
	case f == nil:
	case !inFolder:
		f.sizes[id] = bytes
	case f.Kind == Ours:
		f.sizes[strings.TrimPrefix(name, "dump/")] = bytes
	default:
		f.sizes[name] = bytes
	}
}

// finished are those of all that are backups. Reading the JSON of hundreds takes as long as a round trip, so all processors
// do it.
func finished(all []*found) (backups []Backup) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, f := range all {
		g.Go(func() error {
			for _, add := range f.texts {
				add()
			}
			return nil
		})
	}
	_ = g.Wait() // nothing can fail
	for _, f := range all {
		if f.finish() {
			backups = append(backups, f.Backup)
		}
	}
	return backups
}

// note takes what one line says.
func (f *found) note(kind string, n int64, text string) {
	switch kind {
	case "head":
		f.head, _ = hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	case "changed":
		f.changed = time.Unix(n, 0).UTC()
	case "writable":
		f.writable = true
	}
}

// add takes a manifest, a human's acceptance, or the record of a rehearsal. A record or acceptance that cannot be read
// counts for nothing.
func (f *found) add(kind string, text []byte) {
	switch kind {
	case "manifest":
		m, err := ParseManifest(f.ID, text)
		if err != nil {
			f.reason = err.Error()
			return
		}
		f.Manifest = m
	case "accepted":
		var a Acceptance
		if json.Unmarshal(text, &a) == nil && a.Why != "" {
			f.Accepted = &a
		}
	default:
		f.rehearsed(text)
	}
}

// rehearsed takes a record: the newest one that succeeded, and the newest one that did not, count.
func (f *found) rehearsed(text []byte) {
	var record struct {
		Status     string               `json:"status"`
		Verdict    Verdict              `json:"verdict"`
		ExitCode   run.Code             `json:"exit_code"`
		RecordedAt time.Time            `json:"recorded_at"`
		Suspicions []string             `json:"suspicions"`
		Tables     []postgres.TableRows `json:"tables"`
		Error      struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(bytes.TrimSpace(text), &record) != nil {
		return
	}
	switch {
	case record.Status == "ok" && record.RecordedAt.After(f.RehearsedAt):
		f.RehearsedAt = record.RecordedAt
		f.Suspicions = record.Suspicions // judge finds those of our own anew
		f.restored = record.Tables
		f.settled = f.settled || record.Verdict == Verified
	case record.Status == "failed" && record.ExitCode == run.Unfit && record.RecordedAt.After(f.failed):
		f.failed = record.RecordedAt
		f.failure = fmt.Sprintf("its rehearsal of %s failed: %s", record.RecordedAt.Format(time.DateTime), record.Error.Message)
	}
}

// finish says whether this is a backup at all, and fills in what only the whole part of the listing tells.
func (f *found) finish() bool {
	if f.failed.After(f.RehearsedAt) {
		f.Failed = f.failure
	}
	if f.Kind != Ours {
		return f.foreign()
	}
	if f.Manifest == nil {
		f.Problem = f.reason
	} else {
		f.compareFiles()
	}
	return idPattern.MatchString(f.ID)
}

// compareFiles compares the files that are there with those that the manifest swears to.
func (f *found) compareFiles() {
	for _, file := range f.Manifest.Files {
		size, ok := f.sizes[strings.TrimPrefix(file.Name, "dump/")]
		if !ok {
			f.Problem = file.Name + " is missing"
			return
		}
		if size != file.Bytes {
			f.Problem = fmt.Sprintf("%s has %d bytes instead of %d", file.Name, size, file.Bytes)
			return
		}
	}
}
