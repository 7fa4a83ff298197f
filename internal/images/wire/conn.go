package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Version is that of all messages. The agent is put on hosts by the runner that it was built with, so that a difference
// means a forgotten file beside a compiled runner.
const Version = 1

// PingEvery is how often the runner sends a Ping. An agent that hears nothing for four times as long ends: a line may be
// dead for hours before sshd notices, and the index is locked meanwhile.
const PingEvery = 10 * time.Second

// maxFrame bounds what a reader allocates on the word of a frame's head.
const maxFrame = 4 << 20

// Much is how many bytes of paths go into one frame as JSON, which makes 4 of 3. A path may have 40 kB and more.
const Much = 1 << 20

// ErrCorrupt is a frame that is not what was sent.
var ErrCorrupt = errors.New("the conversation with the agent is corrupt")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A frame is its payload's length (4 bytes, little endian), the type, the payload, and a CRC-32C of its number in this
// direction, the type and the payload. The number makes a lost or repeated frame a wrong checksum.
const headSize, tailSize = 5, 4

// Conn is one end of the conversation. Writes may come from several goroutines, reads from one.
type Conn struct {
	r       *bufio.Reader
	nextIn  uint32
	payload []byte // of the frame read last

	mu      sync.Mutex
	w       io.Writer
	nextOut uint32
	out     []byte

	bytes atomic.Int64
}

// NewConn makes an end that reads from r and writes to w.
func NewConn(r io.Reader, w io.Writer) *Conn {
	return &Conn{r: bufio.NewReaderSize(r, 64<<10), w: w}
}

// Write sends a frame at once, in one Write of the writer below.
func (c *Conn) Write(t Type, payload []byte) error {
	if len(payload) > maxFrame {
		return fmt.Errorf("a frame of %d bytes is too long", len(payload))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = binary.LittleEndian.AppendUint32(c.out[:0], uint32(len(payload)))
	c.out = append(append(c.out, byte(t)), payload...)
	c.out = binary.LittleEndian.AppendUint32(c.out, checksum(c.nextOut, c.out[4:]))
	c.nextOut++
	n, err := c.w.Write(c.out)
	c.bytes.Add(int64(n))
	return err
}

// WriteJSON sends message as JSON.
func (c *Conn) WriteJSON(t Type, message any) error {
	payload, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return c.Write(t, payload)
}

// Read returns the next frame. Its payload is valid until the next Read. The end between two frames is io.EOF, within
// one io.ErrUnexpectedEOF.
func (c *Conn) Read() (Type, []byte, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	length := binary.LittleEndian.Uint32(head[:])
	if length > maxFrame {
		return 0, nil, ErrCorrupt
	}
	size := 1 + int(length) + tailSize
	if cap(c.payload) < size {
		c.payload = make([]byte, size)
	}
	frame := c.payload[:size]
	frame[0] = head[4]
	if _, err := io.ReadFull(c.r, frame[1:]); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	c.bytes.Add(int64(headSize + size - 1))
	body := frame[:1+length]
	if binary.LittleEndian.Uint32(frame[1+length:]) != checksum(c.nextIn, body) {
		return 0, nil, ErrCorrupt
	}
	c.nextIn++
	return Type(body[0]), body[1:], nil
}

// Bytes is how much went over the line so far, in both directions.
func (c *Conn) Bytes() int64 { return c.bytes.Load() }

func checksum(number uint32, body []byte) uint32 {
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], number)
	return crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, body)
}
