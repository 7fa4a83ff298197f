package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"rehearsal/internal/postgres"
)

// Format is the version of the manifest that this package writes; it refuses newer ones.
const Format = 1

// Manifest is what backup:create swears about a backup: where it comes from, what it holds, and every byte.
type Manifest struct {
	Format        int                  `json:"format"`
	ID            string               `json:"id"`
	Database      string               `json:"database"`
	CreatedAt     time.Time            `json:"created_at"` // when the snapshot was taken
	Source        Source               `json:"source"`
	PgDumpVersion string               `json:"pg_dump_version"`
	DatabaseBytes int64                `json:"database_bytes,omitempty"` // size on the source's disk, indexes and dead rows included
	Tables        []postgres.TableRows `json:"tables"`                   // counted in the dump's own snapshot
	NewestEvents  []postgres.Event     `json:"newest_events"`
	Files         []File               `json:"files"`
}

// Source is the server that a backup was taken from.
type Source struct {
	Host             string    `json:"host"`
	SystemIdentifier string    `json:"system_identifier"`
	ServerVersion    string    `json:"server_version"`
	DataDirectory    string    `json:"data_directory"`
	StartedAt        time.Time `json:"started_at"`
	LSN              string    `json:"lsn"`
}

// File is one file of a backup, by its path below the backup's folder.
type File struct {
	Name   string `json:"name"` // dump/toc.dat
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // lower-case hex
}

// IDLayout is the layout of IDs, in UTC: 20260101T020000Z.
const IDLayout = "20060102T150405Z"

var idPattern = regexp.MustCompile(`^\d{8}T\d{6}Z$`)

// ParseManifest reads and checks a manifest.json of the backup in folder id. Unknown fields are fine (newer
// minor versions add some); missing ones are not.
func ParseManifest(id string, data []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("manifest.json is not a manifest: %s", jsonError(data, err))
	}
	switch {
	case m.Format < 1:
		return nil, fmt.Errorf("manifest.json has no format")
	case m.Format > Format:
		return nil, fmt.Errorf("manifest.json has format %d, newer than this program's %d", m.Format, Format)
	case m.ID != id:
		return nil, fmt.Errorf("manifest.json is that of backup %q", m.ID)
	case m.CreatedAt.IsZero():
		return nil, fmt.Errorf("manifest.json does not say when the backup was created")
	case m.Source.SystemIdentifier == "":
		return nil, fmt.Errorf("manifest.json does not say which server the backup is from")
	case len(m.Tables) == 0:
		return nil, fmt.Errorf("manifest.json lists no table")
	}
	return &m, m.checkFiles()
}

func (m *Manifest) checkFiles() error {
	seen := map[string]bool{}
	for _, f := range m.Files {
		switch {
		case f.Name != path.Clean(f.Name) || !strings.HasPrefix(f.Name, "dump/") || strings.ContainsAny(f.Name, "\n\x00"):
			return fmt.Errorf("manifest.json lists a file %q, which is not one of a dump", f.Name)
		case f.Bytes < 0 || len(f.SHA256) != 64:
			return fmt.Errorf("manifest.json has no size or sha256 for %s", f.Name)
		case seen[f.Name]:
			return fmt.Errorf("manifest.json lists %s twice", f.Name)
		}
		seen[f.Name] = true
	}
	if !seen["dump/toc.dat"] {
		return fmt.Errorf("manifest.json does not list dump/toc.dat")
	}
	return nil
}

// jsonError says where in the text a JSON error is.
func jsonError(data []byte, err error) string {
	offset := int64(-1)
	switch e := err.(type) {
	case *json.SyntaxError:
		offset = e.Offset
	case *json.UnmarshalTypeError:
		offset = e.Offset
	}
	if offset < 0 || offset > int64(len(data)) {
		return err.Error()
	}
	return fmt.Sprintf("line %d: %s", bytes.Count(data[:offset], []byte("\n"))+1, err)
}

// Rows is the number of rows in all tables.
func (m *Manifest) Rows() (n int64) {
	for _, t := range m.Tables {
		n += t.Rows
	}
	return n
}

// Bytes is the size of all files.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Bytes
	}
	return n
}

// File finds a file by its path below the backup's folder.
func (m *Manifest) File(name string) (File, bool) {
	for _, f := range m.Files {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}
