package staging

import (
	"context"

	"rehearsal/internal/drill"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Rollback exchanges staging's database with the one before the last reset, which comes back with its own
// grants and settings; a second Rollback exchanges them again.
func Rollback(ctx context.Context, t *run.Target, db *inventory.Database) error {
	s := newStage(t, db, nil, "staging:rollback")
	err := t.Step(ctx, "connect", func(ctx context.Context, _ *run.Step) error { return s.ConnectStaging(ctx) })
	if err != nil {
		return err
	}
	err = t.Step(ctx, "check staging", func(_ context.Context, step *run.Step) error { return s.Inspect(step) })
	if err != nil {
		return err
	}
	err = t.Step(ctx, "swap", func(ctx context.Context, _ *run.Step) error { return s.exchange(ctx) })
	if err != nil {
		return err
	}
	t.Printf("\n%s on %s and %s have changed places; another rollback changes them back\n", db.Staging.Name, s.Staging.Host.Name(),
		postgres.Previous(db.Staging.Name))
	return nil
}

func (s *stage) exchange(ctx context.Context) error {
	conn, name := s.Lock.Conn, s.DB.Staging.Name
	previous := postgres.Previous(name)
	ok, err := postgres.Exists(ctx, conn, previous)
	if err != nil {
		return err
	}
	if !ok {
		return run.Fail(run.Usage, "only a reset leaves one", "there is no database %s on %s to go back to", previous, s.Staging.Host.Name())
	}
	ender, err := s.Staging.ConnectMaintenance(ctx)
	if err != nil {
		return err
	}
	defer ender.Close(context.WithoutCancel(ctx))
	if !s.Exists {
		return s.Staging.Swap(ctx, conn, ender, []postgres.Rename{{From: previous, To: name}})
	}
	if err := s.Staging.Drop(ctx, conn, drill.Discarded(name)); err != nil {
		return err
	}
	return s.Staging.Swap(ctx, conn, ender, []postgres.Rename{
		{From: name, To: drill.Discarded(name)}, {From: previous, To: name}, {From: drill.Discarded(name), To: previous}})
}
