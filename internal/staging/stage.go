package staging

import (
	"context"

	"rehearsal/internal/drill"
	"rehearsal/internal/inventory"
	"rehearsal/internal/restore"
	"rehearsal/internal/run"
)

// stage is a drill that replaces the database in use.
type stage struct {
	*drill.Drill
	accounts []inventory.Account
	password string // of theirs on staging, hashed; empty where nobody set one

	swapped bool // the new database is in use
	outcome outcome
	proof   restore.Proof
}

func newStage(t *run.Target, db *inventory.Database, accounts []inventory.Account, name string) *stage {
	return &stage{Drill: &drill.Drill{Target: t, DB: db, Name: name}, accounts: accounts}
}

// read reads what lies on this machine, with what makes people admins.
func (s *stage) read() error {
	if err := s.Read(); err != nil {
		return err
	}
	if len(s.accounts) == 0 {
		return nil
	}
	if err := s.Files.NeedAccounts(); err != nil {
		return err
	}
	var err error
	s.password, err = hashPassword()
	return err
}

// ready connects, chooses the backup and refuses what cannot work, before anything changes.
func (s *stage) ready(ctx context.Context, o Options) error {
	err := s.Target.Steps(ctx,
		run.Named("connect", s.Connect),
		run.Named("choose the backup", func(ctx context.Context, step *run.Step) error { return s.Choose(ctx, o.Backup, step) }),
		run.Named("check staging", s.CheckStaging),
	)
	if err == nil {
		s.warnOfFirst()
	}
	return err
}

// warnOfFirst says that there is no database to replace, which is right once.
func (s *stage) warnOfFirst() {
	if !s.Exists {
		s.Target.Warn("there is no database %s on %s yet: the reset makes it", s.DB.Staging.Name, s.Staging.Host.Name())
	}
}
