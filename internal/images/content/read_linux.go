package content

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"rehearsal/internal/images/index"
	"rehearsal/internal/images/picture"
	"rehearsal/internal/images/tree"
)

// Options says how a Reader reads.
type Options struct {
	Algorithm string          // BLAKE3 or XXH128
	Deep      bool            // decode the pixels too, at some 200 times the cost of the hash
	Limit     *Limit          // what all readers share; nil for as fast as the disk gives, whoever waits
	Heard     func(bytes int) // hears of every piece that was read; may be nil
}

// Reader reads one file after the other, from one goroutine. It holds about a megabyte, whatever the files.
type Reader struct {
	Options
	buf    []byte
	pages  pages
	digest digest
	check  picture.Checker
	small  bytes.Reader
	large  stream
}

// bufferSize is what is read at once: many images fit, and a disk is at its best from about here.
const bufferSize = 1 << 20

// NewReader fails for an unknown algorithm only.
func NewReader(o Options) (*Reader, error) {
	d, err := newDigest(o.Algorithm)
	if err != nil {
		return nil, err
	}
	return &Reader{Options: o, buf: make([]byte, bufferSize), pages: newPages(), digest: d}, nil
}

// Result is what one state of a file was like.
type Result struct {
	tree.Meta
	Hash    index.Hash
	Damage  picture.Damage
	Decoded bool // the pixels were decoded, with success where Damage is None
}

// ErrChanging says that a file changed while it was read, twice, or is no regular file any more.
var ErrChanging = errors.New("it changed while it was read")

// errMoved is ErrChanging the first time.
var errMoved = errors.New("moved")

// Read reads a file from its beginning to what was its end when it was opened. Where its size or times are others afterwards,
// it reads whatever is under the name then, once more.
//
// The error is fs.ErrNotExist where the file is gone, ErrChanging, or ctx's, which ends it within the time of a megabyte;
// any other means that the file could not be read.
func (r *Reader) Read(ctx context.Context, f *tree.Folder, name []byte) (Result, error) {
	res, err := r.once(ctx, f, name)
	if err == errMoved {
		res, err = r.once(ctx, f, name)
	}
	if err == errMoved {
		err = &fs.PathError{Op: "reading", Path: string(name), Err: ErrChanging}
	}
	return res, err
}

func (r *Reader) once(ctx context.Context, f *tree.Folder, name []byte) (Result, error) {
	fd, err := f.Descriptor(name)
	if err != nil {
		return Result{}, opened(err)
	}
	defer unix.Close(fd)
	before, err := r.settled(ctx, fd)
	if err != nil {
		return Result{}, named(name, err)
	}
	res := Result{Meta: before}
	readErr := r.content(ctx, fd, name, &res)
	after, err := tree.StatFd(fd)
	switch {
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	case err != nil:
		return Result{}, named(name, err)
	case after != before:
		return Result{}, errMoved
	case readErr != nil:
		return Result{}, named(name, readErr)
	}
	return res, nil
}

// opened tells a file that could not be opened from what took its place: a link is ELOOP, a socket ENXIO.
func opened(err error) error {
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return errMoved
	}
	return err
}

// tick is twice the longest interval between two times that kernels put on files (10 ms, CONFIG_HZ=100).
const tick = 20 * time.Millisecond

// settled waits until another change of the file would change its ctime: two within one tick would not. Then it is what
// tree.StatFd says.
func (r *Reader) settled(ctx context.Context, fd int) (tree.Meta, error) {
	m, err := tree.StatFd(fd)
	if err != nil {
		return m, err
	}
	if m.Kind != tree.File {
		return m, errMoved
	}
	age := time.Since(time.Unix(0, m.Ctime))
	if age < 0 || age >= tick { // ahead of our clock: on another machine's disk, where we know nothing of ticks
		return m, nil
	}
	if err := sleep(ctx, tick-age); err != nil {
		return m, err
	}
	later, err := tree.StatFd(fd)
	if err == nil && later != m {
		err = errMoved
	}
	return later, err
}

// content reads the file and says what is in it.
func (r *Reader) content(ctx context.Context, fd int, name []byte, res *Result) error {
	r.digest.reset()
	r.check.Reset(name, res.Size)
	r.pages.open(fd, res.Size)
	defer r.pages.close()
	for off := int64(0); off < res.Size; {
		p, err := r.next(ctx, off, res.Size)
		if err != nil {
			return err
		}
		if r.Heard != nil {
			r.Heard(len(p))
		}
		r.digest.write(p)
		r.check.Write(p)
		off += int64(len(p))
	}
	res.Hash, res.Damage = r.digest.hash(), r.check.Damage()
	if !r.Deep || res.Damage != picture.None {
		return nil
	}
	return r.decode(ctx, name, res)
}

// next reads the next bytes of a file into the buffer.
func (r *Reader) next(ctx context.Context, off, size int64) ([]byte, error) {
	p := r.buf[:min(int64(len(r.buf)), size-off)]
	if err := r.Limit.take(ctx, len(p)); err != nil {
		return nil, err
	}
	for done := 0; done < len(p); {
		n, err := r.pages.pread(p[done:], off+int64(done))
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		done += n
	}
	return p, nil
}

// decode decodes the pixels of a file that has just been hashed: from the buffer where all of it is there.
func (r *Reader) decode(ctx context.Context, name []byte, res *Result) error {
	if res.Size <= int64(len(r.buf)) {
		r.small.Reset(r.buf[:res.Size])
		res.Damage, res.Decoded = picture.Decode(name, &r.small)
		return nil
	}
	r.large = stream{ctx: ctx, r: r, size: res.Size}
	res.Damage, res.Decoded = picture.Decode(name, &r.large)
	return r.large.err
}

// stream reads the file of a Reader once more.
type stream struct {
	ctx       context.Context
	r         *Reader
	off, size int64
	rest      []byte // of the buffer
	err       error  // what went wrong, which says nothing about the pixels
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 && s.err == nil && s.off < s.size {
		s.rest, s.err = s.r.next(s.ctx, s.off, s.size)
		s.off += int64(len(s.rest))
	}
	if len(s.rest) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		return 0, io.EOF
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Link hashes the target of a symbolic link. A target does not change, another link takes its place: then its inode tells,
// and it is read once more.
func (r *Reader) Link(f *tree.Folder, name []byte) (Result, error) {
	for range 2 {
		before, err := f.Stat(name)
		if err != nil {
			return Result{}, err
		}
		target, err := f.Readlink(name)
		if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: it is no link any more
			return Result{}, err
		}
		if after, err2 := f.Stat(name); err == nil && err2 == nil && after == before {
			return Result{Meta: before, Hash: HashOf(r.Algorithm, target)}, nil
		}
	}
	return Result{}, &fs.PathError{Op: "reading", Path: string(name), Err: ErrChanging}
}

// named adds the name of the file, but to errMoved.
func named(name []byte, err error) error {
	if err == errMoved || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &fs.PathError{Op: "reading", Path: string(name), Err: err}
}
