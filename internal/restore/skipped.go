package restore

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// counting prints the line at which the rows of a file of COPY end, for $1, unpacked by the command behind it. COPY's text
// format has a row a line, whatever is in it, and "\." behind the last (PostgreSQL's documentation of COPY, "Text Format").
const counting = `LC_ALL=C; export LC_ALL; file=$1; shift; command -v "$1" >/dev/null || exit 127; "$@" <"$file" | grep -nxF '\.'`

// CountSkipped counts the rows of the tables that the rules truncate, where they lie on the backup host: they are never
// fetched. A file that holds other rows than the manifest counted, or that cannot be read to the end of its rows, is
// run.Unfit. It needs Rehearse. Those in a file of pg_dump -Fc pass through pg_restore on staging, and no further: the
// backup host may have no pg_restore.
func (r *Restore) CountSkipped(ctx context.Context) (results []TableResult, err error) {
	if r.toc.Kind == archive.Custom {
		return r.countArchive(ctx)
	}
	data := map[string]archive.Entry{}
	for _, e := range r.toc.Data() {
		data[postgres.Qualify(e.Namespace, e.Tag)] = e
	}
	for _, t := range r.Plan.Tables {
		e, ok := data[t.Qualified()]
		if !t.Truncate || !ok {
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
	unpack := []string{"cat"}
	if program, packed := unpackers[path.Ext(file.Name)]; packed {
		unpack = []string{program, "-dc"}
	}
	h, name := r.Archive.Host, postgres.Qualify(e.Namespace, e.Tag)
	out, err := h.Output(ctx, host.Cmd{Script: counting, Args: append([]string{r.Archive.File(r.Backup, file.Name)}, unpack...)})
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	var exit *host.ExitError
	if errors.As(err, &exit) && exit.Status == 127 {
		return 0, noUnpacker(unpack[0], r.Backup.ID, h.Name())
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
		if r.Backup.Kind == archive.Ours && t.Name == name && t.Rows != rows {
			return 0, r.unfit("%s holds %d rows in its file, its manifest counted %d", name, rows, t.Rows)
		}
	}
	return rows, nil
}

// tallying prints for each COPY that pg_restore writes the number of its rows and the statement. $1 is the command that
// writes.
const tallying = `{ eval "$1" || echo failed >&2; } | LC_ALL=C awk '
copying && $0 == "\\." { printf "%d\t%s\n", n, statement; copying = 0; next }
copying { n++; next }
/^COPY .* FROM stdin;$/ { copying = 1; n = 0; statement = $0 }
END { exit copying }'`

// countInArchive counts the rows of truncated tables in a file of pg_dump -Fc.
func (r *Restore) countInArchive(ctx context.Context) (results []TableResult, err error) {
	tables := map[string]string{} // by their COPY
	entries := slices.DeleteFunc(r.toc.Data(), func(e archive.Entry) bool {
		name := postgres.Qualify(e.Namespace, e.Tag)
		tables[strings.TrimSpace(e.Copy)] = name
		return !r.planned[name].Truncate
	})
	if len(entries) == 0 {
		return nil, nil
	}
	list := r.dir + "/skipped.list"
	if err := r.Staging.Host.WriteFile(ctx, list, []byte(archive.List(entries))); err != nil {
		return nil, err
	}
	var out, stderr strings.Builder
	cmd := host.Cmd{Script: tallying, Args: []string{r.readArchive(list)}, Stdout: &out, Stderr: &stderr}
	file := r.Backup.Manifest.Files[0]
	err = r.load(ctx, stream{file: file, what: "the archive", fault: run.Unfit}, cmd, straight, nil)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for line := range strings.Lines(out.String()) {
		number, statement, _ := strings.Cut(strings.TrimSpace(line), "\t")
		n, _ := strconv.ParseInt(number, 10, 64)
		results = append(results, TableResult{Name: tables[statement], Rows: n, Masked: []string{}})
	}
	if err != nil || stderr.String() != "" || len(results) != len(entries) {
		return nil, r.unfit("pg_restore reads the rows of %d of %d tables that are not loaded", len(results), len(entries))
	}
	return results, nil
}

// Readable says whether the values of a column in the new database are the backup's own.
func (r *Restore) Readable(table, column string) bool {
	t, ok := r.planned[table]
	return ok && !t.Truncate && !masked(t, []string{column})
}
