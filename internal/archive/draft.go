package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"

	"rehearsal/internal/host"
	"rehearsal/internal/run"
)

// Draft is a backup that is being written: PATH/.partial-ID.
type Draft struct {
	archive *Archive
	ID      string
}

// Draft makes the folder of a new backup and removes what killed runs left. The caller holds the lock of
// backup:create.
func (a *Archive) Draft(ctx context.Context, id string) (*Draft, error) {
	script := `umask 077; mkdir -p -- "$1" && cd -- "$1" && rm -rf .partial-* && mkdir -p ".partial-$2/dump" ".partial-$2/rehearsals"`
	if err := a.Host.Run(ctx, host.Cmd{Script: script, Args: []string{a.Path(), id}}); err != nil {
		return nil, fmt.Errorf("making the folder for the backup: %w", err)
	}
	return &Draft{archive: a, ID: id}, nil
}

func (d *Draft) path(name string) string { return d.archive.Path(".partial-"+d.ID, name) }

// Put writes one file of so many bytes from r, over an older attempt at it if there is one, and returns what the manifest
// says of it; progress hears of every chunk. Once it returns nil the host has counted as many bytes as were hashed.
func (d *Draft) Put(ctx context.Context, name string, r io.Reader, bytes int64, progress func(int64)) (File, error) {
	sum := sha256.New()
	counter := &counted{w: sum, progress: progress}
	file := d.path(name)
	err := d.archive.Host.Write(ctx, file, io.TeeReader(r, counter), bytes)
	var exit *host.ExitError
	if errors.As(err, &exit) && exit.DiskFull() && exit.Host == d.archive.Host.Name() {
		return File{}, run.Fail(run.Unreachable, "make room there: mage backup:prune -dryRun says what could go", "writing %s on %s: No space left on device", file, d.archive.Host.Name())
	}
	if err != nil {
		return File{}, fmt.Errorf("writing the backup: %w", err)
	}
	return File{Name: name, Bytes: counter.n, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// Publish writes the manifest and gives the backup its ID. Until then nobody sees it; after that nothing of it
// changes. Files and folders are synced before the rename, the folder it happens in after it. A sync(1) that
// takes no names syncs everything.
func (d *Draft) Publish(ctx context.Context, manifest []byte) error {
	if err := d.archive.Host.WriteFile(ctx, d.path("manifest.json"), manifest); err != nil {
		return err
	}
	script := `cd -- "$1" && [ ! -e "$2" ] && { find ".partial-$2" -exec sync -- {} + 2>/dev/null || sync; } &&
		mv -- ".partial-$2" "$2" && { sync -- . 2>/dev/null || sync; }`
	if err := d.archive.Host.Run(ctx, host.Cmd{Script: script, Args: []string{d.archive.Path(), d.ID}}); err != nil {
		return fmt.Errorf("publishing backup %s: %w", d.ID, err)
	}
	return nil
}

// Discard removes the draft.
func (d *Draft) Discard(ctx context.Context) error {
	return d.archive.Host.Run(ctx, host.Cmd{Args: []string{"rm", "-rf", "--", path.Clean(d.path(""))}})
}
