package restore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip" // takes two thirds of the standard library's time

	"rehearsal/internal/archive"
	"rehearsal/internal/canary"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// samples are the samplers of the tables with masked columns, by the tables' names. They see the rows while those pass
// through this machine; what they keep is in its memory only.
type samples struct {
	mu     sync.Mutex
	tables map[string]*canary.Sampler
}

// all returns every sampler, settled, in the order of the tables' names.
func (s *samples) all() (samplers []*canary.Sampler) {
	for _, table := range slices.Sorted(maps.Keys(s.tables)) {
		_ = s.tables[table].Close() // nothing can fail
		samplers = append(samplers, s.tables[table])
	}
	return samplers
}

// sampler makes the sampler for an entry's rows; nil where no column of its table is masked.
func (r *Restore) sampler(e archive.Entry) (*canary.Sampler, error) {
	name := postgres.Qualify(e.Namespace, e.Tag)
	if len(r.planned[name].Masked) == 0 {
		return nil, nil
	}
	names, err := e.Columns()
	if err != nil {
		return nil, run.Fail(run.Unfit, "make a new backup: mage backup:create", "backup %s: %w", r.Backup.ID, err)
	}
	columns, err := watched(r.planned[name], names)
	if err != nil {
		return nil, err
	}
	s := canary.NewSampler(name, columns)
	r.samples.mu.Lock()
	defer r.samples.mu.Unlock()
	if r.samples.tables == nil {
		r.samples.tables = map[string]*canary.Sampler{}
	}
	r.samples.tables[name] = s
	return s, nil
}

// watched describes columns of a table to a sampler or scanner, in the order of names.
func watched(t mask.Table, names []string) ([]canary.Column, error) {
	var columns []canary.Column
	for _, name := range names {
		i := slices.IndexFunc(t.Columns, func(c postgres.Column) bool { return c.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("the rows of %s have a column %q, which the table has not", t.Qualified(), name)
		}
		c := t.Columns[i]
		column := canary.Column{Name: name, Base: c.Base, Category: c.Category}
		if m := slices.IndexFunc(t.Masked, func(m mask.Column) bool { return m.Name == name }); m >= 0 {
			column.Masked, column.Path = true, t.Masked[m].Path
		} else {
			column.Compare = len(t.Masked) > 0 && !c.Generated && comparable(c)
		}
		columns = append(columns, column)
	}
	return columns, nil
}

// inconstant are types whose text depends on settings of the server that a dump does not carry, as its TimeZone or
// lc_monetary: it may differ though the value is the same. (A timestamptz is compared as a moment.)
var inconstant = []string{"timetz", "tstzrange", "tstzmultirange", "money", "xml"}

// comparable says whether a value has the same text on both servers.
func comparable(c postgres.Column) bool {
	switch c.Category {
	case 'N', 'S', 'B', 'D', 'E', 'I', 'T', 'V':
		return !slices.Contains(inconstant, c.Base)
	case 'U':
		return slices.Contains([]string{"uuid", "bytea", "json", "jsonb", "macaddr", "macaddr8", "pg_lsn"}, c.Base)
	}
	return false
}

// way is what the bytes of a backup's file pass through. What is written to w comes out at to, as it is or changed; end
// says, after the last byte, whether everything was understood.
type way func(to io.Writer) (w io.Writer, end func() error)

// straight is the way on which nobody looks.
var straight way = func(to io.Writer) (io.Writer, func() error) { return to, func() error { return nil } }

// then is w and behind it read, which makes something else of what comes out of w.
func (w way) then(read func(to io.Writer, from io.Reader) error) way {
	return func(to io.Writer) (io.Writer, func() error) {
		between, endRead := into(func(from io.Reader) error { return read(to, from) })
		from, end := w(between)
		return from, func() error { return errors.Join(end(), endRead()) }
	}
}

// beside is the way on which read reads along, and never slows or breaks the stream but by the time that takes.
func beside(read func(packed io.Reader) error) way {
	return func(to io.Writer) (io.Writer, func() error) {
		w, end := into(read)
		return io.MultiWriter(to, w), end
	}
}

// into lets read read what is written to w. It need not read to the end.
func into(read func(io.Reader) error) (w io.Writer, end func() error) {
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := read(pr)
		_, _ = io.Copy(io.Discard, pr)
		done <- err
	}()
	return pw, func() error {
		_ = pw.Close()
		return <-done
	}
}

// tableWay is that of one table's file: into a sampler where something of it is masked, and through a masker where that
// can be done here. Its rows come out unpacked behind a masker, and where nothing is gained by sending them packed and
// staging has gzip(1) alone: inflating them takes that half as long again.
func (r *Restore) tableWay(s stream) (through way, unpacked bool, err error) {
	unpack, known := unpack[path.Ext(s.file.Name)]
	passing := func(w way) (way, bool, error) {
		if r.near && known && r.unpacker(s.file) == "gzip -dc" {
			return w.then(unpack), true, nil
		}
		return w, false, nil
	}
	sampler, err := r.sampler(s.entry)
	if err != nil {
		return nil, false, err
	}
	if sampler == nil {
		return passing(straight)
	}
	if !known {
		return nil, false, run.Fail(run.Incomplete, "make the dump with gzip: pg_dump --compress=gzip", "nothing can be sampled of %s: its compression is not known here", s.file.Name)
	}
	table := r.planned[s.what]
	_, columns := table.InFlight()
	if len(columns) == 0 || !r.inFlight() {
		return passing(beside(func(packed io.Reader) error { return unpack(sampler, packed) }))
	}
	names, err := s.entry.Columns()
	if err != nil {
		return nil, false, err
	}
	return func(to io.Writer) (io.Writer, func() error) {
		return into(func(packed io.Reader) error {
			masker, err := table.Masker(r.Key, columns, names, to)
			if err != nil {
				return err
			}
			masker.Also(sampler.Field)
			if err := unpack(masker, packed); err != nil {
				return err
			}
			return masker.Close()
		})
	}, true, nil
}

// unpack copies the rows of a dump's file, by its suffix.
var unpack = map[string]func(rows io.Writer, packed io.Reader) error{
	".gz": func(rows io.Writer, packed io.Reader) error {
		r, err := gzip.NewReader(bufio.NewReaderSize(packed, 64<<10)) // its own takes 4 KiB at a time from the goroutine that reads, and a fifth longer
		if err == nil {
			_, err = io.Copy(rows, r)
		}
		return err
	},
	".zst": archive.Unzstd,
	".dat": func(rows io.Writer, packed io.Reader) error { _, err := io.Copy(rows, packed); return err },
}

// archiveWay samples the masked tables in a file of pg_dump -Fc.
func (r *Restore) archiveWay() (way, error) {
	samplers := map[int]*canary.Sampler{}
	for _, e := range r.toc.Data() {
		s, err := r.sampler(e)
		if err != nil {
			return nil, err
		}
		if s != nil {
			samplers[e.ID] = s
		}
	}
	return beside(func(file io.Reader) error {
		return r.toc.Blocks(file, func(entry int) io.Writer {
			if s := samplers[entry]; s != nil {
				return s
			}
			return nil
		})
	}), nil
}

// copyThrough streams a file of the backup to w.
func (r *Restore) copyThrough(ctx context.Context, w io.Writer, through way, file string, progress func(int64)) error {
	w, end := through(w)
	err := r.Archive.Copy(ctx, w, r.Backup, file, progress)
	if understood := end(); err == nil && understood != nil {
		err = r.unfit("%s could not be unpacked and read: %w", file, understood)
	}
	return err
}
