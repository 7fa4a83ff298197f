package wire

import (
	"encoding/binary"

	"rehearsal/internal/images/index"
	"rehearsal/internal/images/tree"
)

// packSize is about how long a frame of packed records gets before it is sent.
const packSize = 24 << 10

// packer gathers records in frames. Paths are sent as what they share with the one before in the frame, and the rest.
type packer struct {
	conn *Conn
	t    Type
	buf  []byte
	last []byte // the path before
}

// Flush sends what has been gathered.
func (p *packer) Flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	err := p.conn.Write(p.t, p.buf)
	p.buf, p.last = p.buf[:0], p.last[:0]
	return err
}

// room sends the frame where it is full, before a record begins.
func (p *packer) room() error {
	if len(p.buf) < packSize {
		return nil
	}
	return p.Flush()
}

func (p *packer) path(path []byte) {
	n := 0
	for n < len(path) && n < len(p.last) && path[n] == p.last[n] {
		n++
	}
	p.number(uint64(n))
	p.bytes(path[n:])
	p.last = append(p.last[:0], path...)
}

func (p *packer) number(n uint64) { p.buf = binary.AppendUvarint(p.buf, n) }

func (p *packer) bytes(b []byte) {
	p.number(uint64(len(b)))
	p.buf = append(p.buf, b...)
}

// unpacker reads the records of one frame. After a record that does not hold together it is bad, for good.
type unpacker struct {
	rest []byte
	last []byte
	bad  bool
}

func (u *unpacker) more() bool { return len(u.rest) > 0 && !u.bad }

func (u *unpacker) number() uint64 {
	n, size := binary.Uvarint(u.rest)
	if size <= 0 {
		u.bad = true
		return 0
	}
	u.rest = u.rest[size:]
	return n
}

func (u *unpacker) take(n uint64) []byte {
	if n > uint64(len(u.rest)) {
		u.bad = true
		return nil
	}
	b := u.rest[:n]
	u.rest = u.rest[n:]
	return b
}

func (u *unpacker) bytes() []byte { return u.take(u.number()) }

func (u *unpacker) byte() byte {
	if b := u.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (u *unpacker) path() []byte {
	shared := u.number()
	rest := u.bytes()
	if shared > uint64(len(u.last)) {
		u.bad = true
		return nil
	}
	u.last = append(u.last[:shared], rest...)
	return u.last
}

func (u *unpacker) err() error {
	if u.bad {
		return ErrCorrupt
	}
	return nil
}

// FolderWriter sends the digests of folders.
type FolderWriter struct{ packer }

// NewFolderWriter makes a writer of Digests.
func NewFolderWriter(c *Conn) *FolderWriter { return &FolderWriter{packer{conn: c, t: Digests}} }

// Add sends a folder's sums, one for each bucket of its names, 2 to the power of bits of them.
func (w *FolderWriter) Add(path []byte, bits uint8, sums []uint64) error {
	w.path(path)
	w.buf = append(w.buf, bits)
	for _, s := range sums {
		w.buf = binary.LittleEndian.AppendUint64(w.buf, s)
	}
	return w.room()
}

// Folder is one folder's digests.
type Folder struct {
	Path []byte
	Bits uint8
	Sums []uint64 // 1<<Bits
}

// FolderReader reads a frame of Digests.
type FolderReader struct{ unpacker }

// NewFolderReader reads payload, which must stay as it is meanwhile.
func NewFolderReader(payload []byte) *FolderReader { return &FolderReader{unpacker{rest: payload}} }

// Next reads the next folder into f; false at the end, and where Err tells why.
func (r *FolderReader) Next(f *Folder) bool {
	if !r.more() {
		return false
	}
	f.Path = append(f.Path[:0], r.path()...)
	f.Bits = r.byte()
	if f.Bits > MaxBits {
		r.bad = true
		return false
	}
	raw := r.take(8 << f.Bits)
	f.Sums = f.Sums[:0]
	for ; len(raw) >= 8; raw = raw[8:] {
		f.Sums = append(f.Sums, binary.LittleEndian.Uint64(raw))
	}
	return !r.bad
}

// Err is ErrCorrupt where the frame did not hold together.
func (r *FolderReader) Err() error { return r.err() }

// MaxBits bounds how finely a folder is cut: into 65 536 buckets.
const MaxBits = 16

// BucketWriter sends which buckets of which folders are to be listed, in the order of their paths.
type BucketWriter struct{ packer }

// NewBucketWriter makes a writer of Buckets.
func NewBucketWriter(c *Conn) *BucketWriter { return &BucketWriter{packer{conn: c, t: Buckets}} }

// Add asks for one bucket of a folder that is cut into 2 to the power of bits of them.
func (w *BucketWriter) Add(b Bucket) error {
	w.path(b.Path)
	w.buf = append(w.buf, b.Bits)
	w.number(uint64(b.Number))
	return w.room()
}

// End ends the request.
func (w *BucketWriter) End() error {
	if err := w.Flush(); err != nil {
		return err
	}
	return w.conn.Write(End, nil)
}

// Bucket is a share of a folder's names.
type Bucket struct {
	Path   []byte
	Bits   uint8
	Number uint32
}

// ReadBuckets appends the buckets of a frame to those before.
func ReadBuckets(to []Bucket, payload []byte) ([]Bucket, error) {
	u := unpacker{rest: payload}
	for u.more() {
		path := u.path()
		b := Bucket{Bits: u.byte(), Number: uint32(u.number())}
		if b.Bits > MaxBits {
			return nil, ErrCorrupt
		}
		if n := len(to); n > 0 && string(to[n-1].Path) == string(path) {
			b.Path = to[n-1].Path
		} else {
			b.Path = append([]byte(nil), path...)
		}
		to = append(to, b)
	}
	return to, u.err()
}

// State is what a look at a path found.
type State byte

// The states.
const (
	Present    State = iota
	Absent           // there is nothing under that name
	Unreadable       // Text says why
	Changing         // it changed whenever it was read
)

// Seen is what one side knows of a path.
type Seen struct {
	Path []byte // relative to the root
	State
	Text string // where Unreadable
	index.Entry
}

// SeenWriter sends Entries or Looks.
type SeenWriter struct{ packer }

// NewSeenWriter makes a writer of frames of type t.
func NewSeenWriter(c *Conn, t Type) *SeenWriter { return &SeenWriter{packer{conn: c, t: t}} }

// Add sends s; its Name is not sent, its Path is.
func (w *SeenWriter) Add(s *Seen) error {
	w.path(s.Path)
	w.buf = append(w.buf, byte(s.State), byte(s.Kind), byte(s.Flags), s.Damage)
	w.number(uint64(s.Size))
	w.buf = binary.AppendVarint(w.buf, s.Mtime)
	if s.Flags&index.Known != 0 {
		w.buf = append(w.buf, s.Hash[:]...)
	}
	if s.Flags&index.Rotted != 0 {
		w.buf = append(w.buf, s.Was[:]...)
	}
	if s.State == Unreadable {
		w.bytes([]byte(s.Text))
	}
	return w.room()
}

// NameWriter sends Paths.
type NameWriter struct{ packer }

// NewNameWriter makes a writer of Paths.
func NewNameWriter(c *Conn) *NameWriter { return &NameWriter{packer{conn: c, t: Paths}} }

// Add sends a path.
func (w *NameWriter) Add(path []byte) error {
	w.path(path)
	return w.room()
}

// NameReader reads a frame of Paths.
type NameReader struct{ unpacker }

// NewNameReader reads payload, which must stay as it is meanwhile.
func NewNameReader(payload []byte) *NameReader { return &NameReader{unpacker{rest: payload}} }

// Next returns the next path, a slice of its own, and false after the last.
func (r *NameReader) Next() ([]byte, bool) {
	if !r.more() {
		return nil, false
	}
	path := append([]byte(nil), r.path()...)
	return path, !r.bad
}

// Err is ErrCorrupt where the frame did not hold together.
func (r *NameReader) Err() error { return r.err() }

// SeenReader reads a frame of Entries or Looks.
type SeenReader struct{ unpacker }

// NewSeenReader reads payload, which must stay as it is meanwhile.
func NewSeenReader(payload []byte) *SeenReader { return &SeenReader{unpacker{rest: payload}} }

// Next reads the next record into s, whose Path is its own from then on; false at the end, and where Err tells why.
func (r *SeenReader) Next(s *Seen) bool {
	if !r.more() {
		return false
	}
	*s = Seen{Path: append([]byte(nil), r.path()...)}
	s.State, s.Kind, s.Flags, s.Damage = State(r.byte()), tree.Kind(r.byte()), index.Flags(r.byte()), r.byte()
	s.Size = int64(r.number())
	mtime, size := binary.Varint(r.rest)
	if size <= 0 {
		r.bad = true
		return false
	}
	s.Mtime = mtime
	r.rest = r.rest[size:]
	if s.Flags&index.Known != 0 {
		copy(s.Hash[:], r.take(16))
	}
	if s.Flags&index.Rotted != 0 {
		copy(s.Was[:], r.take(16))
	}
	if s.State == Unreadable {
		s.Text = string(r.bytes())
	}
	return !r.bad
}

// Err is ErrCorrupt where the frame did not hold together.
func (r *SeenReader) Err() error { return r.err() }
