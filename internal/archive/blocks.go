package archive

import (
	"bufio"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
)

// Blocks reads a whole file of pg_dump -Fc and gives the rows of every table to the writer that into returns for the
// table's entry; nil passes them over, unread. A file that ends early, or is none, is an error.
//
// A block of data is a type, the number of its entry, and chunks with their lengths, ended by one of length 0; the chunks
// together are one stream of zlib (pg_backup_custom.c, compress_gzip.c).
func (t *TOC) Blocks(file io.Reader, into func(entry int) io.Writer) error {
	if t.Compression != "" && t.Compression != "gzip" {
		return fmt.Errorf("its rows are compressed by %s", t.Compression)
	}
	r := bufio.NewReaderSize(file, 64<<10)
	if _, err := r.Discard(t.Size); err != nil {
		return err
	}
	for {
		kind, err := r.ReadByte()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		entry, err := t.readInt(r)
		if err != nil {
			return err
		}
		switch kind {
		case blockData:
			err = t.block(r, into(entry))
		case blockLargeObjects:
			err = t.skipLargeObjects(r)
		default:
			err = fmt.Errorf("there is no type %d", kind)
		}
		if err != nil {
			return fmt.Errorf("block %d: %w", entry, err)
		}
	}
}

// The types of blocks, BLK_DATA and BLK_BLOBS.
const (
	blockData         = 1
	blockLargeObjects = 3
)

// skipLargeObjects passes over a block of large objects: each is its number and chunks, and the last is followed by 0.
func (t *TOC) skipLargeObjects(r *bufio.Reader) error {
	for {
		oid, err := t.readInt(r)
		if err != nil || oid == 0 {
			return err
		}
		if err := t.block(r, nil); err != nil {
			return err
		}
	}
}

// block reads the chunks of one block.
func (t *TOC) block(r *bufio.Reader, to io.Writer) error {
	c := &chunks{toc: t, r: r}
	if to != nil {
		var rows io.Reader = c
		if t.Compression == "gzip" {
			unpacked, err := zlib.NewReader(c)
			if err != nil {
				return err
			}
			rows = unpacked
		}
		if _, err := io.Copy(to, rows); err != nil {
			return err
		}
	}
	_, err := io.Copy(io.Discard, c)
	return err
}

// chunks reads the chunks of a block as one stream.
type chunks struct {
	toc  *TOC
	r    *bufio.Reader
	left int
	done bool
}

func (c *chunks) Read(p []byte) (int, error) {
	for c.left == 0 && !c.done {
		n, err := c.toc.readInt(c.r)
		if err != nil {
			return 0, err
		}
		if n < 0 {
			return 0, fmt.Errorf("a chunk of %d bytes", n)
		}
		c.left, c.done = n, n == 0
	}
	if c.done {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// readInt reads a sign byte and the bytes of an integer, least significant first.
func (t *TOC) readInt(r *bufio.Reader) (int, error) {
	var b [9]byte
	if _, err := io.ReadFull(r, b[:1+t.intSize]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	n := 0
	for i, digit := range b[1 : 1+t.intSize] {
		n |= int(digit) << (8 * i)
	}
	if b[0] != 0 {
		n = -n
	}
	return n, nil
}
