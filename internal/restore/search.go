package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
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
	tables, err := r.searched(ctx)
	if err != nil {
		return found, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.searchSchema(ctx, scanner, s.Add) })
	var taken, compared atomic.Int64
	for range min(searches, len(tables)) {
		g.Go(func() error {
			conn, err := r.readAsDumped(ctx)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for i := taken.Add(1); i <= int64(len(tables)); i = taken.Add(1) {
				same, err := r.searchTable(ctx, conn, scanner, tables[i-1], s.Add)
				if err != nil {
					return err
				}
				if same {
					compared.Add(1)
				}
			}
			return nil
		})
	}
	err = g.Wait()
	found.Compared = int(compared.Load())
	found.Bytes = s.Bytes()
	if err != nil {
		return found, err
	}
	if found.Findings = scanner.Findings(); len(found.Findings) > 0 {
		var lines []string
		for _, f := range found.Findings {
			lines = append(lines, f.String())
		}
		return found, run.Fail(run.Unclean, "mask the column where it was found in columns.yaml; what stands in the schema's text is to be removed from production",
			"staging would hold values of production:\n  %s", strings.Join(lines, "\n  "))
	}
	return found, nil
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

// searchTable searches the rows of one table or materialized view; same says that the columns that are kept are as they
// streamed in.
func (r *Restore) searchTable(ctx context.Context, conn *pgx.Conn, scanner *canary.Scanner, t mask.Table, progress func(int64)) (same bool, err error) {
	var names []string
	for _, c := range t.Columns {
		names = append(names, c.Name)
	}
	columns, err := watched(t, names)
	if err != nil || len(names) == 0 {
		return false, err
	}
	stream := scanner.Table(t.Qualified(), columns)
	prover := t.Prover(names)
	if len(t.Masked) > 0 && r.utf8() {
		stream.Also(prover.Field)
	}
	if err := postgres.CopyOut(ctx, conn, t.Table, &metered{stream, progress}); err != nil {
		return false, fmt.Errorf("reading %s of %s: %w", t.Qualified(), r.Database, err)
	}
	if err := stream.Close(); err != nil {
		return false, err
	}
	for _, c := range t.Masked {
		if n, _ := prover.Violations(c.Name); n > 0 {
			return false, violated(t, c, n)
		}
	}
	sampler := r.samples.tables[t.Qualified()]
	if sampler == nil {
		return false, nil
	}
	if stream.Fingerprint() != sampler.Fingerprint() {
		return false, run.Fail(run.Unclean, "does an expression under sql or a trigger of the application change another column?",
			"%s: columns that columns.yaml keeps are not what the backup holds", t.Qualified())
	}
	return true, nil
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
