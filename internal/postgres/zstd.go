package postgres

import (
	"context"
	"errors"
	"strings"

	"rehearsal/internal/host"
)

// ZstdSince is the first major version whose pg_dump packs rows by zstd, and whose pg_restore reads that, where they were
// built with it.
const ZstdSince = 16

// emptyZstd is an archive without any entry, as pg_dump -Fc --compress=zstd of PostgreSQL 16 would make it: format 1.15,
// integers of 4 bytes with their signs before them, offsets of 8, zstd; a time, three empty strings, no entries (WriteHead
// in pg_backup_archiver.c).
var emptyZstd = "PGDMP\x01\x0f\x00\x04\x08\x01\x03" +
	strings.Repeat(zero, 3) + "\x00\x01\x00\x00\x00" + zero + "\x00\x7e\x00\x00\x00" + zero +
	strings.Repeat(zero, 3) + zero

const zero = "\x00\x00\x00\x00\x00"

// ReadsZstd says whether a dump packed by zstd could be restored on the server's host: whether the program zstd is there,
// and pg_restore reads an empty one. One that was built without zstd only warns.
func (s *Server) ReadsZstd(ctx context.Context) (bool, error) {
	var said strings.Builder
	err := s.Host.Run(ctx, host.Cmd{Script: `command -v zstd >/dev/null && exec "$@" >/dev/null`, Args: []string{s.Tool("pg_restore"), "--list"},
		Env: map[string]string{"LC_ALL": "C"}, Stdin: strings.NewReader(emptyZstd), Stderr: &said})
	var exit *host.ExitError
	if errors.As(err, &exit) {
		return false, nil
	}
	return err == nil && !strings.Contains(said.String(), "does not support compression"), err
}
