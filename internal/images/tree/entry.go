package tree

// Kind is what lies under a name. Its values are on disk and on the wire.
type Kind byte

// The kinds of entries. A folder is none: its files are.
const (
	File    Kind = 'f'
	Link    Kind = 'l' // a symbolic link; its content is its target
	Pipe    Kind = 'p'
	Socket  Kind = 's'
	Device  Kind = 'b' // block or character
	Unknown Kind = '?' // it could not be looked at; see Entry.Err
)

// Meta is what tells, without reading, whether a file may have changed.
type Meta struct {
	Kind  Kind
	Size  int64 // bytes; of a link, the length of its target
	Mtime int64 // nanoseconds since 1970
	Ctime int64 // nanoseconds since 1970
	Inode uint64
}

// Entry is one name in a folder.
type Entry struct {
	Name []byte // raw, without '/'; valid as long as its Chunk is in use
	Meta
	Err error // why it could not be looked at, which is not that it is gone; then Kind is Unknown
}
