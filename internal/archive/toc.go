package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// TOC is the table of contents of a pg_dump archive: toc.dat of a folder. pg_restore -l prints less of it, and
// prints names with blanks ambiguously. The format is that of ReadHead and ReadToc in PostgreSQL's
// src/bin/pg_dump/pg_backup_archiver.c; versions 1.12 (PostgreSQL 9.0) to 1.16 (17 and 18) are known.
type TOC struct {
	ServerVersion string // of the source, e.g. "15.18 (Debian …)"
	DumpVersion   string // of pg_dump
	Entries       []Entry
}

// Entry is one object of the archive.
type Entry struct {
	ID        int
	Desc      string // what it is: TABLE, TABLE DATA, INDEX, ACL…
	Namespace string // schema
	Tag       string // name
	Defn      string // the SQL that creates it
	Copy      string // the COPY that its data is for
	File      string // of its data, below the dump's folder and without .gz; empty where it has none
}

// maxTOCString bounds a length that the file claims, so that a damaged one cannot ask for all memory.
const maxTOCString = 64 << 20

var errTOC = errors.New("toc.dat is damaged")

// ParseTOC reads a toc.dat. A damaged one gives an error, never a panic.
func ParseTOC(data []byte) (toc *TOC, err error) {
	r := &tocReader{r: bytes.NewReader(data)}
	defer func() {
		if recovered := recover(); recovered != nil {
			e, ok := recovered.(tocError)
			if !ok {
				panic(recovered)
			}
			toc, err = nil, e.err
		}
	}()
	toc = r.head()
	for n := r.int(); n > 0; n-- {
		toc.Entries = append(toc.Entries, r.entry())
	}
	return toc, nil
}

// tocError carries an error out of the depths of the reader to ParseTOC.
type tocError struct{ err error }

type tocReader struct {
	r       *bytes.Reader
	version int // major*100 + minor of the format
	intSize int
}

func (r *tocReader) head() *TOC {
	if string(r.bytes(5)) != "PGDMP" {
		panic(tocError{fmt.Errorf("%w: it does not begin with PGDMP", errTOC)})
	}
	v := r.bytes(3)
	r.version = int(v[0])*100 + int(v[1])
	if r.version < 112 || r.version > 116 {
		panic(tocError{fmt.Errorf("toc.dat has format %d.%d; formats 1.12 to 1.16 are known", v[0], v[1])})
	}
	r.intSize = int(r.byte())
	r.byte() // size of an offset
	r.byte() // format; a folder's toc.dat says tar
	if r.intSize < 1 || r.intSize > 8 {
		panic(tocError{errTOC})
	}
	if r.version >= 115 {
		r.byte() // compression algorithm
	} else {
		r.int() // compression level
	}
	for range 7 { // time of the dump: seconds to year, and daylight saving
		r.int()
	}
	r.string() // name of the database
	return &TOC{ServerVersion: r.string(), DumpVersion: r.string()}
}

func (r *tocReader) entry() Entry {
	var e Entry
	e.ID = r.int()
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
	e.File = r.string()
	return e
}

func (r *tocReader) bytes(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(r.r, b); err != nil {
		panic(tocError{fmt.Errorf("%w: it ends too early", errTOC)})
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
	if n > maxTOCString || n > r.r.Len() {
		panic(tocError{fmt.Errorf("%w: a length is larger than the file", errTOC)})
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
func (t *TOC) LargeObjects() bool {
	return len(t.all("BLOBS")) > 0 || len(t.all("BLOB")) > 0 || len(t.all("BLOB METADATA")) > 0
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
