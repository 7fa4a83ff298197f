package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"rehearsal/internal/images/tree"
)

// Reader reads an index once, from its start to its end, by Find or by Next, not both. It is for one goroutine.
type Reader struct {
	f      *os.File
	at     io.ReaderAt // f
	marker [markerSize]byte
	size   int64 // of the file
	offset int64 // of the block after the one in buf

	buf    []byte // a block's head while it is read; then its records, and slack bytes behind them
	pos    int    // of the next record
	end    int    // of the records
	folder []byte // of the entry
	name   []byte // of the entry
	inode  uint64 // of the block's last entry
	read   uint32 // of the block's last entry

	entry   Entry
	ahead   bool // Find has entry, which comes after what it was asked for
	damaged int
}

// Open opens the index of the folder dir. An error is fs.ErrNotExist, ErrVersion, ErrOther or ErrDamaged where there is
// none to be used.
func Open(dir string, h Header) (*Reader, error) {
	return open(filepath.Join(dir, sealedName), h)
}

func open(path string, h Header) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &Reader{f: f, at: f}
	if err := r.start(h); err != nil {
		f.Close()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return r, nil
}

func (r *Reader) start(h Header) error {
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	r.size = info.Size()
	r.marker, r.offset, err = readHeader(r.at, h)
	return err
}

// Close closes the file.
func (r *Reader) Close() error { return r.f.Close() }

// Find goes forward to the entry and returns it, valid until the next call; nil where there is none, or where its block
// is damaged. Folders and names must be asked for in order, each once: what lies behind is not found.
func (r *Reader) Find(folder, name []byte) *Entry {
	for r.ahead || r.advance() {
		r.ahead = true
		if !bytes.Equal(r.folder, folder) {
			if tree.Compare(r.folder, folder) > 0 {
				return nil
			}
		} else if c := bytes.Compare(r.name, name); c == 0 {
			r.ahead = false
			return &r.entry
		} else if c > 0 {
			return nil
		}
		r.ahead = false
	}
	return nil
}

// Next returns the next entry and its folder, both valid until the next call; io.EOF at the end.
func (r *Reader) Next() (folder []byte, e *Entry, err error) {
	if !r.advance() {
		return nil, nil, io.EOF
	}
	return r.folder, &r.entry, nil
}

// Damaged returns how many blocks were skipped so far because they are not as they were written. One that is cut short
// counts too; whether whole ones are missing at the end, Totals knows.
func (r *Reader) Damaged() (blocks int) { return r.damaged }

// Totals returns what the whole index holds, at once; false where it is not complete or its end is damaged.
func (r *Reader) Totals() (Totals, bool) {
	var end [endSize]byte
	if _, err := r.at.ReadAt(end[:], r.size-endSize); err != nil {
		return Totals{}, false
	}
	offset := r.size - endSize - int64(binary.LittleEndian.Uint32(end[:]))
	other := Reader{at: r.at, marker: r.marker, size: r.size - endSize}
	if !other.block(offset) {
		return Totals{}, false
	}
	return decodeTotals(other.buf[:other.end])
}

// advance decodes the next entry. What is damaged it passes over.
func (r *Reader) advance() bool {
	for r.pos < r.end || r.load() {
		p := r.buf[r.pos:]
		if p[0] != folderMark {
			if r.decode(p) {
				return true
			}
		} else if r.enter(p) {
			continue
		}
		r.damaged++ // its checksum is right: whoever wrote it was wrong
		r.pos = r.end
	}
	return false
}

// decode decodes the record of an entry. See format.go.
func (r *Reader) decode(p []byte) bool {
	_ = p[slack-1]
	e := &r.entry
	e.Kind, e.Flags, e.Damage = tree.Kind(p[0]), Flags(p[1]), p[2]
	lengths := binary.LittleEndian.Uint16(p[3:])
	e.Mtime = int64(binary.LittleEndian.Uint64(p[5:]))
	i := uint16(13)
	e.Size = int64(field(p[i:], lengths))
	i += lengths & 15
	e.Ctime = e.Mtime + unzigzag(field(p[i:], lengths>>4))
	i += lengths >> 4 & 15
	r.inode += uint64(unzigzag(field(p[i:], lengths>>8)))
	i += lengths >> 8 & 15
	r.read += uint32(unzigzag(field(p[i:], lengths>>12)))
	i += lengths >> 12
	e.Inode, e.Read = r.inode, r.read
	e.Hash, e.Was = Hash{}, Hash{}
	if e.Flags&Known != 0 {
		e.Hash = Hash(p[i:])
		i += 16
	}
	if e.Flags&Rotted != 0 {
		e.Was = Hash(p[i:])
		i += 16
	}
	ok := r.rest(&r.name, p, int(i))
	e.Name = r.name
	return ok
}

// enter decodes the record of a folder.
func (r *Reader) enter(p []byte) bool {
	r.name = r.name[:0]
	return r.rest(&r.folder, p, 1)
}

// rest decodes the name at the end of the record p, which shares its start with the one before, and goes to the next
// record.
func (r *Reader) rest(name *[]byte, p []byte, i int) bool {
	same, more := int(p[i]), int(p[i+1])
	i += 2
	if same|more >= 0x80 {
		if same, more, i = lengths(p, i-2); i < 0 {
			return false
		}
	}
	next := r.pos + i + more
	if same > len(*name) || next > r.end {
		return false
	}
	*name = append((*name)[:same], p[i:i+more]...)
	r.pos = next
	return true
}

// lengths decodes two varints at p[i:]; the new i is -1 where they are none or too large.
func lengths(p []byte, i int) (same, more, next int) {
	a, n := binary.Uvarint(p[i:])
	b, m := binary.Uvarint(p[i+max(n, 0):])
	if n <= 0 || m <= 0 || a > maxBlock || b > maxBlock {
		return 0, 0, -1
	}
	return int(a), int(b), i + n + m
}

// load reads the next block with entries that is whole.
func (r *Reader) load() bool {
	for r.offset < r.size {
		if !r.block(r.offset) {
			r.damaged++
			r.offset = r.search(r.offset + 1)
			continue
		}
		if r.buf[0] == folderMark {
			r.folder, r.name = r.folder[:0], r.name[:0]
			r.inode, r.read = 0, 0
			return true
		}
		r.offset = r.size // the trailer
	}
	r.pos, r.end = 0, 0
	return false
}

// block reads the block at offset, and says whether there is one and it is whole.
func (r *Reader) block(offset int64) bool {
	r.pos, r.end = 0, 0
	head := r.room(blockHead)
	if _, err := r.at.ReadAt(head, offset); err != nil || !bytes.Equal(head[:markerSize], r.marker[:]) {
		return false
	}
	length := int64(binary.LittleEndian.Uint32(head[markerSize:]))
	sum := binary.LittleEndian.Uint32(head[markerSize+4:])
	next := offset + blockHead + length
	if length == 0 || length > maxBlock || next > r.size {
		return false
	}
	payload := r.room(int(length))
	if _, err := r.at.ReadAt(payload, offset+blockHead); err != nil || checksum(offset, payload) != sum {
		return false
	}
	r.end, r.offset = int(length), next
	return true
}

// room returns the first n bytes of buf, which has slack more.
func (r *Reader) room(n int) []byte {
	if len(r.buf) < n+slack {
		r.buf = make([]byte, max(n, blockSize)+slack)
	}
	return r.buf[:n]
}

// search returns where the next marker is, from offset on; the file's size where there is none. What the disk cannot
// read it steps over.
func (r *Reader) search(offset int64) int64 {
	for offset+blockHead <= r.size {
		window := r.room(int(min(blockSize, r.size-offset)))
		if _, err := r.at.ReadAt(window, offset); err != nil && err != io.EOF {
			offset += blockSize
		} else if i := bytes.Index(window, r.marker[:]); i >= 0 {
			return offset + int64(i)
		} else {
			offset += int64(len(window)) - markerSize + 1
		}
	}
	return r.size
}
