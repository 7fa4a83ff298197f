package drill

import (
	"context"
	"fmt"
	"time"

	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// EventsShown is how many events a rehearsal prints.
const EventsShown = 10

// TryQueries runs the events and the checks on the rehearsed schema without rows: an error in them is said before the
// load, not hours later.
func (d *Drill) TryQueries(ctx context.Context, database string) error {
	if _, err := QueryEvents(ctx, d.Staging, database, d.Files.Events, 1); err != nil {
		return err
	}
	conn, err := d.Staging.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, c := range d.Files.Checks {
		if _, err := c.CountRows(ctx, conn, d.DB.Staging.Owner, 1); err != nil {
			return run.Fail(run.Incomplete, "mend the query", "%w", err)
		}
	}
	return nil
}

// Check runs every business check; all that fail are named.
func (d *Drill) Check(ctx context.Context, database string, step *run.Step) error {
	conn, err := d.Staging.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var failed error
	for i, c := range d.Files.Checks {
		step.Count(i+1, len(d.Files.Checks), "checks")
		n, err := c.CountRows(ctx, conn, d.DB.Staging.Owner, violationLimit)
		switch {
		case err != nil:
			return run.Fail(run.Incomplete, "mend the query", "%w", err)
		case n > 0 && failed == nil:
			failed = fmt.Errorf("%s: %s rows break the rule %q", c.File, atLeast(n), c.Name)
		case n > 0:
			failed = fmt.Errorf("%w\n%s: %s rows break the rule %q", failed, c.File, atLeast(n), c.Name)
		}
	}
	if failed != nil {
		return run.Fail(run.Unfit, "run the query on production: either its rows are wrong, or the backup's are", "backup %s: %w", d.Backup.ID, failed)
	}
	return nil
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
