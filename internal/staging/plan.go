package staging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"rehearsal/internal/inventory"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/restore"
	"rehearsal/internal/run"
)

// refusal is one reason why a reset would not run.
type refusal struct {
	Message  string   `json:"message"`
	Hint     string   `json:"hint"`
	ExitCode run.Code `json:"exit_code"`
	err      error
}

// Plan says what a reset would do and every refusal it would meet. It changes nothing that lasts: the backup's
// schema, without a row, is restored into a scratch database on staging and dropped again. Where staging is to pull the
// backup itself, the program for that is put there, and stays.
func Plan(ctx context.Context, t *run.Target, db *inventory.Database, accounts []inventory.Account, o Options) error {
	s := newStage(t, db, accounts, "staging:plan")
	p := &plan{stage: s}
	p.try(ctx, "read "+db.SQL, func(context.Context, *run.Step) error { return s.read() })
	p.connect(ctx)
	if s.Archive != nil {
		p.try(ctx, "choose the backup", func(ctx context.Context, step *run.Step) error { return s.Choose(ctx, o.Backup, step) })
	}
	if s.Staging != nil {
		p.try(ctx, "check staging", p.checkStaging)
	}
	r := p.rehearse(ctx)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return p.conclude(r)
}

type plan struct {
	*stage
	refusals []refusal
	fit      bool // staging may be restored to
}

// try does one step and keeps its refusal.
func (p *plan) try(ctx context.Context, name string, do func(context.Context, *run.Step) error) {
	if ctx.Err() != nil {
		return
	}
	p.keep(p.Target.Step(ctx, name, do))
}

// connect keeps the refusals of both hosts.
func (p *plan) connect(ctx context.Context) {
	var staging, backup error
	_ = p.Target.Step(ctx, "connect", func(ctx context.Context, _ *run.Step) error {
		staging, backup = p.ConnectEach(ctx)
		return cmp.Or(staging, backup)
	})
	p.keep(staging)
	p.keep(backup)
}

func (p *plan) keep(err error) {
	if err != nil {
		p.refusals = append(p.refusals, refusal{Message: err.Error(), Hint: run.HintOf(err), ExitCode: run.CodeOf(err), err: err})
	}
}

func (p *plan) checkStaging(ctx context.Context, step *run.Step) error {
	if err := p.Inspect(step); err != nil {
		return err
	}
	if err := p.Quiet(); err != nil {
		return err
	}
	if p.Backup != nil {
		if err := p.Room(ctx); err != nil {
			return err
		}
	}
	p.fit = true
	p.warnOfFirst()
	if p.Archive == nil {
		return nil
	}
	return p.ChooseTransfer(ctx, step)
}

// rehearse restores the schema where everything it needs is there.
func (p *plan) rehearse(ctx context.Context) *restore.Restore {
	if !p.Rehearsable() || !p.fit || p.Rules == nil || ctx.Err() != nil {
		return nil
	}
	r := p.Restore(postgres.Incoming(p.DB.Staging.Name))
	err := r.Rehearse(ctx)
	p.keep(err)
	if err == nil {
		p.try(ctx, "try the queries", func(ctx context.Context, _ *run.Step) error { return p.TryQueries(ctx, r.Database) })
	}
	return r
}

// conclude prints the plan, or the refusals as one error with the first one's exit code.
func (p *plan) conclude(r *restore.Restore) error {
	if p.refusals == nil {
		p.refusals = []refusal{}
	}
	p.Target.Set("refusals", p.refusals)
	if len(p.refusals) == 0 {
		p.print(r.Plan)
		return nil
	}
	if len(p.refusals) == 1 {
		return p.refusals[0].err
	}
	var all []error
	for _, f := range p.refusals {
		text := f.Message
		if f.Hint != "" {
			text += "\n  next: " + f.Hint
		}
		all = append(all, errors.New(text))
	}
	return run.Fail(p.refusals[0].ExitCode, "", "a reset would be refused for %d reasons:\n%w", len(all), errors.Join(all...))
}

func (p *plan) print(plan *mask.Plan) {
	name := p.DB.Staging.Name
	rows := map[string]int64{}
	for _, t := range p.Backup.Manifest.Tables {
		rows[t.Name] = t.Rows
	}
	var lines [][]string
	for _, t := range plan.Tables {
		if t.Kind == 'r' {
			lines = append(lines, []string{"  " + t.Qualified(), fmt.Sprint(rows[t.Qualified()]), treatment(t)})
		}
	}
	p.Target.Printf("\n`mage staging:reset` would restore backup %s beside %s on %s:\n", p.Backup.ID, name, p.Staging.Host.Name())
	p.Target.Table([]string{"  table", "rows", "treatment"}, lines)
	p.Target.Printf("then make %d people admins, run neutralize.sql and %d checks, and swap\n", len(p.accounts), len(p.Files.Checks))
	p.Target.Printf("%s\n", p.way())
	if p.Exists {
		p.Target.Printf("the database in use now stays as %s\n", postgres.Previous(name))
	}
	p.Target.Printf("nothing stands against it\n")
}

// way says which way the rows would take, and why it is not the one that the inventory would rather have.
func (p *plan) way() string {
	switch {
	case p.Transfer == inventory.Direct:
		return fmt.Sprintf("transfer: direct: %s pulls the rows from %s, and they do not pass through this machine", p.Staging.Host.Name(), p.Archive.Host.Name())
	case p.Why != nil:
		return fmt.Sprintf("transfer: relay: the rows pass through this machine, because %v", p.Why)
	}
	return "transfer: relay: the rows pass through this machine"
}

func treatment(t mask.Table) string {
	if t.Truncate {
		return "emptied: its rows are not fetched"
	}
	if len(t.Masked) == 0 {
		return "kept"
	}
	var columns []string
	for _, c := range t.Masked {
		columns = append(columns, c.Name+" ("+c.Verb.Name+")")
	}
	return "masked: " + strings.Join(columns, ", ")
}
