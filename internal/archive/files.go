package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"

	"rehearsal/internal/host"
	"rehearsal/internal/run"
)

// Copy streams one file of the backup to w and fails with run.Unfit, naming the file, unless exactly the bytes
// of the manifest passed. progress hears of every chunk. What w has seen before an error must not be used.
func (a *Archive) Copy(ctx context.Context, w io.Writer, b *Backup, name string, progress func(int64)) error {
	file, ok := b.Manifest.File(name)
	if !ok {
		return run.Fail(run.Unfit, "make a new backup: mage backup:create", "backup %s: %s is not in its manifest", b.ID, name)
	}
	sum := sha256.New()
	counter := &counted{w: io.MultiWriter(w, sum), progress: progress}
	err := a.Host.Run(ctx, host.Cmd{Args: []string{"cat", "--", a.Path(b.ID, name)}, Stdout: counter})
	if err != nil {
		return fmt.Errorf("reading %s of backup %s: %w", name, b.ID, err)
	}
	if counter.n != file.Bytes || hex.EncodeToString(sum.Sum(nil)) != file.SHA256 {
		return run.Fail(run.Unfit, "the disk or the file is damaged: look at it on "+a.Host.Name()+", and take an older backup with -backup=ID",
			"backup %s is damaged: %s on %s does not have the bytes of its manifest (%d of %d bytes, other sha256)",
			b.ID, a.Path(b.ID, name), a.Host.Name(), counter.n, file.Bytes)
	}
	return nil
}

// counted counts and reports what passes.
type counted struct {
	w        io.Writer
	n        int64
	progress func(int64)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	if c.progress != nil {
		c.progress(int64(n))
	}
	return n, err
}

// Record writes the record of a rehearsal beside the backup.
func (a *Archive) Record(ctx context.Context, id, name string, record []byte) error {
	if err := a.Host.WriteFile(ctx, a.Path(id, "rehearsals", name), record); err != nil {
		return fmt.Errorf("recording the rehearsal of backup %s: %w", id, err)
	}
	return nil
}

// Writable fails with run.Unreachable where records and backups cannot be written, before anything depends on it.
func (a *Archive) Writable(ctx context.Context, id string) error {
	_, err := a.Host.Output(ctx, host.Cmd{Script: `[ -w "$1" ] && [ -x "$1" ]`, Args: []string{a.Path(id)}})
	if err != nil {
		return run.Fail(run.Unreachable, fmt.Sprintf("let %s write to it on %s", a.Database.Backups.Host.User, a.Host.Name()),
			"%s on %s is not writable, so the rehearsal could not be recorded", a.Path(id), a.Host.Name())
	}
	return nil
}

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

// Put writes one file from r and returns what the manifest says of it; progress hears of every chunk. Publish
// brings it to disk.
func (d *Draft) Put(ctx context.Context, name string, r io.Reader, progress func(int64)) (File, error) {
	sum := sha256.New()
	counter := &counted{w: sum, progress: progress}
	file := d.path(name)
	err := d.archive.Host.Run(ctx, host.Cmd{Script: `umask 077; exec cat >"$1"`, Args: []string{file},
		Stdin: io.TeeReader(r, counter)})
	if err != nil {
		return File{}, fmt.Errorf("writing %s on %s: %w", file, d.archive.Host.Name(), err)
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
