package staging

import (
	"context"

	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Rollback exchanges staging's database with the one before the last reset, which comes back with its own
// grants and settings; a second Rollback exchanges them again.
func Rollback(ctx context.Context, t *run.Target, db *inventory.Database) error {
	s := &stage{t: t, db: db, name: "staging:rollback"}
	err := t.Step(ctx, "connect", func(ctx context.Context, _ *run.Step) error { return s.connectStaging(ctx) })
	if err != nil {
		return err
	}
	err = t.Step(ctx, "check staging", func(ctx context.Context, step *run.Step) error {
		if err := s.takeLock(ctx); err != nil {
			return err
		}
		return s.inspect(ctx, step)
	})
	if err != nil {
		return err
	}
	err = t.Step(ctx, "swap", func(ctx context.Context, _ *run.Step) error { return s.exchange(ctx) })
	if err != nil {
		return err
	}
	t.Printf("\n%s on %s and %s have changed places; another rollback changes them back\n", db.Staging.Name, s.staging.Host.Name(),
		postgres.Previous(db.Staging.Name))
	return nil
}

func (s *stage) exchange(ctx context.Context) error {
	conn, name := s.lock.Conn, s.db.Staging.Name
	previous := postgres.Previous(name)
	ok, err := postgres.Exists(ctx, conn, previous)
	if err != nil {
		return err
	}
	if !ok {
		return run.Fail(run.Usage, "only a reset leaves one", "there is no database %s on %s to go back to", previous, s.staging.Host.Name())
	}
	ender, err := s.staging.ConnectMaintenance(ctx)
	if err != nil {
		return err
	}
	defer ender.Close(context.WithoutCancel(ctx))
	if !s.exists {
		return s.staging.Swap(ctx, conn, ender, []postgres.Rename{{From: previous, To: name}})
	}
	if err := s.staging.Drop(ctx, conn, discarded(name)); err != nil {
		return err
	}
	return s.staging.Swap(ctx, conn, ender, []postgres.Rename{
		{From: name, To: discarded(name)}, {From: previous, To: name}, {From: discarded(name), To: previous}})
}
