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
	if a.index == "" {
		return errors.New("nothing was scanned before")
	}
	r, err := index.Open(a.index, a.header)
	if err != nil {
		return fmt.Errorf("opening the index that was just written: %w", err)
	}
	defer r.Close()
	out := wire.NewSeenWriter(a.conn, wire.Entries)
	var seen wire.Seen
	for len(wanted) > 0 {
		folder, e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for len(wanted) > 0 && tree.Compare(wanted[0].Path, folder) < 0 {
			wanted = wanted[1:]
		}
		if !a.isWanted(wanted, folder, e.Name) {
			continue
		}
		seen.Path = appendPath(seen.Path[:0], folder, e.Name)
		seen.Entry = *e
		if err := out.Add(&seen); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if r.Damaged() > 0 {
		return errors.New("the index that was just written is damaged")
	}
	return out.Flush()
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

func appendPath(to, folder, name []byte) []byte {
	if len(folder) > 0 {
		to = append(append(to, folder...), '/')
	}
	return append(to, name...)
}
