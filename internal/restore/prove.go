package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"rehearsal/internal/archive"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Proof is the evidence that the new database holds what the backup holds and that its masked columns are
// masked: counts, never values.
type Proof struct {
	Tables   int      `json:"tables"`
	Rows     int64    `json:"rows"`
	Masked   int      `json:"masked_columns"`
	Proven   int      `json:"proven_columns"`      // masked columns whose every value satisfies the verb's predicate
	Unproven []string `json:"unproven,omitempty"`  // columns of verb sql, which has no predicate
	Skipped  []string `json:"truncated,omitempty"` // tables that were not read

	Searched
}

// Lines says the proof in sentences that somebody who never saw a database can file.
func (p Proof) Lines() []string {
	lines := []string{
		fmt.Sprintf("%d rows in %d tables were counted", p.Rows, p.Tables),
		fmt.Sprintf("%d columns were masked on their way; of %d every value was checked to be a masked one", p.Masked, p.Proven),
	}
	if len(p.Unproven) > 0 {
		lines = append(lines, "by an expression of their own, which nothing but the search below proves: "+strings.Join(p.Unproven, ", "))
	}
	lines = append(lines,
		fmt.Sprintf("%d real values of %d columns were searched for in all rows, views and the schema's text (%s): none was found", p.Canaries, p.Columns, run.Bytes(p.Bytes)),
		"no e-mail address but those of accounts.yaml and .invalid, and no card or IBAN in a masked column",
		fmt.Sprintf("the columns that are kept in %d tables with masked ones are what the backup holds", p.Compared))
	if len(p.Skipped) > 0 {
		lines = append(lines, "never loaded: "+strings.Join(p.Skipped, ", "))
	}
	return lines
}

// TableResult is one table of the new database.
type TableResult struct {
	Name   string   `json:"name"`
	Rows   int64    `json:"rows"`
	Masked []string `json:"masked"`
	Root   string   `json:"-"` // of a partition: its topmost parent

	unproven []string // masked columns that nothing proves
}

// Prove counts every table against the manifest and checks, one scan a table, the predicates over all rows that only the
// server can ask; Search asks the others. A difference in rows is run.Unfit, a value that is not masked run.Unclean; both
// name the table.
func (r *Restore) Prove(ctx context.Context) (proof Proof, results []TableResult, err error) {
	err = r.Target.Step(ctx, "count and prove", func(ctx context.Context, s *run.Step) error {
		results, err = r.proveTables(ctx, s)
		if err != nil {
			return err
		}
		proof = r.summarise(results)
		if proof.Rows == 0 {
			return run.Fail(run.Unfit, "was it made with --schema-only, or of another database?", "backup %s is empty: no table has a row", r.Backup.ID)
		}
		s.Detail("%d rows in %d tables, %d masked columns", proof.Rows, proof.Tables, proof.Masked)
		return nil
	})
	return proof, results, err
}

func (r *Restore) proveTables(ctx context.Context, s *run.Step) ([]TableResult, error) {
	expected := map[string]int64{}
	for _, t := range r.Backup.Manifest.Tables {
		expected[t.Name] = t.Rows
	}
	var mu sync.Mutex
	tables := slices.DeleteFunc(slices.Clone(r.Plan.Tables), func(t mask.Table) bool { return t.Proof() == "" })
	results := make([]TableResult, len(tables))
	next, done := 0, 0
	take := func() int {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1
	}
	g, ctx := errgroup.WithContext(ctx)
	for range min(streams, len(results)) {
		g.Go(func() error {
			conn, err := r.Staging.Connect(ctx, r.Database)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			// Compiling a proof of many columns takes longer than most tables' scans.
			if _, err := conn.Exec(ctx, "SET jit = off"); err != nil {
				return fmt.Errorf("preparing the proof: %w", err)
			}
			for i := take(); i < len(results); i = take() {
				if results[i], err = r.proveTable(ctx, conn, tables[i], expected); err != nil {
					return err
				}
				mu.Lock()
				done++
				s.Count(done, len(results), "tables")
				mu.Unlock()
			}
			return nil
		})
	}
	return results, g.Wait()
}

// proveTable compares one table's counts: its rows first, then one number of violations for each masked
// column, which is null for a verb that proves nothing.
func (r *Restore) proveTable(ctx context.Context, conn *pgx.Conn, t mask.Table, expected map[string]int64) (TableResult, error) {
	result := TableResult{Name: t.Qualified(), Masked: []string{}, Root: t.Root}
	for _, c := range t.Masked {
		result.Masked = append(result.Masked, c.Name)
	}
	if r.utf8() {
		t = t.Unread() // the search reads every value, and asks about the others
	}
	counts, err := postgres.Row(ctx, conn, t.Proof())
	if err != nil {
		return result, run.Fail(run.Unclean, "", "proving %s: %w", result.Name, err)
	}
	result.Rows = *counts[0]
	if err := r.compareRows(t, result.Rows, expected); err != nil {
		return result, err
	}
	for i, c := range t.Masked {
		violations := counts[i+1]
		switch {
		case violations == nil:
			result.unproven = append(result.unproven, result.Name+"."+c.Name)
		case *violations != 0:
			return result, violated(t, c, *violations)
		}
	}
	return result, nil
}

func violated(t mask.Table, c mask.Column, values int64) error {
	return run.Fail(run.Unclean, "", "%s.%s: %d values are not what the verb %s makes", t.Qualified(), c.Name, values, c.Verb.Name)
}

// compareRows holds a count against the manifest's. A backup made by others has none.
func (r *Restore) compareRows(t mask.Table, rows int64, expected map[string]int64) error {
	name := t.Qualified()
	want, known := expected[name]
	switch {
	case t.Truncate && rows != 0:
		return run.Fail(run.Unclean, "", "%s is to be empty and holds %d rows", name, rows)
	case t.Truncate || r.Backup.Kind != archive.Ours:
		return nil
	case !known:
		return run.Fail(run.Unfit, "make a new backup: mage backup:create", "table %s is in the dump and not in the manifest", name)
	case rows != want:
		return run.Fail(run.Unfit, "the dump does not hold what its manifest counted: make a new backup and look at the disk of the backup host",
			"%s holds %d rows after the restore, its manifest counted %d", name, rows, want)
	}
	return nil
}

func (r *Restore) summarise(results []TableResult) Proof {
	proof := Proof{Tables: len(results)}
	for _, t := range results {
		proof.Rows += t.Rows
		proof.Masked += len(t.Masked)
		proof.Unproven = append(proof.Unproven, t.unproven...)
	}
	proof.Proven = proof.Masked - len(proof.Unproven)
	for _, t := range r.Plan.Tables {
		if t.Truncate {
			proof.Skipped = append(proof.Skipped, t.Qualified())
		}
	}
	return proof
}
