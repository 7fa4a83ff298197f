package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rehearsal/internal/guard"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// Check scans production itself for corruption by pg_amcheck: every heap, TOAST table and B-tree index of the
// database, and that each row of a heap is in its indexes. A backup cannot show that: a restore builds every
// index anew. It reads only, with the locks of a SELECT, and begins nothing once budget is over.
//
// It succeeds only where this run has scanned everything and found nothing. Corruption is run.Unfit, and stays
// it in every later run until a scan of the same relation finds it sound. What the budget or an error kept from
// being scanned is run.Incomplete; the next run begins with what was scanned longest ago, so that a nightly run
// comes round to everything.
func Check(ctx context.Context, t *run.Target, db *inventory.Database, budget time.Duration) error {
	if budget <= 0 {
		return run.Fail(run.Usage, "for example -budget=30m", "a budget of %s lets nothing be scanned", budget)
	}
	c := &checking{t: t, db: db, budget: budget, scanned: map[uint32]bool{}, failed: map[uint32]string{}}
	err := t.Steps(ctx,
		run.Named("connect", c.connect),
		run.Named("check the source", c.guard),
		run.Named("list what to scan", c.list),
	)
	if err != nil {
		return err
	}
	err = t.Step(ctx, "scan", c.scan)
	c.report()
	return err
}

// checking is a scan on its way.
type checking struct {
	t      *run.Target
	db     *inventory.Database
	budget time.Duration

	production *postgres.Server
	conn       *pgx.Conn
	id         postgres.Identity
	amcheck    string // its version
	relations  []postgres.Relation
	uncovered  []postgres.Uncovered
	ledger     ledger

	scanned map[uint32]bool   // in full by this run, by OID
	failed  map[uint32]string // not to be scanned, and why
	over    bool              // the budget is
	large   string            // the relation that had its turn first and did not fit into the budget
}

func (c *checking) connect(ctx context.Context, _ *run.Step) error {
	h, err := host.DialFor(ctx, c.t, c.db.Production.Host)
	if err != nil {
		return err
	}
	c.production = &postgres.Server{Host: h, Spec: c.db.Production}
	return nil
}

// guard sees to it that the server is the inventory's, and that everything a scan needs is there.
func (c *checking) guard(ctx context.Context, s *run.Step) (err error) {
	h := c.production.Host
	if c.conn, err = c.production.Connect(ctx, c.db.Production.Name); err != nil {
		return err
	}
	c.t.Cleanup("end the session", c.conn.Close)
	if c.id, err = postgres.Identify(ctx, c.conn); err != nil {
		return err
	}
	if err := refuse(guard.Identity(c.db.Production, c.id), guard.Failed, guard.Unchecked); err != nil {
		return err
	}
	if c.id.Major < postgres.AmcheckSince {
		return run.Fail(run.Incomplete, "upgrade the server; until then nothing looks for corruption in its heaps",
			"PostgreSQL %s on %s cannot be scanned: pg_amcheck is of PostgreSQL %d", c.id.ServerVersion, h.Name(), postgres.AmcheckSince)
	}
	program, _, err := c.production.Version(ctx, "pg_amcheck")
	if err != nil {
		return run.Fail(run.Unreachable, fmt.Sprintf("install PostgreSQL's client there (Debian: postgresql-client-%d), or name its folder in postgres_bin", c.id.Major),
			"no pg_amcheck on %s: %w", h.Name(), err)
	}
	if c.amcheck, err = c.production.AmcheckReady(ctx, c.conn); err != nil {
		return err
	}
	s.Detail("PostgreSQL %s, system identifier %s, pg_amcheck %s, amcheck %s", c.id.ServerVersion, c.id.SystemIdentifier, program, c.amcheck)
	return nil
}

func (c *checking) list(ctx context.Context, s *run.Step) (err error) {
	if c.relations, err = postgres.Relations(ctx, c.conn); err != nil {
		return err
	}
	if c.uncovered, err = postgres.UncoveredRelations(ctx, c.conn); err != nil {
		return err
	}
	if err := c.readLedger(ctx); err != nil {
		return err
	}
	tables := c.tables()
	own := slices.IndexFunc(tables, func(t table) bool { return t.catalog })
	s.Detail("%d tables and %d of PostgreSQL's own, with indexes and TOAST tables %d relations, %s", own, len(tables)-own, len(c.relations),
		run.Bytes(totalBytes(c.relations)))
	return nil
}

// scan runs pg_amcheck over one batch after the other, what was scanned longest ago first.
func (c *checking) scan(ctx context.Context, s *run.Step) error {
	saved := c.t.Cleanup("the dates of this scan on "+c.production.Host.Name(), c.writeLedger)
	s.Expect(totalBytes(c.relations))
	limited, cancel := context.WithTimeout(ctx, c.budget)
	defer cancel()
	var err error
	for _, batch := range batches(c.ledger.order(c.relations), c.ledger.Cut) {
		if err = c.scanBatch(limited, s, batch); err != nil {
			break
		}
		if err = c.writeLedger(ctx); err != nil {
			break
		}
	}
	if c.over = ctx.Err() == nil && limited.Err() != nil; c.over {
		err = nil
	}
	if ctx.Err() == nil {
		if gone := c.forget(ctx); gone != nil && err == nil {
			err = gone
		}
		if wrote := c.writeLedger(ctx); wrote != nil && err == nil {
			err = wrote
		} else if wrote == nil {
			saved()
		}
	}
	s.Count(len(c.scanned), len(c.relations), "relations")
	return c.verdict(err)
}

// scanBatch scans a batch and writes down what became of each relation. A batch that was cut short counts
// for nothing: what pg_amcheck had found by then is lost with it.
func (c *checking) scanBatch(ctx context.Context, s *run.Step, batch []postgres.Relation) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	started, seen := time.Now().UTC(), 0
	done, err := c.production.Amcheck(ctx, batch, func(postgres.Relation) {
		s.Count(len(c.scanned)+len(c.failed)+seen, len(c.relations), "relations")
		seen++
	})
	if err != nil {
		if n := len(done.Begun); n > 0 && ctx.Err() != nil {
			c.cut(done.Begun[n-1], started)
		}
		return err
	}
	reports := map[uint32]*postgres.AmcheckReport{}
	for _, report := range done.Reports {
		reports[report.Relation.OID] = report
	}
	for _, r := range batch {
		if report := reports[r.OID]; report != nil || slices.Contains(done.Begun, r) {
			c.note(r, report, started)
			s.Add(r.Bytes)
		}
	}
	return nil
}

// note writes down that r has been scanned, with the report on it, if any. A relation that could not be scanned
// stays what it was, corrupt for one.
func (c *checking) note(r postgres.Relation, report *postgres.AmcheckReport, at time.Time) {
	e := c.ledger.entry(r.Qualified())
	e.Begun = at
	if c.ledger.Cut == r.Qualified() {
		c.ledger.Cut = ""
	}
	if report != nil && !report.Corrupt() {
		c.failed[r.OID] = report.Text()
		return
	}
	c.scanned[r.OID] = true
	e.Scanned = at
	switch {
	case report == nil:
		e.Corrupt, e.CorruptSince = "", time.Time{}
	case e.Corrupt == "":
		e.CorruptSince = at
		fallthrough
	default:
		e.Corrupt = report.Text()
	}
}

// cut remembers what was being scanned when the budget ended: it comes first next time, once. What has had its
// turn first and did not fit makes way, so that it never keeps the others from being scanned.
func (c *checking) cut(r postgres.Relation, at time.Time) {
	name := r.Qualified()
	if c.ledger.Cut == name {
		c.ledger.Cut, c.large = "", r.String()
	} else {
		c.ledger.Cut = name
	}
	c.ledger.entry(name).Begun = at
}

// forget drops what is no longer there from all results: an index that was dropped during its scan, or
// rebuilt under the same name, comes as an error that looks like corruption.
func (c *checking) forget(ctx context.Context) error {
	now, err := postgres.Relations(ctx, c.conn)
	if err != nil {
		return err
	}
	still, names := map[uint32]bool{}, map[string]bool{}
	for _, r := range now {
		still[r.OID], names[r.Qualified()] = true, true
	}
	for _, r := range c.relations {
		if !still[r.OID] {
			delete(c.scanned, r.OID)
			delete(c.failed, r.OID)
			delete(c.ledger.Relations, r.Qualified())
		}
	}
	c.relations = slices.DeleteFunc(c.relations, func(r postgres.Relation) bool { return !still[r.OID] })
	maps.DeleteFunc(c.ledger.Relations, func(name string, _ *entry) bool { return !names[name] })
	return nil
}

// verdict is what the scan ends with; err is what ended it early, if not the budget.
func (c *checking) verdict(err error) error {
	where := fmt.Sprintf("database %q on %s", c.db.Production.Name, c.production.Host.Name())
	if corrupt := c.corrupt(); len(corrupt) > 0 {
		var lines []string
		for _, r := range corrupt {
			e := c.ledger.entryOf(r)
			line := "  " + r.String() + ": " + e.Corrupt
			if !c.scanned[r.OID] {
				line += fmt.Sprintf(" (found on %s, not scanned again by this run)", e.Scanned.Format(time.DateOnly))
			}
			lines = append(lines, line)
		}
		return run.Fail(run.Unfit, `keep every backup made so far, take none for good from now on; docs/runbooks/production-is-corrupt-recover.md`,
			"production is corrupt: %d of %d relations of %s:\n%s", len(corrupt), len(c.relations), where, first(lines, 20))
	}
	if err != nil {
		return err
	}
	switch {
	case len(c.relations) == 0:
		return run.Fail(run.Incomplete, "is this the production database? compare the inventory", "%s has nothing to scan", where)
	case len(c.failed) > 0:
		var lines []string
		for _, r := range c.relations {
			if why := c.failed[r.OID]; why != "" {
				lines = append(lines, "  "+r.String()+": "+why)
			}
		}
		return run.Fail(run.Incomplete, "look at production's server log for what stopped it, and run again", "%d of %d relations of %s could not be scanned:\n%s",
			len(lines), len(c.relations), where, first(lines, 20))
	case len(c.scanned) < len(c.relations):
		return run.Fail(run.Incomplete, c.hint(), "%s", c.unfinished())
	}
	return nil
}

// unfinished says how far the budget reached.
func (c *checking) unfinished() string {
	scanned, tables := 0, c.tables()
	never, oldest := 0, time.Now()
	for _, t := range tables {
		switch {
		case t.complete:
			scanned++
		case t.last.IsZero():
			never++
		case t.last.Before(oldest):
			oldest = t.last
		}
	}
	text := fmt.Sprintf("the budget of %s is over: scanned %d of %d tables and their indexes", run.Duration(c.budget), scanned, len(tables))
	if !c.over {
		text = fmt.Sprintf("pg_amcheck has left something out: scanned %d of %d tables and their indexes", scanned, len(tables))
	}
	if never > 0 {
		text += fmt.Sprintf("; %d were never scanned in full", never)
	}
	if scanned+never < len(tables) {
		text += fmt.Sprintf("; the oldest scan is of %s", oldest.Format(time.DateOnly))
	}
	return text
}

func (c *checking) hint() string {
	if c.large != "" {
		return fmt.Sprintf("%s alone took longer than that budget, or was locked: give it a larger -budget=", c.large)
	}
	return "run again to go on, or with a larger -budget="
}

// corrupt lists what is corrupt as far as is known, by this run or an earlier one.
func (c *checking) corrupt() (corrupt []postgres.Relation) {
	for _, r := range c.relations {
		if c.ledger.entryOf(r).Corrupt != "" {
			corrupt = append(corrupt, r)
		}
	}
	return corrupt
}

// report says what was scanned, and how far, for people and in JSON.
func (c *checking) report() {
	type unscanned struct {
		Name string     `json:"name"`
		Last *time.Time `json:"last_scanned"`
	}
	type corrupt struct {
		Name    string    `json:"name"`
		Table   string    `json:"table"`
		Message string    `json:"message"`
		Since   time.Time `json:"since"`
	}
	done, open, broken := []table{}, []unscanned{}, []corrupt{}
	for _, t := range c.tables() {
		if t.complete {
			done = append(done, t)
		} else if open = append(open, unscanned{Name: t.Name}); !t.last.IsZero() {
			open[len(open)-1].Last = &t.last
		}
	}
	for _, r := range c.corrupt() {
		e := c.ledger.entryOf(r)
		broken = append(broken, corrupt{r.Qualified(), r.Table, e.Corrupt, e.CorruptSince})
	}
	c.t.Set("scanned", done)
	c.t.Set("unscanned", open)
	c.t.Set("corrupt", broken)
	c.t.Set("not_covered", append([]postgres.Uncovered{}, c.uncovered...))
	indexes, nothing := 0, ""
	for _, t := range done {
		indexes += t.Indexes
	}
	if len(done) > 0 && len(broken) == 0 {
		nothing = "; nothing in them is corrupt"
	}
	c.t.Printf("\nscanned on production itself: the heaps and B-tree indexes of database %q on %s: %d of %d tables, PostgreSQL's own included, with %d indexes%s",
		c.db.Production.Name, c.production.Host.Name(), len(done), len(done)+len(open), indexes, nothing)
	if len(c.uncovered) > 0 {
		var kinds []string
		for _, u := range c.uncovered {
			kinds = append(kinds, fmt.Sprintf("%d %s", u.Count, u.Kind))
		}
		c.t.Printf("not scanned, because amcheck has no check for them: %s", strings.Join(kinds, ", "))
	}
}

// table is a table with all that belongs to it.
type table struct {
	Name     string    `json:"name"`
	Indexes  int       `json:"indexes"` // B-trees, that of its TOAST table included
	Bytes    int64     `json:"bytes"`
	catalog  bool      // PostgreSQL's own
	complete bool      // this run has scanned all of it
	last     time.Time // when all of it had been scanned; zero: never
}

// tables folds relations into tables, in the order of postgres.Relations.
func (c *checking) tables() []table {
	var tables []table
	for i, r := range c.relations {
		last := c.ledger.entryOf(r).Scanned
		if i == 0 || tables[len(tables)-1].Name != r.Table {
			tables = append(tables, table{Name: r.Table, catalog: r.Catalog, complete: true, last: last})
		}
		t := &tables[len(tables)-1]
		t.Bytes += r.Bytes
		t.complete = t.complete && c.scanned[r.OID]
		if r.Index {
			t.Indexes++
		}
		if last.Before(t.last) {
			t.last = last
		}
	}
	return tables
}

// A batch is one pg_amcheck: its start costs some round trips, its end by the budget all of its work.
const (
	batchRelations = 100
	batchBytes     = 256 << 20
)

// batches divides relations, in their order. What was cut short last time is on its own.
func batches(relations []postgres.Relation, cut string) (batches [][]postgres.Relation) {
	var bytes int64
	alone := true
	for _, r := range relations {
		last := len(batches) - 1
		single := r.Qualified() == cut
		if alone || single || len(batches[last]) == batchRelations || bytes+r.Bytes > batchBytes {
			batches, bytes = append(batches, nil), 0
			last++
		}
		batches[last] = append(batches[last], r)
		bytes += r.Bytes
		alone = single
	}
	return batches
}

func totalBytes(relations []postgres.Relation) (n int64) {
	for _, r := range relations {
		n += r.Bytes
	}
	return n
}

// first joins the first n lines and says how many more there are.
func first(lines []string, n int) string {
	if len(lines) > n {
		lines = append(slices.Clone(lines[:n]), fmt.Sprintf("  and %d more", len(lines)-n))
	}
	return strings.Join(lines, "\n")
}

// ledger is what earlier runs have scanned, a file in our folder on production's host.
type ledger struct {
	SystemIdentifier string            `json:"system_identifier"` // of the cluster it is about
	Cut              string            `json:"cut,omitempty"`     // was being scanned when the budget ended
	Relations        map[string]*entry `json:"relations"`         // by qualified name: a REINDEX keeps it
}

type entry struct {
	Begun        time.Time `json:"begun"`
	Scanned      time.Time `json:"scanned,omitzero"` // in full
	Corrupt      string    `json:"corrupt,omitempty"`
	CorruptSince time.Time `json:"corrupt_since,omitzero"`
}

// entry returns the entry of name, made where there is none.
func (l *ledger) entry(name string) *entry {
	if l.Relations[name] == nil {
		l.Relations[name] = &entry{}
	}
	return l.Relations[name]
}

// entryOf is what is known about r; nothing is known about what is not in the ledger.
func (l *ledger) entryOf(r postgres.Relation) entry {
	if e := l.Relations[r.Qualified()]; e != nil {
		return *e
	}
	return entry{}
}

// order is the order in which relations are scanned: what was corrupt, so that its repair is seen at once; what
// the last run was cut short in; then what was begun longest ago. It keeps the order of a table's relations.
func (l *ledger) order(relations []postgres.Relation) []postgres.Relation {
	rank := func(r postgres.Relation) int {
		switch {
		case l.entryOf(r).Corrupt != "":
			return 0
		case r.Qualified() == l.Cut:
			return 1
		}
		return 2
	}
	ordered := slices.Clone(relations)
	slices.SortStableFunc(ordered, func(a, b postgres.Relation) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), l.entryOf(a).Begun.Compare(l.entryOf(b).Begun))
	})
	return ordered
}

func (c *checking) ledgerFile() string {
	return c.production.Host.State("scans", "db-"+url.PathEscape(c.db.Name)+".json")
}

func (c *checking) readLedger(ctx context.Context) error {
	text, err := c.production.Host.Output(ctx, host.Cmd{Script: `[ ! -e "$1" ] || cat -- "$1"`, Args: []string{c.ledgerFile()}})
	if err != nil {
		return fmt.Errorf("reading the dates of earlier scans: %w", err)
	}
	if err := json.Unmarshal([]byte(text), &c.ledger); err != nil && text != "" {
		c.t.Warn("%s on %s is not readable, so every scan counts as the first: %v", c.ledgerFile(), c.production.Host.Name(), err)
		c.ledger = ledger{}
	}
	if c.ledger.SystemIdentifier != c.id.SystemIdentifier || c.ledger.Relations == nil {
		c.ledger = ledger{SystemIdentifier: c.id.SystemIdentifier, Relations: map[string]*entry{}}
	}
	return nil
}

func (c *checking) writeLedger(ctx context.Context) error {
	text, err := json.Marshal(&c.ledger)
	return errors.Join(err, c.production.Host.WriteFile(ctx, c.ledgerFile(), append(text, '\n')))
}
