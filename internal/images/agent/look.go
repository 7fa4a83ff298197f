package main

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rehearsal/internal/images/content"
	"rehearsal/internal/images/index"
	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
)

// look answers what lies under some paths now, whatever the index says.
func (a *agent) look(ctx context.Context, payload []byte) error {
	req, err := wire.Decode[wire.LookRequest](payload)
	if err != nil {
		return err
	}
	root, err := openRoot(req.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	limit := content.NewLimit(req.Limit)
	found := make([]wire.Seen, len(req.Paths))
	g, ctx := errgroup.WithContext(ctx)
	for worker := range min(readers, len(req.Paths)) {
		g.Go(func() error {
			r, err := content.NewReader(content.Options{Algorithm: req.Algorithm, Deep: req.Deep, Limit: limit})
			if err != nil {
				return err
			}
			for i := worker; i < len(req.Paths) && ctx.Err() == nil; i += readers {
				found[i] = lookAt(ctx, root, r, req.Paths[i], req.Read)
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	out := wire.NewSeenWriter(a.conn, wire.Looks)
	for i := range found {
		if err := out.Add(&found[i]); err != nil {
			return err
		}
	}
	return out.Flush()
}

func lookAt(ctx context.Context, root *tree.Root, r *content.Reader, path []byte, read bool) wire.Seen {
	s := wire.Seen{Path: path}
	folder, name := tree.Split(path)
	f, err := root.Folder(folder)
	if err == nil {
		defer f.Close()
		s.Meta, err = f.Stat(name)
	}
	if err == nil && read && (s.Kind == tree.File || s.Kind == tree.Link) {
		var result content.Result
		result, err = readEntry(ctx, r, f, s.Kind, name)
		if err == nil {
			s.Meta, s.Hash, s.Damage, s.Flags = result.Meta, result.Hash, byte(result.Damage), index.Known
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP),
		errors.Is(err, unix.EISDIR): // what lies below a folder is compared by itself
		s.State = wire.Absent
	case errors.Is(err, content.ErrChanging):
		s.State = wire.Changing
	default:
		s.State, s.Text = wire.Unreadable, plain(err)
	}
	return s
}

// plain is what the system says, without the path that it says it of.
func plain(err error) string {
	var number unix.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return err.Error()
}
