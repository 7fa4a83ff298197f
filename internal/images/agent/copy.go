package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"

	"rehearsal/internal/images/content"
	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
)

// piece is how much of a file is in one frame.
const piece = 256 << 10

var errChanged = &wire.Failure{Reason: wire.Changed, Message: "it is not what it was when it was compared"}

// get answers a file's bytes. Whoever puts them elsewhere checks their hash.
func (a *agent) get(ctx context.Context, payload []byte) error {
	req, err := wire.Decode[wire.GetRequest](payload)
	if err != nil {
		return err
	}
	root, err := openRoot(req.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	folder, name := tree.Split(req.Path)
	f, err := root.Folder(folder)
	if err != nil {
		return moved(err)
	}
	defer f.Close()
	file, err := f.Open(name)
	if err != nil {
		return moved(err)
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errChanged
	}
	buf := make([]byte, piece)
	for ctx.Err() == nil {
		n, err := file.Read(buf)
		if n > 0 {
			if err := a.conn.Write(wire.Data, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return a.conn.WriteJSON(wire.Got, wire.GetAnswer{Mtime: st.Mtim.Nano(), Mode: st.Mode & 0o777})
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// put writes a file beside its place, reads it back, and only then gives it the name.
func (a *agent) put(ctx context.Context, payload []byte) error {
	req, err := wire.Decode[wire.PutRequest](payload)
	if err != nil {
		return err
	}
	root, err := openRoot(req.Root)
	if err != nil {
		return a.refuse(ctx, err)
	}
	defer root.Close()
	folder, name := tree.Split(req.Path)
	f, err := root.MakeFolder(folder)
	if err != nil {
		return a.refuse(ctx, moved(full(err, req.Root)))
	}
	defer f.Close()
	if at := req.Root + "/" + string(folder); !a.swept[at] {
		a.swept[at] = true
		f.Sweep()
	}
	draft, err := f.Draft()
	if err != nil {
		return a.refuse(ctx, full(err, req.Root))
	}
	defer draft.Discard()
	answer, err := a.receive(ctx, draft)
	if err != nil {
		return full(err, req.Root)
	}
	if err := draft.Finish(answer.Mode, answer.Mtime); err != nil {
		return full(err, req.Root)
	}
	r, err := content.NewReader(content.Options{Algorithm: req.Algorithm})
	if err != nil {
		return err
	}
	written, err := r.Read(ctx, f, draft.Name)
	if err != nil {
		return fmt.Errorf("reading what was written: %w", err)
	}
	if written.Hash != req.Hash {
		return errChanged
	}
	if err := replaceable(ctx, r, f, name, &req); err != nil {
		return err
	}
	if !req.Absent {
		if err := f.Keep(name, req.Keep); err != nil {
			return full(fmt.Errorf("keeping the file that is replaced: %w", err), path.Dir(req.Keep))
		}
	}
	err = draft.Publish(name, !req.Absent)
	if errors.Is(err, fs.ErrExist) {
		return errChanged
	}
	return full(err, req.Root)
}

// full says of an error that the disk is full below root, if it does.
func full(err error, root string) error {
	if reason(err) == wire.DiskFull {
		return &wire.Failure{Reason: wire.DiskFull, Path: root, Message: plain(err)}
	}
	return err
}

// moved tells what is not as it was when it was compared from what cannot be done.
func moved(err error) error {
	for _, gone := range []error{fs.ErrNotExist, content.ErrChanging, unix.ELOOP, unix.ENOTDIR, unix.EISDIR} {
		if errors.Is(err, gone) {
			return errChanged
		}
	}
	return err
}

// replaceable tells whether the name is still what it was when it was compared.
func replaceable(ctx context.Context, r *content.Reader, f *tree.Folder, name []byte, req *wire.PutRequest) error {
	if req.Absent {
		if _, err := f.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return errChanged
		}
		return nil
	}
	is, err := r.Read(ctx, f, name)
	if err != nil {
		return moved(err)
	}
	if is.Hash != req.Replaces {
		return errChanged
	}
	return nil
}

// receive writes the frames of a Put request to the draft.
func (a *agent) receive(ctx context.Context, draft *tree.Draft) (answer wire.GetAnswer, err error) {
	for {
		f, err := a.next(ctx)
		switch {
		case err != nil:
			return answer, err
		case f.Type == wire.End:
			return wire.Decode[wire.GetAnswer](f.payload)
		case f.Type != wire.Data:
			return answer, wire.ErrCorrupt
		}
		if _, err := draft.Write(f.payload); err != nil {
			return answer, a.refuse(ctx, err)
		}
	}
}

// refuse reads the rest of a request that cannot be done, and returns why.
func (a *agent) refuse(ctx context.Context, why error) error {
	for {
		if f, err := a.next(ctx); err != nil || f.Type == wire.End {
			return why
		}
	}
}
