package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"rehearsal/internal/canary"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Searched is what a search for real values went through: counts, never values.
type Searched struct {
	Canaries int              `json:"canaries"`           // real values that were searched for
	Columns  int              `json:"sampled_columns"`    // masked columns that gave some
	Bytes    int64            `json:"searched_bytes"`     // of rows and of the schema's text
	Compared int              `json:"compared_tables"`    // tables with masked columns whose others came through unchanged
	Findings []canary.Finding `json:"findings,omitempty"` // e-mail addresses, cards, IBANs, canaries
}

// Search looks through every byte of the new database, its rows, its materialized views and the text of its schema, for
// real values that were sampled while the rows streamed by, and for e-mail addresses, cards and IBANs. That does not
// know the rules: what they forgot is what it is for. In the same reading every value of a masked column is asked whether
// its verb can have made it, the columns that are kept are held against what streamed in, and the rules once more against
// the schema. A finding is run.Unclean. allowed are the addresses and names of people who
// have their own on staging.
func (r *Restore) Search(ctx context.Context, allowed []string) (found Searched, err error) {
	err = r.Target.Step(ctx, "search for real values", func(ctx context.Context, s *run.Step) error {
		found, err = r.searchRows(ctx, s, allowed)
		s.Detail("%d canaries of %d columns", found.Canaries, found.Columns)
		return err
	})
	return found, err
}

func (r *Restore) search(ctx context.Context, s *run.Step, allowed []string) (found Searched, err error) {
	samplers := r.samples.all()
	for _, sampler := range samplers {
		for _, sample := range sampler.Samples() {
			if sample.Values > 0 {
				found.Columns++
			}
		}
	}
	scanner := canary.NewScanner(samplers, allowed...)
	found.Canaries = scanner.Canaries()
	read, err := r.readBack(ctx, s, scanner, allowed)
	found.Bytes = read.Bytes
	if err == nil {
		found.Compared, err = r.compareKept(read.Kept)
	}
	if err != nil {
		return found, err
	}
	if found.Findings = read.Findings; len(found.Findings) > 0 {
		var lines []string
		for _, f := range found.Findings {
			lines = append(lines, f.String())
		}
		return found, run.Fail(run.Unclean, "mask the column where it was found in columns.yaml; what stands in the schema's text is to be removed from production",
			"staging would hold values of production:\n  %s", strings.Join(lines, "\n  "))
	}
	return found, nil
}

// reading is what reading all of the new database brought to light.
type reading struct {
	Bytes    int64                         `json:"bytes"`
	Kept     map[string]canary.Fingerprint `json:"kept"` // of the columns that are kept, of tables with masked ones
	Findings []canary.Finding              `json:"findings,omitempty"`
}

// readBack reads all of the new database and searches it by scanner: on staging by the Searcher, so that no more than what
// may be a canary comes here, or, where that is not possible, on this machine.
func (r *Restore) readBack(ctx context.Context, s *run.Step, scanner *canary.Scanner, allowed []string) (reading, error) {
	if r.Searcher == nil {
		return r.read(ctx, s, scanner)
	}
	read, err := r.readThere(ctx, s, scanner, allowed)
	switch {
	case ctx.Err() != nil:
		return read, context.Cause(ctx)
	case err == nil || run.CodeOf(err) == run.Unclean:
		return read, err
	}
	r.Target.Warn("all rows of %s come to this machine to be searched, because staging does not search them: %v; next: %s", r.Database, err, run.HintOf(err))
	return r.read(ctx, s, canary.NewScanner(r.samples.all(), allowed...))
}

// readThere is readBack by the Searcher.
func (r *Restore) readThere(ctx context.Context, s *run.Step, scanner *canary.Scanner, allowed []string) (read reading, err error) {
	l, err := r.Searcher()
	if err != nil {
		return read, err
	}
	got, err := r.remotely(ctx, l, ask{Do: toSift, Sieve: new(scanner.Sieve()), Allowed: allowed, judge: scanner.Judge}, s)
	if err != nil {
		return read, err
	}
	if got.Read == nil {
		return read, l.saysNothing()
	}
	read = *got.Read
	read.Findings = append(read.Findings, scanner.Findings()...)
	slices.SortFunc(read.Findings, canary.Finding.Compare)
	return read, nil
}

// read is readBack by this process.
func (r *Restore) read(ctx context.Context, s *run.Step, scanner *canary.Scanner) (read reading, err error) {
	tables, err := r.searched(ctx)
	if err != nil {
		return read, err
	}
	var bytes atomic.Int64
	progress := func(n int64) {
		bytes.Add(n)
		s.Add(n)
	}
	read.Kept = map[string]canary.Fingerprint{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.searchSchema(ctx, scanner, progress) })
	var taken atomic.Int64
	for range min(searches, len(tables)) {
		g.Go(func() error {
			conn, err := r.readAsDumped(ctx)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for i := taken.Add(1); i <= int64(len(tables)); i = taken.Add(1) {
				t := tables[i-1]
				kept, err := r.searchTable(ctx, conn, scanner, t, progress)
				if err != nil {
					return err
				}
				if len(t.Masked) > 0 {
					mu.Lock()
					read.Kept[t.Qualified()] = kept
					mu.Unlock()
				}
			}
			return nil
		})
	}
	err = g.Wait()
	read.Bytes, read.Findings = bytes.Load(), scanner.Findings()
	return read, err
}

// compareKept holds the columns that are kept against what streamed in, and returns in how many tables.
func (r *Restore) compareKept(kept map[string]canary.Fingerprint) (tables int, err error) {
	for _, name := range slices.Sorted(maps.Keys(r.samples.tables)) {
		switch read, ok := kept[name]; {
		case !ok:
			return tables, run.Fail(run.Unclean, "", "%s was not read back, so nothing says what is in it", name)
		case read != r.samples.tables[name].Fingerprint():
			return tables, run.Fail(run.Unclean, "does an expression under sql or a trigger of the application change another column?",
				"%s: columns that columns.yaml keeps are not what the backup holds", name)
		}
		tables++
	}
	return tables, nil
}

// searches is how many tables are searched at once.
const searches = 3

// searched lists what there is to search: the tables as the new database has them now, which must be those that were
// planned for, and the materialized views; the largest first, so that none of those is the last to start.
func (r *Restore) searched(ctx context.Context) ([]mask.Table, error) {
	conn, err := r.Staging.Connect(ctx, r.Database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	now, err := postgres.Schema(ctx, conn)
	if err != nil {
		return nil, err
	}
	plan, err := r.Rules.Plan(now)
	if err != nil {
		return nil, err
	}
	var tables []mask.Table
	for _, t := range plan.Tables {
		if t.Kind == 'r' {
			tables = append(tables, t)
		}
	}
	views, err := postgres.MaterializedViews(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, v := range views {
		tables = append(tables, mask.Table{Table: v})
	}
	sizes, err := postgres.TableSizes(ctx, conn)
	slices.SortStableFunc(tables, func(a, b mask.Table) int { return cmp.Compare(sizes[b.Qualified()], sizes[a.Qualified()]) })
	return tables, err
}

// searchTable searches the rows of one table or materialized view, and returns the fingerprint of the columns that are kept.
func (r *Restore) searchTable(ctx context.Context, conn *pgx.Conn, scanner *canary.Scanner, t mask.Table, progress func(int64)) (kept canary.Fingerprint, err error) {
	var names []string
	for _, c := range t.Columns {
		names = append(names, c.Name)
	}
	columns, err := watched(t, names)
	if err != nil || len(names) == 0 {
		return kept, err
	}
	stream := scanner.Table(t.Qualified(), columns)
	prover := t.Prover(names)
	if len(t.Masked) > 0 && r.utf8() {
		stream.Also(prover.Field)
	}
	if err := postgres.CopyOut(ctx, conn, t.Table, &metered{stream, progress}); err != nil {
		return kept, fmt.Errorf("reading %s of %s: %w", t.Qualified(), r.Database, err)
	}
	if err := stream.Close(); err != nil {
		return kept, err
	}
	for _, c := range t.Masked {
		if n, _ := prover.Violations(c.Name); n > 0 {
			return kept, violated(t, c, n)
		}
	}
	return stream.Fingerprint(), nil
}

// readAsDumped opens a session that writes values as the dump did.
func (r *Restore) readAsDumped(ctx context.Context) (*pgx.Conn, error) {
	conn, err := r.Staging.Connect(ctx, r.Database)
	if err != nil {
		return nil, err
	}
	settings := append([]string{"SET ROLE " + postgres.Ident(r.Staging.Spec.Owner), "SET row_security = off", "SET DateStyle = ISO",
		"SET IntervalStyle = postgres", "SET extra_float_digits = 3"}, r.toc.Session()...)
	if _, err := conn.Exec(ctx, strings.Join(trimmed(settings), ";\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing to read %s: %w", r.Database, err), conn.Close(context.WithoutCancel(ctx)))
	}
	return conn, nil
}

// trimmed takes the semicolons away.
func trimmed(statements []string) []string {
	for i, s := range statements {
		statements[i] = strings.TrimRight(strings.TrimSpace(s), ";")
	}
	return statements
}

// searchSchema searches what pg_dump writes of the schema: comments, defaults, functions.
func (r *Restore) searchSchema(ctx context.Context, scanner *canary.Scanner, progress func(int64)) error {
	cmd, err := r.Staging.Command(ctx, postgres.SchemaArgs(r.Staging.Spec, r.Database), nil)
	if err != nil {
		return err
	}
	stream := scanner.Text("the schema")
	cmd.Stdout = &metered{stream, progress}
	if err := r.Staging.Host.Run(ctx, cmd); err != nil {
		return run.Fail(run.Incomplete, "is pg_dump beside pg_restore on "+r.Staging.Host.Name()+"?", "reading the schema of %s: %w", r.Database, err)
	}
	return stream.Close()
}

// metered tells how much has passed.
type metered struct {
	io.Writer
	progress func(int64)
}

func (m *metered) Write(p []byte) (int, error) {
	n, err := m.Writer.Write(p)
	m.progress(int64(n))
	return n, err
}
