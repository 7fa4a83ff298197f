package archive

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Verdict is what is known of a backup.
type Verdict string

// The verdicts.
const (
	Verified Verdict = "verified" // restored, and its rows were counted
	Sealed   Verdict = "sealed"   // created, not yet restored
	Bad      Verdict = "bad"      // damaged, empty, or of another server
)

// Backup is one backup as the catalogue shows it.
type Backup struct {
	ID          string
	Manifest    *Manifest // nil where it cannot be read
	Problem     string    // why it is not fit, whatever its age: empty where nothing is known against it
	Verdict     Verdict
	RehearsedAt time.Time // of the newest rehearsal that succeeded; zero: never
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

// listing prints, for each backup in the folder $1, its manifest, the sizes of its files and its records, each
// text behind a line with its length. ls -n has the format that POSIX gives for ls -l; names of a dump's files
// have no blanks.
const listing = `
cd -- "$1" 2>/dev/null || exit 66
text() {
	[ -f "$2" ] && n=$(wc -c <"$2") || return 0
	printf '%s %d %s\n' "$1" "$n" "${2##*/}" && cat -- "$2" && echo
}
for id in */; do
	id=${id%/}
	case $id in *[!0-9TZ]* | '') continue ;; esac
	printf 'backup 0 %s\n' "$id"
	text manifest "$id/manifest.json"
	LC_ALL=C ls -ln -- "$id/dump" 2>/dev/null | while read -r mode links uid gid bytes month day time name; do
		case $mode in -*) printf 'file %s %s\n' "$bytes" "$name" ;; esac
	done
	for record in "$id"/rehearsals/*.json; do text record "$record"; done
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
	for i := range backups {
		a.judge(&backups[i])
	}
	slices.SortFunc(backups, func(x, y Backup) int { return strings.Compare(y.ID, x.ID) })
	return backups, nil
}

// judge says what the inventory knows about where a backup must come from.
func (a *Archive) judge(b *Backup) {
	if b.Problem == "" {
		expected := a.Database.Production.SystemIdentifier
		switch {
		case b.Manifest.Database != a.Database.Name:
			b.Problem = fmt.Sprintf("it is a backup of database %q, not of %s", b.Manifest.Database, a.Database.Name)
		case expected != "" && b.Manifest.Source.SystemIdentifier != expected:
			b.Problem = fmt.Sprintf("it was taken from the server with system identifier %s, production's in the inventory is %s",
				b.Manifest.Source.SystemIdentifier, expected)
		case b.Manifest.Rows() == 0:
			b.Problem = "it is empty: no table has a row"
		}
	}
	switch {
	case b.Problem != "":
		b.Verdict = Bad
	case !b.RehearsedAt.IsZero():
		b.Verdict = Verified
	default:
		b.Verdict = Sealed
	}
}

// found is one backup while its part of the listing is read.
type found struct {
	Backup
	sizes  map[string]int64
	reason string // of an unreadable manifest
}

func parseListing(out string) ([]Backup, error) {
	r := bufio.NewReader(strings.NewReader(out))
	var backups []Backup
	var f *found
	finish := func() {
		if f != nil && idPattern.MatchString(f.ID) {
			backups = append(backups, f.finish())
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
		if err != nil || !ok || numberErr != nil || kind != "backup" && f == nil {
			return nil, fmt.Errorf("the host's answer is not a listing: %q", line)
		}
		switch kind {
		case "backup":
			finish()
			f = &found{Backup: Backup{ID: name}, sizes: map[string]int64{}, reason: "it has no manifest.json"}
		case "file":
			f.sizes["dump/"+name] = n
		default:
			text := make([]byte, n+1)
			if _, err := io.ReadFull(r, text); err != nil {
				return nil, fmt.Errorf("the host's answer ends within %s of %s", name, f.ID)
			}
			f.add(kind, text[:n])
		}
	}
}

// add takes a manifest or the record of a rehearsal.
func (f *found) add(kind string, text []byte) {
	if kind == "manifest" {
		m, err := ParseManifest(f.ID, text)
		if err != nil {
			f.reason = err.Error()
			return
		}
		f.Manifest = m
		return
	}
	var record struct {
		Status     string    `json:"status"`
		RecordedAt time.Time `json:"recorded_at"`
	}
	if json.Unmarshal(bytes.TrimSpace(text), &record) == nil && record.Status == "ok" && record.RecordedAt.After(f.RehearsedAt) {
		f.RehearsedAt = record.RecordedAt
	}
}

// finish compares the files that are there with those that the manifest swears to.
func (f *found) finish() Backup {
	if f.Manifest == nil {
		f.Problem = f.reason
		return f.Backup
	}
	for _, file := range f.Manifest.Files {
		size, ok := f.sizes[file.Name]
		if !ok {
			f.Problem = file.Name + " is missing"
			return f.Backup
		}
		if size != file.Bytes {
			f.Problem = fmt.Sprintf("%s has %d bytes instead of %d", file.Name, size, file.Bytes)
			return f.Backup
		}
	}
	return f.Backup
}

// clockTolerance is how far the clocks of two hosts may differ before a backup counts as one of the future.
const clockTolerance = 10 * time.Minute

// Choose picks the backup with that ID or, for "", the newest. A newest backup that is not fit is an error and
// never passed over: somebody must hear of it. Errors are run.Unfit. The age is judged only where no ID asks for
// a certain backup.
func (a *Archive) Choose(backups []Backup, id string, now time.Time) (*Backup, error) {
	where := fmt.Sprintf("%s on %s", a.Database.Backups.Path, a.Database.Backups.Host.Name)
	if len(backups) == 0 {
		return nil, run.Fail(run.Unfit, "make one: mage backup:create", "no backup of %s in %s", a.Database.Name, where)
	}
	b := &backups[0]
	if id != "" {
		i := slices.IndexFunc(backups, func(b Backup) bool { return b.ID == id })
		if i < 0 {
			return nil, run.Fail(run.Unfit, "see what is there: mage backup:list", "no backup %q of %s in %s", id, a.Database.Name, where)
		}
		b = &backups[i]
	}
	if b.Problem != "" {
		return nil, run.Fail(run.Unfit, older(backups, b), "backup %s in %s is not fit: %s", b.ID, where, b.Problem)
	}
	age := now.Sub(b.Manifest.CreatedAt)
	limit := a.Database.Backups.MaxAge
	switch {
	case age < -clockTolerance:
		return nil, run.Fail(run.Unfit, "compare the clocks of production and of this machine", "backup %s in %s was created in the future, at %s",
			b.ID, where, b.Manifest.CreatedAt.Format(time.RFC3339))
	case id == "" && limit > 0 && age > limit:
		return nil, run.Fail(run.Unfit, fmt.Sprintf("make a new one: mage backup:create; or take this one on purpose: -backup=%s", b.ID),
			"the newest backup of %s is %s old (max_age is %s): %s in %s", a.Database.Name, run.Age(age), run.Age(limit), b.ID, where)
	}
	return b, nil
}

// older names the newest fit backup before b.
func older(backups []Backup, b *Backup) string {
	for _, o := range backups {
		if o.ID < b.ID && o.Problem == "" {
			return fmt.Sprintf("find out what happened to it, then take an older one on purpose: -backup=%s", o.ID)
		}
	}
	return "there is no older fit one: mage backup:create"
}
