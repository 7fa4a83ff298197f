package restore

import (
	"context"
	"fmt"
	"path"
	"strings"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// counting prints the line at which the rows of a file of COPY end, for $2, unpacked by $1. COPY's text format has a row
// a line, whatever is in it, and "\." behind the last (PostgreSQL's documentation of COPY, "Text Format").
const counting = `LC_ALL=C; export LC_ALL; eval "$1" <"$2" | grep -nxF '\.'`

// CountSkipped counts the rows of the tables that the rules truncate, where they lie on the backup host: they are never
// fetched. A file that holds other rows than the manifest counted, or that cannot be read to the end of its rows, is
// run.Unfit. It needs Rehearse. Of a file of pg_dump -Fc nothing can be counted in this way: it returns nothing.
func (r *Restore) CountSkipped(ctx context.Context) (results []TableResult, err error) {
	data := map[string]archive.Entry{}
	for _, e := range r.toc.Data() {
		data[postgres.Qualify(e.Namespace, e.Tag)] = e
	}
	for _, t := range r.Plan.Tables {
		e, ok := data[t.Qualified()]
		if !t.Truncate || !ok || r.toc.Kind == archive.Custom {
			continue
		}
		rows, err := r.countFile(ctx, e)
		if err != nil {
			return nil, err
		}
		results = append(results, TableResult{Name: t.Qualified(), Rows: rows, Masked: []string{}})
	}
	return results, nil
}

// countFile counts the rows in one table's file.
func (r *Restore) countFile(ctx context.Context, e archive.Entry) (rows int64, err error) {
	file, _ := r.dataFile(e)
	unpack := "cat"
	if program, packed := unpackers[path.Ext(file.Name)]; packed {
		unpack = program + " -dc"
	}
	h, name := r.Archive.Host, postgres.Qualify(e.Namespace, e.Tag)
	out, err := h.Output(ctx, host.Cmd{Script: counting, Args: []string{unpack, r.Archive.File(r.Backup, file.Name)}})
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	line, _, _ := strings.Cut(out, ":")
	if err != nil || line == "" {
		return 0, run.Fail(run.Unfit, "is the program that unpacks it on "+h.Name()+", gzip as a rule? Then the file is damaged",
			"backup %s: the end of the rows of %s was not found in %s", r.Backup.ID, name, r.Archive.File(r.Backup, file.Name))
	}
	if _, err := fmt.Sscan(line, &rows); err != nil {
		return 0, fmt.Errorf("counting the rows of %s on %s: %q", name, h.Name(), line)
	}
	rows-- // the line of the end itself
	for _, t := range r.Backup.Manifest.Tables {
		if t.Name == name && t.Rows != rows {
			return 0, r.unfit("%s holds %d rows in its file, its manifest counted %d", name, rows, t.Rows)
		}
	}
	return rows, nil
}

// Readable says whether the values of a column in the new database are the backup's own.
func (r *Restore) Readable(table, column string) bool {
	for _, t := range r.Plan.Tables {
		if t.Qualified() != table {
			continue
		}
		for _, c := range t.Masked {
			if c.Name == column {
				return false
			}
		}
		return !t.Truncate
	}
	return false
}
