package staging

import (
	"context"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
	"rehearsal/internal/sqldir"
)

// eventsShown is how many events a reset prints.
const eventsShown = 10

// Events prints the n newest events in staging now.
func Events(ctx context.Context, t *run.Target, db *inventory.Database, n int) error {
	if n < 1 {
		return run.Fail(run.Usage, "", "-n=%d: it must be at least 1", n)
	}
	var files sqldir.Files
	if err := files.Load(db.SQL); err != nil {
		return err
	}
	h, err := host.Dial(ctx, db.Staging.Host)
	if err != nil {
		return err
	}
	defer h.Close()
	server := &postgres.Server{Host: h, Spec: db.Staging}
	events, err := queryEvents(ctx, server, db.Staging.Name, files.Events, n)
	if err != nil {
		return err
	}
	t.Set("events", events)
	showEvents(t, events)
	return nil
}

func queryEvents(ctx context.Context, server *postgres.Server, database string, q postgres.Query, n int) ([]postgres.Event, error) {
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

// readEvents looks for the newest events before the swap: a database that lost those its backup had is not fit.
func (s *stage) readEvents(ctx context.Context, database string) (err error) {
	if s.events, err = queryEvents(ctx, s.staging, database, s.files.Events, eventsShown); err != nil {
		return err
	}
	s.t.Set("events", s.events)
	if len(s.events) == 0 && len(s.backup.Manifest.NewestEvents) > 0 {
		return run.Fail(run.Unfit, "does columns.yaml truncate the table that events.sql reads?", "backup %s had events when it was made, its restore has none", s.backup.ID)
	}
	return nil
}

func (s *stage) showEvents() { showEvents(s.t, s.events) }

func showEvents(t *run.Target, events []postgres.Event) {
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
