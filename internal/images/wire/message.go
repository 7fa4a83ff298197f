package wire

import (
	"encoding/json"
	"fmt"
	"time"
)

// Type is what a frame is.
type Type byte

// What the runner asks. Each is answered by the frames named here, then by Done or Failed.
const (
	Scan Type = 'S' // a ScanRequest: Hello, Progress, Digests and Notices as they come, Totals
	List Type = 'L' // an IndexRequest, then Buckets, then End: Entries
	Name Type = 'N' // an IndexRequest: Paths of all that is in the index
	Look Type = 'K' // a LookRequest: Looks
	Get  Type = 'G' // a GetRequest: Data, Got
	Put  Type = 'P' // a PutRequest, then Data, then End with a GetAnswer: nothing but Done
)

// What the agent answers, and the parts of longer messages.
const (
	Hello    Type = 'h' // a Greeting
	Progress Type = 'p' // a Count
	Digests  Type = 'd' // see Folders
	Notices  Type = 'n' // []Notice
	Totals   Type = 't' // a Summary
	Entries  Type = 'e' // see Listing
	Buckets  Type = 'b' // which buckets of which folders are asked for
	Paths    Type = 'a' // paths alone
	Looks    Type = 'k' // see Listing, each entry with its State
	Data     Type = 'D' // bytes of a file
	Got      Type = 'g' // a GetAnswer
	Ping     Type = 'i' // from the runner, now and then: it is still there
	End      Type = 'E' // the end of a request of several frames
	Done     Type = '.'
	Failed   Type = '!' // a Failure
)

// ScanRequest asks for the state of a tree.
type ScanRequest struct {
	Version   int
	Root      string // absolute
	State     string // the folder of this tree's index, absolute
	Algorithm string // blake3 or xxh128
	Seed      uint64 // of this run's digests
	Side      uint64 // differs between the sides: what could not be read is equal to nothing
	Reread    float64
	Full      bool
	Deep      bool
	Limit     int64 // bytes per second; 0 for none
	Ignore    []string
}

// Greeting is what the agent knows before it begins to walk.
type Greeting struct {
	Version int
	Clock   time.Time
	Index   string // why the index could not be used, "" where it could or where this is the first run
	Resumed bool   // an interrupted run is gone on with
}

// Count is how far a scan has come.
type Count struct {
	Files, Bytes         int64 // compared with the index
	ReadFiles, ReadBytes int64
	Expected             int64 // files in all, counted meanwhile; 0 while nobody knows
}

// Summary ends a scan's answer. Its Folders and Sum are those of all Digests: a stream with fewer is incomplete.
type Summary struct {
	Count
	Folders   int64
	Sum       uint64
	Ignored   int64
	Special   int64     // pipes, sockets and devices
	Oldest    time.Time // when the bytes were read that were read longest ago
	Postponed int64     // bytes of files whose ctime alone has changed, and which were not read again for now
	Damaged   int       // blocks of the index that were not to be used
}

// Notice is something about one path that the digests cannot tell.
type Notice struct {
	Path   []byte
	Folder string // why the folder could not be listed; "" for a damaged file
}

// IndexRequest asks for what is in the index that a scan has written.
type IndexRequest struct {
	Root      string
	State     string
	Algorithm string
	Seed      uint64 // of the run's digests, which decides on the buckets
}

// LookRequest asks for a second look at some paths.
type LookRequest struct {
	Root      string
	Algorithm string
	Deep      bool
	Limit     int64
	Read      bool // the bytes too, not only what stat says
	Paths     [][]byte
}

// GetRequest asks for the bytes of a file.
type GetRequest struct {
	Root string
	Path []byte
}

// GetAnswer follows the bytes.
type GetAnswer struct {
	Mtime int64  // nanoseconds since 1970
	Mode  uint32 // permission bits
}

// PutRequest asks for a file to be written or replaced.
type PutRequest struct {
	Root      string
	Path      []byte
	Algorithm string
	Hash      [16]byte // of the bytes that follow
	Absent    bool     // there must be nothing under the name now
	Replaces  [16]byte // else the hash of the file that is there
	Keep      string   // and the absolute path that it is kept under
}

// Failure is an answer that could not be given.
type Failure struct {
	Reason  Reason
	Message string // of the host's system, without the path
	Path    string
}

// Reason tells failures apart that have different next steps.
type Reason string

// The reasons.
const (
	NoRoot    Reason = "no root"   // the folder is not there
	NotFolder Reason = "no folder" // it is something else
	Locked    Reason = "locked"    // another run works on this tree
	NoState   Reason = "no state"  // the index cannot be written
	DiskFull  Reason = "disk full" // the index or a file cannot be written for want of space
	Denied    Reason = "denied"    // we may not look into the folder
	Changed   Reason = "changed"   // a file is not what it was when it was compared
	Old       Reason = "version"   // the agent is of another version
	Other     Reason = "other"
)

// Decode reads a JSON message. Its error is ErrCorrupt.
func Decode[T any](payload []byte) (message T, err error) {
	if err = json.Unmarshal(payload, &message); err != nil {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return message, err
}

func (f *Failure) Error() string {
	if f.Path == "" {
		return f.Message
	}
	return fmt.Sprintf("%s: %s", f.Path, f.Message)
}
