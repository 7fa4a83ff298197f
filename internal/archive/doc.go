// Package archive is what lies on the backup host: folders PATH/ID with a manifest, a plain pg_dump -Fd and
// the records of its rehearsals.
//
// It reads the catalogue in one round trip, judges what it finds, and reads a backup's files as streams that
// are hashed as they pass: no byte of a backup counts before its sha256 is the manifest's. Writing is atomic:
// a backup appears under its ID when it is whole and on disk, never before. Files of published backups are
// never changed; a rehearsal adds a record beside them.
package archive
