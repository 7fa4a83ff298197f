package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"rehearsal/internal/host"
	"rehearsal/internal/run"
)

// File is the absolute path of one of the backup's files, by its name in the manifest.
func (a *Archive) File(b *Backup, name string) string {
	switch b.Kind {
	case Custom:
		return a.Path(b.ID)
	case Directory:
		return a.Path(b.ID, strings.TrimPrefix(name, "dump/"))
	}
	return a.Path(b.ID, name)
}

// records is the folder of what is written down about a backup. In what others made we write nothing.
func (a *Archive) records(b *Backup) string {
	if b.Kind != Ours {
		return a.Path(".rehearsals", b.ID)
	}
	return a.Path(b.ID, "rehearsals")
}

// Copy streams one file of the backup to w and fails with run.Unfit, naming the file, unless exactly the bytes
// of the manifest passed; of a backup made by others only their number is known. progress hears of every chunk. What
// w has seen before an error must not be used.
func (a *Archive) Copy(ctx context.Context, w io.Writer, b *Backup, name string, progress func(int64)) error {
	file, ok := b.Manifest.File(name)
	if !ok {
		return run.Fail(run.Unfit, "make a new backup: mage backup:create", "backup %s: %s is not in its manifest", b.ID, name)
	}
	sum := sha256.New()
	counter := &counted{w: io.MultiWriter(w, sum), progress: progress}
	err := a.Host.Read(ctx, counter, a.File(b, name), file.Bytes)
	var wrong *host.SizeError
	if errors.As(err, &wrong) {
		return a.compare(b, file, wrong.Size, "")
	}
	if err != nil {
		return fmt.Errorf("reading %s of backup %s: %w", name, b.ID, err)
	}
	return a.compare(b, file, counter.n, hex.EncodeToString(sum.Sum(nil)))
}

// TOC reads the table of contents of the backup, which holds no rows, and returns its bytes as well.
func (a *Archive) TOC(ctx context.Context, b *Backup) (*TOC, []byte, error) {
	var text bytes.Buffer
	var toc *TOC
	var err error
	if b.Kind != Custom {
		if err := a.Copy(ctx, &text, b, "dump/toc.dat", nil); err != nil {
			return nil, nil, err
		}
		toc, err = ParseTOC(text.Bytes())
	} else {
		toc, err = a.beginning(ctx, b, &text)
	}
	if err != nil {
		return nil, nil, run.Fail(run.Unfit, "make a new backup: mage backup:create", "backup %s: %w", b.ID, err)
	}
	return toc, text.Bytes(), nil
}

// beginning reads a file of pg_dump -Fc up to where its table of contents ends; nothing says before where that is.
func (a *Archive) beginning(ctx context.Context, b *Backup, text *bytes.Buffer) (*TOC, error) {
	for size := 256 << 10; ; size *= 8 {
		text.Reset()
		err := a.Host.ReadStart(ctx, text, a.Path(b.ID), int64(size))
		if err != nil {
			return nil, fmt.Errorf("reading it: %w", err)
		}
		toc, err := ParseTOC(text.Bytes())
		if errors.Is(err, ErrShort) && text.Len() == size {
			continue
		}
		if err == nil {
			text.Truncate(toc.Size)
		}
		return toc, err
	}
}

// compare holds what was read of a file against what its manifest says of it.
func (a *Archive) compare(b *Backup, file File, n int64, sha256 string) error {
	if n != file.Bytes || file.SHA256 != "" && sha256 != file.SHA256 {
		return run.Fail(run.Unfit, "the disk or the file is damaged: look at it on "+a.Host.Name()+", and take an older backup with -backup=ID",
			"backup %s is damaged: %s on %s does not have the bytes of its manifest (%d of %d bytes, other sha256)",
			b.ID, a.File(b, file.Name), a.Host.Name(), n, file.Bytes)
	}
	return nil
}

// hashing prints the sha256 of each file by whichever program there is: coreutils', perl's as on macOS and the BSDs,
// or OpenSSL's.
const hashing = `
for f; do
	if command -v sha256sum >/dev/null; then sha256sum <"$f"
	elif command -v shasum >/dev/null; then shasum -a 256 <"$f"
	else openssl dgst -sha256 -r <"$f"
	fi || exit
done`

// Hash reads files of the backup where they lie, without sending them anywhere, and fails with run.Unfit unless they
// have the bytes of the manifest. Files of a backup made by others have nothing to be compared with and are not read.
func (a *Archive) Hash(ctx context.Context, b *Backup, files []File) error {
	files = slices.DeleteFunc(slices.Clone(files), func(f File) bool { return f.SHA256 == "" })
	for chunk := range slices.Chunk(files, hashChunk) {
		var paths []string
		for _, f := range chunk {
			paths = append(paths, a.File(b, f.Name))
		}
		out, err := a.Host.Output(ctx, host.Cmd{Script: hashing, Args: paths})
		if err != nil {
			return run.Fail(run.Incomplete, "are its files readable, and is sha256sum, shasum or openssl there?", "hashing backup %s on %s: %w", b.ID, a.Host.Name(), err)
		}
		sums := strings.Split(strings.TrimSpace(out), "\n")
		if len(sums) != len(chunk) {
			return run.Fail(run.Incomplete, "", "hashing backup %s on %s: %d answers for %d files", b.ID, a.Host.Name(), len(sums), len(chunk))
		}
		for i, f := range chunk {
			sum, _, _ := strings.Cut(sums[i], " ")
			if err := a.compare(b, f, f.Bytes, sum); err != nil { // their sizes are the catalogue's business
				return err
			}
		}
	}
	return nil
}

// hashChunk is how many files one command hashes: a command line has its length.
const hashChunk = 200

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
func (a *Archive) Record(ctx context.Context, b *Backup, name string, record []byte) error {
	if err := a.Host.WriteFile(ctx, path.Join(a.records(b), name), record); err != nil {
		return fmt.Errorf("recording the rehearsal of backup %s: %w", b.ID, err)
	}
	return nil
}

// Accept writes down that a human takes a suspicious backup for what it should be.
func (a *Archive) Accept(ctx context.Context, b *Backup, word Acceptance) error {
	text, err := json.MarshalIndent(word, "", "  ")
	if err != nil {
		return err
	}
	dir := a.records(b)
	if b.Kind == Ours {
		dir = a.Path(b.ID)
	}
	if err := a.Host.WriteFile(ctx, path.Join(dir, "accepted.json"), append(text, '\n')); err != nil {
		return fmt.Errorf("accepting backup %s: %w", b.ID, err)
	}
	return nil
}
