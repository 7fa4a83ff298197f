package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// Blocks reads a whole file of pg_dump -Fc and gives the rows of every table to the writer that into returns for the
// table's entry; nil passes them over, unread. A file that ends early, or is none, is an error.
//
// A block of data is a type, the number of its entry, and chunks with their lengths, ended by one of length 0; the chunks
// together are one stream of zlib or zstd (pg_backup_custom.c, compress_gzip.c, compress_zstd.c).
func (t *TOC) Blocks(file io.Reader, into func(entry int) io.Writer) error {
	unpack, ok := packed[t.Compression]
	if !ok {
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
			err = t.block(r, into(entry), unpack)
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
		if err := t.block(r, nil, nil); err != nil {
			return err
		}
	}
}

// packed copies the rows of a block, by the compression of the archive.
var packed = map[string]func(rows io.Writer, packed io.Reader) error{
	"": func(rows io.Writer, packed io.Reader) error { _, err := io.Copy(rows, packed); return err },
	"gzip": func(rows io.Writer, packed io.Reader) error {
		r, err := zlib.NewReader(packed)
		if err == nil {
			_, err = io.Copy(rows, r)
		}
		return err
	},
	"zstd": Unzstd,
}

// zstdWindow is how much of what it has written already a stream of zstd may refer to, and Unzstd has to hold: what
// libzstd, and so pg_restore, takes unless it is told more (ZSTD_WINDOWLOG_LIMIT_DEFAULT). pg_dump's own choice is 2 MB.
const zstdWindow = 128 << 20

// wholeBytes is how many bytes a stream may have to be unpacked as a whole, and wholeRows into how many: without a window,
// which the many small tables of a dump by --compress=zstd:long would each ask 128 MB for.
const (
	wholeBytes = 64 << 10
	wholeRows  = 4 << 20
)

// Unzstd copies the rows of a stream of zstd. One that is empty, cut short or damaged, or would take more memory than
// libzstd gives it, is an error.
func Unzstd(rows io.Writer, packed io.Reader) error {
	var head bytes.Buffer
	n, err := io.CopyN(&head, packed, wholeBytes)
	if n == 0 && err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		return err
	}
	r, openErr := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecodeAllCapLimit(true))
	if openErr != nil {
		return openErr
	}
	defer r.Close()
	if err == io.EOF {
		whole, err := r.DecodeAll(head.Bytes(), make([]byte, 0, wholeRows))
		if err == nil {
			_, err = rows.Write(whole)
		}
		if !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return err
		}
	}
	if err := r.Reset(io.MultiReader(&head, packed)); err != nil {
		return err
	}
	_, err = io.Copy(rows, r)
	return err
}

// block reads the chunks of one block.
func (t *TOC) block(r *bufio.Reader, to io.Writer, unpack func(rows io.Writer, packed io.Reader) error) error {
	c := &chunks{toc: t, r: r}
	if to != nil {
		if err := unpack(to, c); err != nil {
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
