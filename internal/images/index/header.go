package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Header says what an index is of. An index with another header is of no use: all is read anew.
type Header struct {
	Root      string // the folder, as its owner names it
	Algorithm string // of Hash
}

// Why an index is not to be used. What is also possible is fs.ErrNotExist.
var (
	ErrVersion = errors.New("another version of the program wrote this index")
	ErrOther   = errors.New("the index is of another folder or algorithm")
	ErrDamaged = errors.New("the start of the index is damaged")
)

func (h Header) encode(marker [markerSize]byte) ([]byte, error) {
	var body []byte
	for _, s := range []string{h.Root, h.Algorithm} {
		body = append(binary.AppendUvarint(body, uint64(len(s))), s...)
	}
	if len(body) > maxHeader {
		return nil, fmt.Errorf("the root's path of %d bytes is too long", len(h.Root))
	}
	b := append([]byte(magic), version)
	b = append(b, marker[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	sum := crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, body)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, body...), nil
}

// readHeader returns the file's marker and where its first block lies.
func readHeader(f io.ReaderAt, want Header) (marker [markerSize]byte, end int64, err error) {
	head := make([]byte, fileHead)
	if _, err := f.ReadAt(head, 0); err != nil {
		return marker, 0, headerError(err)
	}
	if string(head[:len(magic)]) != magic {
		return marker, 0, ErrDamaged
	}
	if v := head[len(magic)]; v != version {
		return marker, 0, fmt.Errorf("%w: format %d, this one writes %d", ErrVersion, v, version)
	}
	length := binary.LittleEndian.Uint32(head[fileHead-8:])
	if length > maxHeader {
		return marker, 0, ErrDamaged
	}
	body := make([]byte, length)
	if _, err := f.ReadAt(body, int64(fileHead)); err != nil {
		return marker, 0, headerError(err)
	}
	sum := crc32.Update(crc32.Checksum(head[:fileHead-4], castagnoli), castagnoli, body)
	if sum != binary.LittleEndian.Uint32(head[fileHead-4:]) {
		return marker, 0, ErrDamaged
	}
	h, ok := decodeHeader(body)
	switch {
	case !ok:
		return marker, 0, ErrDamaged
	case h != want:
		return marker, 0, fmt.Errorf("%w: it is of %q by %s, wanted is %q by %s", ErrOther, h.Root, h.Algorithm, want.Root, want.Algorithm)
	}
	copy(marker[:], head[len(magic)+1:])
	return marker, int64(fileHead) + int64(length), nil
}

// headerError is what a failed reading of the header means: a file that ends in it is damaged, a disk that cannot read
// it is another matter.
func headerError(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrDamaged
	}
	return err
}

func decodeHeader(b []byte) (h Header, ok bool) {
	for _, s := range []*string{&h.Root, &h.Algorithm} {
		length, n := binary.Uvarint(b)
		if n <= 0 || length > uint64(len(b)-n) {
			return h, false
		}
		*s, b = string(b[n:n+int(length)]), b[n+int(length):]
	}
	return h, len(b) == 0
}
