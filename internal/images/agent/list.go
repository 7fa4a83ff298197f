package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"rehearsal/internal/images/index"
	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
)

// list answers which entries are in the buckets that differ, from the index that a scan has written.
func (a *agent) list(ctx context.Context, payload []byte) error {
	req, err := wire.Decode[wire.IndexRequest](payload)
	if err != nil {
		return err
	}
	wanted, err := a.buckets(ctx)
	if err != nil {
		return err
	}
	out := wire.NewSeenWriter(a.conn, wire.Entries)
	var seen wire.Seen
	err = scanned(ctx, req, func(folder []byte, e *index.Entry) error {
		for len(wanted) > 0 && tree.Compare(wanted[0].Path, folder) < 0 {
			wanted = wanted[1:]
		}
		if len(wanted) == 0 {
			return io.EOF
		}
		if !isWanted(wanted, folder, e.Name, req.Seed) {
			return nil
		}
		seen.Path = tree.AppendPath(seen.Path[:0], folder, e.Name)
		seen.Entry = *e
		return out.Add(&seen)
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// names answers the paths of all that was scanned.
func (a *agent) names(ctx context.Context, payload []byte) error {
	req, err := wire.Decode[wire.IndexRequest](payload)
	if err != nil {
		return err
	}
	out := wire.NewNameWriter(a.conn)
	var path []byte
	err = scanned(ctx, req, func(folder []byte, e *index.Entry) error {
		path = tree.AppendPath(path[:0], folder, e.Name)
		return out.Add(path)
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// scanned calls each for every entry of the index that a scan has written, in order, until it returns io.EOF.
func scanned(ctx context.Context, req wire.IndexRequest, each func(folder []byte, e *index.Entry) error) error {
	r, err := index.Open(req.State, index.Header{Root: req.Root, Algorithm: req.Algorithm})
	if err != nil {
		return fmt.Errorf("opening the index that was just written: %w", err)
	}
	defer r.Close()
	for ctx.Err() == nil {
		folder, e, err := r.Next()
		if err == nil {
			err = each(folder, e)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if r.Damaged() > 0 {
		return errors.New("the index that was just written is damaged")
	}
	return ctx.Err()
}

// buckets reads the rest of a List request.
func (a *agent) buckets(ctx context.Context) (wanted []wire.Bucket, err error) {
	for {
		f, err := a.next(ctx)
		switch {
		case err != nil:
			return nil, err
		case f.Type == wire.End:
			return wanted, nil
		case f.Type != wire.Buckets:
			return nil, wire.ErrCorrupt
		}
		if wanted, err = wire.ReadBuckets(wanted, f.payload); err != nil {
			return nil, err
		}
	}
}

// isWanted tells whether one of the buckets, of which those of the folder come first, holds the name.
func isWanted(wanted []wire.Bucket, folder, name []byte, seed uint64) bool {
	for _, b := range wanted {
		if !bytes.Equal(b.Path, folder) {
			return false
		}
		if bucketOf(name, seed, b.Bits) == b.Number {
			return true
		}
	}
	return false
}
