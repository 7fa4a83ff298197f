package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TOC is the table of contents of a pg_dump archive: toc.dat of a folder, or the beginning of a file of pg_dump -Fc.
// pg_restore -l prints less of it, and prints names with blanks ambiguously. The format is that of ReadHead and ReadToc
// in PostgreSQL's src/bin/pg_dump/pg_backup_archiver.c; versions 1.12 (PostgreSQL 9.0) to 1.16 (17 and 18) are known.
type TOC struct {
	Kind     Kind   // Custom or Directory
	Database string // that was dumped
	// CreatedAt is what the clock on the wall showed where pg_dump ran. The archive does not name the time zone, so the
	// reading stands here as one of UTC: the true time is up to 14 hours earlier or 12 later.
	CreatedAt     time.Time
	ServerVersion string // of the source, e.g. "15.18 (Debian …)"
	DumpVersion   string // of pg_dump
	Compression   string // of the rows: "gzip", "lz4", "zstd" or "" for none; of a folder the files' suffixes tell
	Entries       []Entry
	intSize       int // bytes of an integer in the archive
	Size          int // bytes of the header and the entries; in a file of -Fc the data begins behind them
}

// Entry is one object of the archive.
type Entry struct {
	ID        int
	Desc      string // what it is: TABLE, TABLE DATA, INDEX, ACL…
	Namespace string // schema
	Tag       string // name
	Defn      string // the SQL that creates it
	Copy      string // the COPY that its data is for
	File      string // of its data in a folder, below it and without .gz; empty where it has none
}

// maxTOCString bounds a length that the archive claims, so that a damaged one cannot ask for all memory.
const maxTOCString = 64 << 20

// ErrShort is the error for an archive that is fine as far as it goes and ends within its table of contents: whoever
// has more bytes of it tries again with them, for whoever has none it is damaged.
var ErrShort = errors.New("the archive ends within its table of contents")

var errTOC = errors.New("the archive's table of contents is damaged")

// ParseTOC reads a toc.dat or a beginning of a file of pg_dump -Fc. One that is too short gives ErrShort, a damaged one
// another error, never a panic.
func ParseTOC(data []byte) (toc *TOC, err error) {
	defer caught(&toc, &err)
	r := &tocReader{r: bytes.NewReader(data)}
	toc = r.head()
	n := r.int()
	if n < 0 {
		panic(tocError{errTOC})
	}
	for ; n > 0; n-- {
		toc.Entries = append(toc.Entries, r.entry(toc.Kind))
	}
	toc.Size = len(data) - r.r.Len()
	return toc, nil
}

// ParseHead reads no more than the header, for which 512 bytes are enough: everything but the entries. Errors are those
// of ParseTOC.
func ParseHead(data []byte) (toc *TOC, err error) {
	defer caught(&toc, &err)
	r := &tocReader{r: bytes.NewReader(data)}
	toc = r.head()
	toc.Size = len(data) - r.r.Len()
	return toc, nil
}

// tocError carries an error out of the depths of the reader to caught.
type tocError struct{ err error }

// caught is deferred by whoever uses a tocReader.
func caught(toc **TOC, err *error) {
	if recovered := recover(); recovered != nil {
		e, ok := recovered.(tocError)
		if !ok {
			panic(recovered)
		}
		*toc, *err = nil, e.err
	}
}

type tocReader struct {
	r                   *bytes.Reader
	version             int // major*100 + minor of the format
	intSize, offsetSize int
}

func (r *tocReader) head() *TOC {
	if string(r.bytes(5)) != "PGDMP" {
		panic(tocError{fmt.Errorf("%w: it does not begin with PGDMP", errTOC)})
	}
	v := r.bytes(3)
	r.version = int(v[0])*100 + int(v[1])
	if r.version < 112 || r.version > 116 {
		panic(tocError{fmt.Errorf("the archive has format %d.%d; formats 1.12 to 1.16 are known", v[0], v[1])})
	}
	r.intSize, r.offsetSize = int(r.byte()), int(r.byte())
	if r.intSize < 1 || r.intSize > 8 || r.offsetSize < 1 || r.offsetSize > 8 {
		panic(tocError{errTOC})
	}
	toc := &TOC{Kind: r.kind(), intSize: r.intSize}
	if r.version >= 115 {
		toc.Compression = r.compression()
	} else if r.int() != 0 { // the level
		toc.Compression = "gzip"
	}
	toc.CreatedAt = r.time()
	toc.Database, toc.ServerVersion, toc.DumpVersion = r.string(), r.string(), r.string()
	return toc
}

// compression reads the algorithm, a pg_compress_algorithm of compression.h.
func (r *tocReader) compression() string {
	names := []string{"", "gzip", "lz4", "zstd"}
	n := int(r.byte())
	if n >= len(names) {
		panic(tocError{fmt.Errorf("%w: there is no compression %d", errTOC, n)})
	}
	return names[n]
}

// kind reads the format, an ArchiveFormat of pg_backup.h. A folder's toc.dat is written as that of a tar archive, which
// has the same (pg_backup_directory.c), so 5, archDirectory, stands in no file.
func (r *tocReader) kind() Kind {
	switch format := r.byte(); format {
	case 1:
		return Custom
	case 3:
		return Directory
	default:
		panic(tocError{fmt.Errorf("%w: there is no format %d", errTOC, format)})
	}
}

// time reads a struct tm: seconds to year, and whether daylight saving was in force.
func (r *tocReader) time() time.Time {
	var tm [7]int
	for i := range tm {
		tm[i] = r.int()
	}
	t := time.Date(tm[5]+1900, time.Month(tm[4]+1), tm[3], tm[2], tm[1], min(tm[0], 59), 0, time.UTC) // 60: a leap second
	if t.Day() != tm[3] || t.Minute() != tm[1] || t.Year() != tm[5]+1900 {
		panic(tocError{fmt.Errorf("%w: the time of the dump is none", errTOC)})
	}
	return t
}

func (r *tocReader) entry(kind Kind) Entry {
	var e Entry
	if e.ID = r.int(); e.ID <= 0 {
		panic(tocError{fmt.Errorf("%w: %d is no ID of an entry", errTOC, e.ID)})
	}
	r.int()    // has a dumper
	r.string() // oid of the catalogue
	r.string() // oid
	e.Tag = r.string()
	e.Desc = r.string()
	r.int() // section
	e.Defn = r.string()
	r.string() // drop statement
	e.Copy = r.string()
	e.Namespace = r.string()
	r.string() // tablespace
	if r.version >= 114 {
		r.string() // table access method
	}
	if r.version >= 116 {
		r.int() // relkind
	}
	r.string() // owner
	r.string() // with oids
	for {      // dependencies, ended by NULL
		if _, null := r.nullable(); null {
			break
		}
	}
	if kind == Custom {
		r.offset()
	} else {
		e.File = r.string()
	}
	return e
}

// offset reads where the data is: a flag (set, not set, no data) and the place. Whoever reads from a pipe finds the data
// without.
func (r *tocReader) offset() {
	if flag := r.byte(); flag < 1 || flag > 3 {
		panic(tocError{errTOC})
	}
	r.bytes(r.offsetSize)
}

func (r *tocReader) bytes(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(r.r, b); err != nil {
		panic(tocError{ErrShort})
	}
	return b
}

func (r *tocReader) byte() byte { return r.bytes(1)[0] }

// int reads a sign byte and intSize bytes, least significant first.
func (r *tocReader) int() int {
	negative := r.byte() != 0
	n := 0
	for i, b := range r.bytes(r.intSize) {
		n |= int(b) << (8 * i)
	}
	if negative {
		n = -n
	}
	return n
}

func (r *tocReader) string() string {
	s, _ := r.nullable()
	return s
}

func (r *tocReader) nullable() (s string, null bool) {
	n := r.int()
	if n < 0 {
		return "", true
	}
	if n > maxTOCString {
		panic(tocError{fmt.Errorf("%w: something has a length of %d bytes", errTOC, n)})
	}
	if n > r.r.Len() {
		panic(tocError{ErrShort})
	}
	return string(r.bytes(n)), false
}

// Data returns the entries of table data, one for each table with rows of its own.
func (t *TOC) Data() []Entry { return t.all("TABLE DATA") }

// Session returns the statements that a session must begin with to read the data: encoding, string literals and
// search_path of the dump.
func (t *TOC) Session() []string {
	var statements []string
	for _, desc := range []string{"ENCODING", "STDSTRINGS", "SEARCHPATH"} {
		for _, e := range t.all(desc) {
			statements = append(statements, strings.TrimSpace(e.Defn))
		}
	}
	return statements
}

// LargeObjects says whether the archive holds large objects.
func (t *TOC) LargeObjects() bool { return slices.ContainsFunc(t.Entries, Entry.LargeObject) }

// LargeObject says whether the entry is one of large objects, or a comment, grant or label on one.
func (e Entry) LargeObject() bool {
	return strings.HasPrefix(e.Desc, "BLOB") || strings.HasPrefix(e.Tag, "LARGE OBJECT") && slices.Contains([]string{"ACL", "COMMENT", "SECURITY LABEL"}, e.Desc)
}

// Sequences returns the entries that set sequences to their last values.
func (t *TOC) Sequences() []Entry { return t.all("SEQUENCE SET") }

// Grants returns the statements of the archive's access privileges, in order.
func (t *TOC) Grants() []string {
	var statements []string
	for _, e := range append(t.all("ACL"), t.all("DEFAULT ACL")...) {
		if strings.HasPrefix(e.Tag, "DATABASE ") {
			continue // the target's own are carried over
		}
		for _, s := range strings.Split(e.Defn, ";\n") {
			// The session's authorization is a superuser's to set; RESET would also undo SET ROLE.
			if s = strings.TrimSpace(s); s != "" && !strings.Contains(s, "SESSION AUTHORIZATION") {
				statements = append(statements, s)
			}
		}
	}
	return statements
}

// DatabaseOptions returns the options of the archive's CREATE DATABASE: template, encoding, locale. Empty
// where the archive does not say.
func (t *TOC) DatabaseOptions() string {
	for _, e := range t.all("DATABASE") {
		if i := strings.Index(e.Defn, " WITH TEMPLATE = template0"); i >= 0 {
			options, _, _ := strings.Cut(e.Defn[i+len(" WITH "):], ";\n")
			options, _, _ = strings.Cut(options, " TABLESPACE = ") // the last option; staging has its own
			return options
		}
	}
	return ""
}

func (t *TOC) all(desc string) []Entry {
	var entries []Entry
	for _, e := range t.Entries {
		if e.Desc == desc {
			entries = append(entries, e)
		}
	}
	return entries
}

// List is the text for pg_restore --use-list that picks the entries.
func List(entries []Entry) string {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(strconv.Itoa(e.ID) + ";\n")
	}
	return b.String()
}

// Direct tells whether the entry's COPY loads its own table: that of a partition loads the topmost parent where the dump
// was made with --load-via-partition-root.
func (e Entry) Direct() bool {
	into, _, ok := e.target()
	return ok && into == [2]string{e.Namespace, e.Tag}
}

// target returns schema and table of the entry's COPY, and what follows the parenthesis behind them.
func (e Entry) target() (into [2]string, rest string, ok bool) {
	rest, ok = strings.CutPrefix(e.Copy, "COPY ")
	for i, sign := range []string{".", " ("} {
		if ok {
			into[i], rest = cutIdent(rest)
			rest, ok = strings.CutPrefix(rest, sign)
		}
	}
	return into, rest, ok
}

// Columns returns the columns of the entry's COPY, in its order.
func (e Entry) Columns() (columns []string, err error) {
	_, rest, ok := e.target()
	for ok {
		var name string
		name, rest = cutIdent(rest)
		columns = append(columns, name)
		if strings.HasPrefix(rest, ") FROM stdin") {
			return columns, nil
		}
		rest, ok = strings.CutPrefix(rest, ", ")
	}
	return nil, fmt.Errorf("%s %s has an unknown COPY: %q", e.Desc, e.Tag, e.Copy)
}

// cutIdent cuts the identifier off the front of an SQL text.
func cutIdent(sql string) (name, rest string) {
	if quoted, ok := strings.CutPrefix(sql, `"`); ok {
		for i := 0; i < len(quoted); i++ {
			switch {
			case quoted[i] != '"':
			case strings.HasPrefix(quoted[i:], `""`):
				i++
			default:
				return strings.ReplaceAll(quoted[:i], `""`, `"`), quoted[i+1:]
			}
		}
		return quoted, ""
	}
	end := strings.IndexAny(sql, ".,() ;")
	if end < 0 {
		return sql, ""
	}
	return sql[:end], sql[end:]
}

// Extension returns the extension that the entry creates or comments on.
func (e Entry) Extension() (name string, ok bool) {
	switch e.Desc {
	case "EXTENSION":
		return e.Tag, true
	case "COMMENT":
		return strings.CutPrefix(e.Tag, "EXTENSION ")
	}
	return "", false
}
