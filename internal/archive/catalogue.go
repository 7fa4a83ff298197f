package archive

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

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

// listing prints, for each backup in the folder $1, its manifest, the sizes of its files, its records and what a human
// said of it, each text behind a line with its length; of what others put there the sizes and the first bytes, in hex.
// ls -n has the format that POSIX gives for ls -l; names of a dump's files have no blanks.
const listing = `
cd -- "$1" 2>/dev/null || exit 66
export LC_ALL=C
text() {
	[ -f "$2" ] && n=$(wc -c <"$2") || return 0
	printf '%s %d %s\n' "$1" "$n" "${2##*/}" && cat -- "$2" && echo
}
files() {
	ls -ln -- "$1" 2>/dev/null | while read -r mode links uid gid bytes month day time name; do
		case $mode in -*) printf 'file %s %s\n' "$bytes" "${name##*/}" ;; esac
	done
}
records() {
	for record in "$1"/*.json; do
		case $record in */accepted.json) text accepted "$record" ;; *) text record "$record" ;; esac
	done
}
changed() {
	printf 'changed %d -\n' "$(stat -c %Y -- "$1" 2>/dev/null || stat -f %m -- "$1" 2>/dev/null || echo 0)" # GNU's and busybox', or BSD's
}
for id in *; do
	case $id in
	*'
'*) continue ;;
	*[!0-9TZ]*) ours= ;;
	*) ours=1 ;;
	esac
	if [ -L "$id" ]; then
		continue
	elif [ -d "$id" ] && [ "$ours" ]; then
		printf 'backup 0 %s\n' "$id"
		text manifest "$id/manifest.json"
		text accepted "$id/accepted.json"
		files "$id/dump"
		records "$id/rehearsals"
	elif [ -f "$id" ]; then
		printf 'foreign 0 %s\n' "$id"
		changed "$id"
		printf 'head 0 %s\n' "$(od -An -v -tx1 -N512 -- "$id" | tr -d ' \n')"
		files "$id"
		records ".rehearsals/$id"
	elif [ -f "$id/toc.dat" ]; then
		printf 'foreign 1 %s\n' "$id"
		changed "$id/toc.dat"
		printf 'head 0 %s\n' "$(od -An -v -tx1 -N512 -- "$id/toc.dat" | tr -d ' \n')"
		files "$id"
		records ".rehearsals/$id"
	fi
done
:`

// List returns every backup, newest first, in one round trip. A folder that does not exist holds none.
func (a *Archive) List(ctx context.Context) ([]Backup, error) {
	out, err := a.Host.Output(ctx, host.Cmd{Script: listing, Args: []string{a.Path()}})
	var exit *host.ExitError
	if errors.As(err, &exit) && exit.Status == noFolder {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing %s on %s: %w", a.Path(), a.Host.Name(), err)
	}
	backups, err := parseListing(out)
	if err != nil {
		return nil, fmt.Errorf("listing %s on %s: %w", a.Path(), a.Host.Name(), err)
	}
	a.judge(backups)
	return backups, nil
}

// found is one backup while its part of the listing is read.
type found struct {
	Backup
	folder   bool             // of others: a folder, not a file
	head     []byte           // of others: the first bytes of the archive
	sizes    map[string]int64 // of its files
	reason   string           // why there is no manifest
	failed   time.Time        // of the newest rehearsal that failed
	failure  string
	restored []postgres.TableRows // what the newest rehearsal that succeeded counted
}

func parseListing(out string) ([]Backup, error) {
	r := bufio.NewReader(strings.NewReader(out))
	var backups []Backup
	var f *found
	finish := func() {
		if f != nil && f.finish() {
			backups = append(backups, f.Backup)
		}
	}
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF && line == "" {
			finish()
			return backups, nil
		}
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		number, name, ok := strings.Cut(rest, " ")
		n, numberErr := strconv.ParseInt(number, 10, 64)
		if err != nil || !ok || numberErr != nil || f == nil && kind != "backup" && kind != "foreign" {
			return nil, fmt.Errorf("the host's answer is not a listing: %q", line)
		}
		switch kind {
		case "backup":
			finish()
			f = &found{Backup: Backup{ID: name}, sizes: map[string]int64{}, reason: "it has no manifest.json"}
		case "foreign":
			finish()
			f = &found{Backup: Backup{ID: name, Kind: Custom}, sizes: map[string]int64{}, folder: n == 1}
		case "head":
			f.head, _ = hex.DecodeString(name)
		case "file":
			f.sizes[name] = n
		case "changed":
			f.changed = time.Unix(n, 0).UTC()
		default:
			text := make([]byte, n+1)
			if _, err := io.ReadFull(r, text); err != nil {
				return nil, fmt.Errorf("the host's answer ends within %s of %s", name, f.ID)
			}
			f.add(kind, text[:n])
		}
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
