package staging

import (
	"context"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"rehearsal/internal/drill"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/restore"
	"rehearsal/internal/run"
)

// Options of a reset or plan.
type Options struct {
	Backup    *string // ID; nil: the newest
	ReadAhead *int    // MiB of the backup's files that wait in memory at most; nil: 64
}

// readAhead is ReadAhead in bytes, 0 where it is not given.
func (o Options) readAhead() (int64, error) {
	if o.ReadAhead == nil {
		return 0, nil
	}
	const least, most = 2, 1 << 20
	if *o.ReadAhead < least || *o.ReadAhead > most {
		return 0, run.Fail(run.Usage, "leave the flag out for 64", "-readAhead=%d is not from %d to %d MiB", *o.ReadAhead, least, most)
	}
	return int64(*o.ReadAhead) << 20, nil
}

// Reset replaces staging's database by the backup, masked and proven, and keeps the one before as
// NAME_previous. Any error or interruption before the swap leaves staging as it was; after the swap only
// the record can fail, and the error says so.
func Reset(ctx context.Context, t *run.Target, db *inventory.Database, accounts []inventory.Account, o Options) error {
	s := newStage(t, db, accounts, "staging:reset")
	var err error
	if s.ReadAhead, err = o.readAhead(); err != nil {
		return err
	}
	if err := s.read(); err != nil {
		return err
	}
	if err := s.ready(ctx, o); err != nil {
		return err
	}
	s.BringSearcher(ctx)
	r := s.Restore(postgres.Incoming(db.Staging.Name))
	if err := s.reset(ctx, r); err != nil {
		if !s.swapped {
			t.Printf("\n%s on %s is as it was\n", db.Staging.Name, s.Staging.Host.Name())
			s.RecordFailure(ctx, err)
		}
		return err
	}
	if err := t.Step(ctx, "record the rehearsal", func(ctx context.Context, _ *run.Step) error { return s.Record(ctx) }); err != nil {
		return run.Fail(run.Incomplete, "staging:rollback brings the old database back, if you want it", "staging is replaced, but its rehearsal is not recorded: %w", err)
	}
	s.show(r)
	return nil
}

// reset is everything up to and including the swap.
func (s *stage) reset(ctx context.Context, r *restore.Restore) error {
	if err := r.Rehearse(ctx); err != nil {
		return err
	}
	if err := s.Target.Step(ctx, "try the queries", func(ctx context.Context, _ *run.Step) error { return s.TryQueries(ctx, r.Database) }); err != nil {
		return err
	}
	if err := r.Load(ctx); err != nil {
		return err
	}
	proof, tables, err := r.Prove(ctx)
	if err != nil {
		return err
	}
	s.Target.Set("tables", tables)
	if err := r.Finish(ctx); err != nil {
		return err
	}
	proof.Searched, err = r.Search(ctx, s.people())
	s.proof = proof
	s.Target.Set("proof", proof)
	if err != nil {
		return err
	}
	return s.Target.Steps(ctx,
		run.Named("accounts", func(ctx context.Context, step *run.Step) error { return s.promote(ctx, r.Database, step) }),
		run.Named("neutralize", func(ctx context.Context, _ *run.Step) error { return s.neutralize(ctx, r.Database) }),
		run.Named("checks", func(ctx context.Context, step *run.Step) error { return s.Check(ctx, r.Database, step) }),
		run.Named("newest events", func(ctx context.Context, step *run.Step) error { return s.judge(ctx, r.Database, tables) }),
		run.Named("swap", func(ctx context.Context, step *run.Step) error { return s.swap(ctx, r.Database, step) }),
	)
}

// judge looks for the newest events, and refuses a backup made by others that only its restore shows to be suspicious.
// That verdict is recorded, so that somebody can accept it.
func (s *stage) judge(ctx context.Context, database string, tables []restore.TableResult) error {
	if err := s.ReadEvents(ctx, database); err != nil {
		return err
	}
	s.Judge(tables)
	suspicious := s.Suspicious()
	if suspicious == nil {
		return nil
	}
	if err := s.Record(ctx); err != nil {
		s.Target.Warn("%v", err)
	}
	return suspicious
}

// neutralize runs neutralize.sql.
func (s *stage) neutralize(ctx context.Context, database string) error {
	if _, err := s.Staging.Run(ctx, database, s.DB.Staging.Owner, s.Files.Neutralize); err != nil {
		return run.Fail(run.Unclean, "mend it", "%w", err)
	}
	return nil
}

// swap gives the new database the name of the one in use, and that one the name of the previous one.
func (s *stage) swap(ctx context.Context, incoming string, step *run.Step) error {
	conn, name := s.Lock.Conn, s.DB.Staging.Name
	ender, err := s.carry(ctx, name, incoming)
	if err != nil {
		return err
	}
	defer ender.Close(context.WithoutCancel(ctx))
	if err := s.Staging.Drop(ctx, conn, drill.Discarded(name)); err != nil {
		return err
	}
	var renames []postgres.Rename
	previous, err := postgres.Exists(ctx, conn, postgres.Previous(name))
	if err != nil {
		return err
	}
	if previous && s.Exists {
		renames = append(renames, postgres.Rename{From: postgres.Previous(name), To: drill.Discarded(name)})
	}
	if s.Exists {
		renames = append(renames, postgres.Rename{From: name, To: postgres.Previous(name)})
		step.Detail("the old one is %s", postgres.Previous(name))
	}
	if err := s.Staging.Swap(ctx, conn, ender, append(renames, postgres.Rename{From: incoming, To: name})); err != nil {
		return err
	}
	s.swapped = true
	if err := s.Staging.Drop(ctx, conn, drill.Discarded(name)); err != nil {
		s.Target.Warn("%v; the next reset drops it", err)
	}
	return nil
}

// carry gives the new database what belongs to the name, and returns a session to swap with, opened meanwhile.
func (s *stage) carry(ctx context.Context, name, incoming string) (*pgx.Conn, error) {
	var ender *pgx.Conn
	g, both := errgroup.WithContext(ctx)
	g.Go(func() error {
		notes, err := s.Staging.Carry(both, s.Lock.Conn, name, incoming)
		for _, note := range notes {
			s.Target.Warn("%s", note)
		}
		return err
	})
	g.Go(func() (err error) {
		ender, err = s.Staging.ConnectMaintenance(both)
		return err
	})
	err := g.Wait()
	if err != nil && ender != nil {
		ender.Close(context.WithoutCancel(ctx))
	}
	return ender, err
}

// show prints what a person looks for after a reset.
func (s *stage) show(r *restore.Restore) {
	if len(r.MissingRoles) > 0 {
		s.Target.Set("missing_roles", r.MissingRoles)
		s.Target.Warn("roles of the backup that %s lacks, their grants are left out: %v", s.Staging.Host.Name(), r.MissingRoles)
	}
	s.Target.Printf("\nproof that nothing sensitive is on staging\n")
	for _, line := range s.proof.Lines() {
		s.Target.Printf("  %s\n", line)
	}
	s.showAccounts()
	s.Target.Printf("\nnewest events in backup %s\n", s.Backup.ID)
	drill.ShowEvents(s.Target, s.Events)
	s.Target.Printf("\n%s on %s is backup %s; `mage staging:rollback` brings the database before it back\n", s.DB.Staging.Name, s.Staging.Host.Name(), s.Backup.ID)
}
