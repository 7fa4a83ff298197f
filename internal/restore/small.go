package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"rehearsal/internal/copytext"
	"rehearsal/internal/postgres"
)

const (
	// smallBytes is the size of a packed file up to which its table shares one psql with others: starting one takes longer
	// than its rows, and round trips more.
	smallBytes = 32 << 10
	// smallAhead is how many of their files are read at once, and held unpacked until their turn comes.
	smallAhead = 16
)

// isSmall tells whether a table is loaded together with others.
func isSmall(t stream) bool {
	return t.file.Bytes <= smallBytes && unpack[path.Ext(t.file.Name)] != nil
}

// loadSmall loads tables one after the other through one psql, whose script has their rows within. A table's rows are not
// passed on before all of them are read and are what the manifest says. done hears of every table.
func (r *Restore) loadSmall(ctx context.Context, tables []stream, progress func(int64), done func()) error {
	if len(tables) == 0 {
		return nil
	}
	args := append(postgres.CopyArgs(r.Staging.Spec, r.Database, r.toc.Session(), "SET client_min_messages = error"), "--file=-")
	cmd, err := r.Staging.Command(ctx, args, r.Key.Settings())
	if err != nil {
		return err
	}
	script, to := io.Pipe()
	told := &turns{tables: tables}
	cmd.Stdin, cmd.Stdout = script, told
	writing, stop := context.WithCancel(ctx)
	defer stop()
	written := make(chan error, 1)
	go func() {
		err := r.writeSmall(writing, to, tables, progress, done)
		to.CloseWithError(err)
		written <- err
	}()
	loadErr := r.Staging.Host.Run(ctx, cmd)
	script.CloseWithError(errLoadEnded)
	ended := writing.Err() != nil
	stop()
	switch err := <-written; {
	case err != nil && (ended || !errors.Is(err, context.Canceled)):
		return err
	case loadErr != nil:
		return loadError(told.current(), loadErr)
	case told.n <= len(tables):
		return fmt.Errorf("loading %s: psql ended before its script did", told.current().what)
	}
	return nil
}

// writeSmall writes the script: a COPY for each table, in order, with its rows.
func (r *Restore) writeSmall(ctx context.Context, to io.Writer, tables []stream, progress func(int64), done func()) error {
	type read struct {
		rows []byte
		err  error
	}
	ready := make([]chan read, len(tables))
	ahead := make(chan struct{}, smallAhead)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for i := range tables {
		ready[i] = make(chan read, 1)
	}
	go func() {
		for i, t := range tables {
			select {
			case ahead <- struct{}{}:
			case <-ctx.Done():
				return
			}
			go func() {
				rows, err := r.rowsOf(ctx, t, progress)
				ready[i] <- read{rows, err}
			}()
		}
	}()
	for i, t := range tables {
		var one read
		select {
		case one = <-ready[i]:
			<-ahead
		case <-ctx.Done():
			return ctx.Err()
		}
		if one.err != nil {
			return one.err
		}
		if _, err := fmt.Fprintf(to, "\\echo %s\n%s\n%s", turn, strings.TrimSpace(t.entry.Copy), one.rows); err != nil {
			return untilEnded(err)
		}
		done()
	}
	_, err := fmt.Fprintf(to, "\\echo %s\n", turn)
	return untilEnded(err)
}

// untilEnded leaves it to psql to say why it ended.
func untilEnded(err error) error {
	if errors.Is(err, errLoadEnded) {
		return nil
	}
	return err
}

// rowsOf reads the rows of a table, masked as far as that is done here, with the line that ends them.
func (r *Restore) rowsOf(ctx context.Context, t stream, progress func(int64)) ([]byte, error) {
	through, unpacked, err := r.tableWay(t)
	if err != nil {
		return nil, err
	}
	var rows bytes.Buffer
	if !unpacked {
		through = through.then(unpack[path.Ext(t.file.Name)])
	}
	if err := r.copyThrough(ctx, &rows, through, t.file.Name, progress); err != nil {
		return nil, err
	}
	return ended(rows.Bytes()), nil
}

// ended are rows up to the line that ends them, which they get where they have none: what is behind it would be taken for
// SQL, and SQL behind rows without it for rows.
func ended(rows []byte) []byte {
	const end = copytext.EndOfData + "\n"
	if bytes.HasPrefix(rows, []byte(end)) {
		return rows[:len(end)]
	}
	if i := bytes.Index(rows, []byte("\n"+end)); i >= 0 {
		return rows[:i+1+len(end)]
	}
	if len(rows) > 0 && rows[len(rows)-1] != '\n' {
		rows = append(rows, '\n')
	}
	return append(rows, end...)
}

// turn is the line that psql prints before it loads the next table, and after the last.
const turn = "rehearsal-next"

// turns counts them in what psql prints.
type turns struct {
	tables []stream
	n      int
	line   []byte
}

func (t *turns) Write(p []byte) (int, error) {
	for _, c := range p {
		if c != '\n' {
			t.line = append(t.line, c)
			continue
		}
		if string(t.line) == turn {
			t.n++
		}
		t.line = t.line[:0]
	}
	return len(p), nil
}

// current is the table that is being loaded.
func (t *turns) current() stream { return t.tables[min(max(t.n-1, 0), len(t.tables)-1)] }
