package archive

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
)

// foreign judges what others put into the folder by its first bytes, and says whether it is a backup at all. Of one
// that is it makes a manifest of what the archive says: no counts, no hashes, no server.
func (f *found) foreign() bool {
	switch {
	case bytes.HasPrefix(f.head, []byte("PGDMP")):
		f.readHead()
	case f.folder:
		f.Kind, f.Problem = Directory, "its toc.dat is not one of pg_dump"
	case len(f.head) > 262 && string(f.head[257:262]) == "ustar" && bytes.HasPrefix(f.head, []byte("toc.dat\x00")):
		f.plain("a tar archive (pg_dump -Ft)")
	case bytes.Contains(f.head, []byte("-- PostgreSQL database")):
		f.plain("plain SQL")
	case bytes.HasPrefix(f.head, []byte("\x1f\x8b")) || bytes.HasPrefix(f.head, []byte("\x28\xb5\x2f\xfd")):
		f.plain("compressed as a whole, plain SQL as a rule")
	case len(f.head) == 0:
		f.Problem = "it is an empty file"
	default:
		return false
	}
	return true
}

// plain refuses a dump whose rows cannot be told from its schema before all of it is read, nor be masked on their way.
func (f *found) plain(what string) {
	f.Problem = "it is " + what + ", which cannot be restored table by table; make one by `pg_dump -Fc` or `pg_dump -Fd`, or by mage backup:create"
}

func (f *found) readHead() {
	toc, err := ParseHead(f.head)
	if err != nil {
		f.Problem = err.Error()
		return
	}
	f.Kind = Custom
	if f.folder {
		f.Kind = Directory
	}
	if toc.Kind != f.Kind {
		f.Problem = fmt.Sprintf("it is not what pg_dump makes: the format in its header is that of %s", toc.Kind)
		return
	}
	f.Manifest = &Manifest{ID: f.ID, Database: toc.Database, CreatedAt: toc.CreatedAt, PgDumpVersion: toc.DumpVersion,
		Source: Source{ServerVersion: toc.ServerVersion}, Tables: f.restored}
	for _, name := range slices.Sorted(maps.Keys(f.sizes)) {
		f.Manifest.Files = append(f.Manifest.Files, File{Name: "dump/" + name, Bytes: f.sizes[name]})
	}
}
