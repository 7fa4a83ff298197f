package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"rehearsal/internal/guard"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Run looks at this machine, at the hosts of the databases and of the inventory's image stores, and at the databases.
// It prints every finding and puts them into the field "checks". It fails with the code and the hint of the first
// finding that failed or, where none did and something could not be looked at, with run.Incomplete.
func Run(ctx context.Context, t *run.Target, inv *inventory.Inventory, databases []*inventory.Database) error {
	e := newExam(inv, databases)
	err := t.Step(ctx, "look", func(ctx context.Context, s *run.Step) error {
		e.look(ctx, s)
		return context.Cause(ctx)
	})
	if err != nil {
		return err
	}
	findings := e.judge(time.Now())
	t.Set("checks", findings)
	show(t, findings)
	return verdict(findings)
}

// exam is one look at everything.
type exam struct {
	inventory *inventory.Inventory
	machines  []*machine // in the order in which they are shown
	subjects  []*subject
}

// subject is one database: what was learned of it at its three places.
type subject struct {
	*inventory.Database
	prefix     string // of its findings' names, where there are several databases
	production source
	backups    store
	staging    target
}

func newExam(inv *inventory.Inventory, databases []*inventory.Database) *exam {
	e := &exam{inventory: inv}
	for _, db := range databases {
		s := &subject{Database: db}
		if len(inv.Databases) > 1 {
			s.prefix = db.Name + ": "
		}
		e.subjects = append(e.subjects, s)
		e.machine(db.Production.Host).sees(s, inventory.Production)
		e.machine(db.Backups.Host).sees(s, inventory.Backup)
		e.machine(db.Staging.Host).sees(s, inventory.Staging)
	}
	for _, store := range inv.Images {
		for _, tree := range slices.Concat(store.Production, store.Backup) {
			e.machine(tree.Host)
		}
	}
	slices.SortFunc(e.machines, func(a, b *machine) int {
		return cmp.Or(slices.Index(roles, a.spec.Role)-slices.Index(roles, b.spec.Role), strings.Compare(a.spec.Name, b.spec.Name))
	})
	return e
}

// roles is the order in which hosts are shown: the way of a backup.
var roles = []inventory.Role{inventory.Production, inventory.Backup, inventory.Staging}

func (e *exam) machine(spec *inventory.Host) *machine {
	i := slices.IndexFunc(e.machines, func(m *machine) bool { return m.spec == spec })
	if i < 0 {
		i = len(e.machines)
		e.machines = append(e.machines, &machine{spec: spec})
	}
	return e.machines[i]
}

// look asks every host at once.
func (e *exam) look(ctx context.Context, s *run.Step) {
	var all sync.WaitGroup
	var mu sync.Mutex
	done := 0
	s.Count(0, len(e.machines), "hosts")
	for _, m := range e.machines {
		all.Go(func() {
			m.look(ctx)
			mu.Lock()
			defer mu.Unlock()
			done++
			s.Count(done, len(e.machines), "hosts")
		})
	}
	all.Wait()
}

// judge turns what was learned into findings, in the order in which they are shown.
func (e *exam) judge(now time.Time) []guard.Finding {
	here := &report{}
	e.judgeHere(here)
	findings := here.findings
	for _, m := range e.machines {
		r := &report{host: m.spec.Name}
		m.judge(r, now)
		findings = append(findings, r.findings...)
	}
	return findings
}

// verdict is the error that the target ends with.
func verdict(findings []guard.Finding) error {
	for _, v := range []struct {
		status guard.Status
		what   string
	}{{guard.Failed, "failed"}, {guard.Unchecked, "could not be made"}} {
		n := count(findings, v.status)
		if n == 0 {
			continue
		}
		first := findings[slices.IndexFunc(findings, func(f guard.Finding) bool { return f.Status == v.status })]
		code := first.Code
		if v.status == guard.Unchecked {
			code = run.Incomplete
		}
		where := first.Name
		if first.Host != "" {
			where += " on " + first.Host
		}
		detail, _, _ := strings.Cut(first.Detail, "\n")
		return run.Fail(code, first.Hint, "%d of %d checks %s: %s", n, len(findings), v.what, fmt.Sprintf("%s: %s", where, detail))
	}
	return nil
}

func count(findings []guard.Finding, status guard.Status) (n int) {
	for _, f := range findings {
		if f.Status == status {
			n++
		}
	}
	return n
}
