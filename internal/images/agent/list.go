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

// list answers which entries are in the buckets that differ, from the index that the scan has just written.
func (a *agent) list(ctx context.Context, first []byte) error {
	wanted, err := a.buckets(ctx, first)
	if err != nil {
		return err
	}
	out := wire.NewSeenWriter(a.conn, wire.Entries)
	var seen wire.Seen
	err = a.scanned(ctx, func(folder []byte, e *index.Entry) error {
		for len(wanted) > 0 && tree.Compare(wanted[0].Path, folder) < 0 {
			wanted = wanted[1:]
		}
		if len(wanted) == 0 {
			return io.EOF
		}
		if !a.isWanted(wanted, folder, e.Name) {
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
func (a *agent) names(ctx context.Context) error {
	out := wire.NewNameWriter(a.conn)
	var path []byte
	err := a.scanned(ctx, func(folder []byte, e *index.Entry) error {
		path = tree.AppendPath(path[:0], folder, e.Name)
		return out.Add(path)
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// scanned calls each for every entry of the index that the scan has just written, in order, until it returns io.EOF.
func (a *agent) scanned(ctx context.Context, each func(folder []byte, e *index.Entry) error) error {
	if a.index == "" {
		return errors.New("nothing was scanned before")
	}
	r, err := index.Open(a.index, a.header)
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
func (a *agent) buckets(ctx context.Context, first []byte) (wanted []wire.Bucket, err error) {
	for f := (frame{wire.List, first}); f.Type == wire.List; {
		if wanted, err = wire.ReadBuckets(wanted, f.payload); err != nil {
			return nil, err
		}
		if f, err = a.next(ctx); err != nil {
			return nil, err
		}
	}
	return wanted, nil
}

// isWanted tells whether one of the buckets, of which those of the folder come first, holds the name.
func (a *agent) isWanted(wanted []wire.Bucket, folder, name []byte) bool {
	for _, b := range wanted {
		if !bytes.Equal(b.Path, folder) {
			return false
		}
		if bucketOf(name, a.seed, b.Bits) == b.Number {
			return true
		}
	}
	return false
}
