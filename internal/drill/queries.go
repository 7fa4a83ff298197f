package drill

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// EventsShown is how many events a rehearsal prints.
const EventsShown = 10

// TryQueries runs the events and the checks on the rehearsed schema without rows: an error in them is said before the
// load, not hours later.
func (d *Drill) TryQueries(ctx context.Context, database string) error {
	var events, checks error
	var g sync.WaitGroup
	g.Go(func() { _, events = QueryEvents(ctx, d.Staging, database, d.Files.Events, 1) })
	g.Go(func() {
		_, checks = d.count(ctx, database, 1, func(int) {})
	})
	g.Wait()
	return cmp.Or(events, checks)
}

// Check runs every business check; all that fail are named.
func (d *Drill) Check(ctx context.Context, database string, step *run.Step) error {
	rows, err := d.count(ctx, database, violationLimit, func(done int) { step.Count(done, len(d.Files.Checks), "checks") })
	if err != nil {
		return err
	}
	var failed []string
	for i, c := range d.Files.Checks {
		if rows[i] > 0 {
			failed = append(failed, fmt.Sprintf("%s: %s rows break the rule %q", c.File, atLeast(rows[i]), c.Name))
		}
	}
	if failed != nil {
		return run.Fail(run.Unfit, "run the query on production: either its rows are wrong, or the backup's are", "backup %s: %s", d.Backup.ID, strings.Join(failed, "\n"))
	}
	return nil
}

// checkSessions is how many checks run at once, each in a session of its own.
const checkSessions = 4

// count runs all checks and returns how many rows each has, up to limit. The error is that of the first in the order of
// their names, whichever ends first.
func (d *Drill) count(ctx context.Context, database string, limit int, progress func(done int)) ([]int, error) {
	checks := d.Files.Checks
	rows, errs := make([]int, len(checks)), make([]error, len(checks))
	var next, done atomic.Int64
	var g sync.WaitGroup
	for range min(checkSessions, len(checks)) {
		g.Go(func() {
			conn, failed := d.Staging.Connect(ctx, database)
			if failed == nil {
				defer conn.Close(context.WithoutCancel(ctx))
			}
			for i := next.Add(1) - 1; i < int64(len(checks)); i = next.Add(1) - 1 {
				if errs[i] = failed; failed != nil {
					continue
				}
				if rows[i], errs[i] = checks[i].CountRows(ctx, conn, d.DB.Staging.Owner, limit); errs[i] != nil {
					errs[i] = run.Fail(run.Incomplete, "mend the query", "%w", errs[i])
				}
				progress(int(done.Add(1)))
			}
		})
	}
	g.Wait()
	return rows, cmp.Or(errs...)
}

// violationLimit is how many violating rows of a check are counted.
const violationLimit = 1000

func atLeast(n int) string {
	if n == violationLimit {
		return fmt.Sprintf("at least %d", n)
	}
	return fmt.Sprint(n)
}

// ReadEvents looks for the newest events in the restored database: one that lost those its backup had is not fit.
func (d *Drill) ReadEvents(ctx context.Context, database string) (err error) {
	if d.Events, err = QueryEvents(ctx, d.Staging, database, d.Files.Events, EventsShown); err != nil {
		return err
	}
	d.Target.Set("events", d.Events)
	if len(d.Events) == 0 && len(d.Backup.Manifest.NewestEvents) > 0 {
		return run.Fail(run.Unfit, "does columns.yaml truncate the table that events.sql reads?", "backup %s had events when it was made, its restore has none", d.Backup.ID)
	}
	return nil
}

// QueryEvents returns the n newest events in a database of staging.
func QueryEvents(ctx context.Context, server *postgres.Server, database string, q postgres.Query, n int) ([]postgres.Event, error) {
	conn, err := server.Connect(ctx, database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	events, err := q.Events(ctx, conn, server.Spec.Owner, n)
	if err != nil {
		return nil, run.Fail(run.Incomplete, "mend the query", "%w", err)
	}
	return events, nil
}

// ShowEvents prints events, newest first.
func ShowEvents(t *run.Target, events []postgres.Event) {
	if len(events) == 0 {
		t.Warn("events.sql returned no row: nothing shows how fresh the data is")
		return
	}
	var rows [][]string
	for _, e := range events {
		rows = append(rows, []string{"  " + e.At.Local().Format(time.DateTime), run.Age(time.Since(e.At)) + " ago", e.What})
	}
	t.Table(nil, rows)
}
