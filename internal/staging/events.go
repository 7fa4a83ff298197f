package staging

import (
	"context"

	"rehearsal/internal/drill"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
	"rehearsal/internal/sqldir"
)

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
	events, err := drill.QueryEvents(ctx, server, db.Staging.Name, files.Events, n)
	if err != nil {
		return err
	}
	t.Set("events", events)
	drill.ShowEvents(t, events)
	return nil
}
