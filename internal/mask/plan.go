package mask

import (
	"fmt"
	"slices"
	"strings"

	"rehearsal/internal/postgres"
	"rehearsal/internal/source"
)

// Plan says what happens to every table of a schema.
type Plan struct {
	Tables []Table // in the order of the schema; partitions have the rules of their topmost parent
}

// Table is one table with what happens to it.
type Table struct {
	postgres.Table
	Truncate bool     // schema only: its rows are not read
	Masked   []Column // the columns that do not stay as they are, in the order of the table
}

// Column is one column that does not stay as it is.
type Column struct {
	postgres.Column
	Verb       *Verb
	expression string  // of the verb sql
	paths      *branch // of the verb json
}

// Plan holds the rules against the schema of a backup, with its indexes and foreign keys. Whatever is not
// settled exactly once, or would make the restore fail or leak, is refused all at once (run.Unclean), each
// with the line to write.
func (r *Rules) Plan(schema []postgres.Table) (*Plan, error) {
	p := newPlanner(r, schema)
	plan := &Plan{}
	for _, t := range schema {
		p.coverage(t)
		if rule := r.rule(t.Root); rule != nil {
			p.foreignKeys(t, rule)
			plan.Tables = append(plan.Tables, p.table(t, rule))
		}
	}
	p.strangers()
	if err := p.err("edit " + r.file + ", then run mage staging:plan; mage staging:classify prints the missing lines"); err != nil {
		return nil, err
	}
	return plan, nil
}

// planner gathers what is wrong with rules for a schema.
type planner struct {
	problems
	rules  *Rules
	schema []postgres.Table
}

func newPlanner(r *Rules, schema []postgres.Table) *planner {
	return &planner{problems{file: r.file, source: r.source}, r, schema}
}

// coverage checks that the rules name the table and its columns, and no others.
func (p *planner) coverage(t postgres.Table) {
	name := t.Qualified()
	rule := p.rules.rule(name)
	switch {
	case t.Root != name && rule != nil:
		p.add(rule.at, "remove it", "%s is a partition of %s and follows its rules", name, t.Root)
	case t.Root != name:
	case rule == nil:
		p.add(place{}, "write: "+p.wholeTable(t), "%s is in the backup, but not here", name)
	case t.Kind == 'f' && !rule.truncate:
		p.add(rule.at, "write: "+yamlTable(name)+": truncate", "%s is a foreign table: its rows live on another server, which a restore must not write to", name)
	case !rule.truncate:
		p.columns(t, rule)
	}
}

// columns checks that the rule names every column of the table, and no other.
func (p *planner) columns(t postgres.Table, rule *rule) {
	var names []string
	for _, c := range t.Columns {
		names = append(names, c.Name)
		if rule.entry(c.Name) == nil {
			p.add(rule.at, "write: "+p.line(t, c), "%s.%s (%s) is in the backup, but not here", rule.table, c.Name, c.Type)
		}
	}
	for _, e := range rule.columns {
		if !slices.Contains(names, e.column) {
			p.add(e.at, "remove it", "%s.%s is not in the backup%s", rule.table, e.column, source.DidYouMean(e.column, names))
		}
	}
}

// strangers finds rules for tables that the backup does not have.
func (p *planner) strangers() {
	var names []string
	for _, t := range p.schema {
		names = append(names, t.Qualified())
	}
	for _, rule := range p.rules.tables {
		if !slices.Contains(names, rule.table) {
			p.add(rule.at, "remove it", "%s is not in the backup%s", rule.table, source.DidYouMean(rule.table, names))
		}
	}
}

// table applies the rule of the root to a table, and checks that each verb can take its column.
func (p *planner) table(t postgres.Table, rule *rule) Table {
	planned := Table{Table: t, Truncate: rule.truncate || t.Kind == 'f'}
	if planned.Truncate {
		return planned
	}
	for _, c := range t.Columns {
		e := rule.entry(c.Name)
		if e == nil || e.verb == keepVerb {
			continue
		}
		if why := objection(t, c, e.verb); why != "" {
			p.add(e.at, "write: "+p.line(t, c), "%s.%s: %s", rule.table, c.Name, why)
		}
		planned.Masked = append(planned.Masked, Column{c, e.verb, e.expression, e.paths})
	}
	return planned
}

// objection says why a verb cannot mask a column, or is empty.
func objection(t postgres.Table, c postgres.Column, v *Verb) string {
	switch {
	case v == keepVerb:
		return ""
	case c.Generated:
		return "a generated column can only be kept: staging computes it from the masked columns"
	case c.Partition:
		return "a column of the partition key can only be kept: a masked row would belong to another partition"
	}
	if v.refuses != nil {
		if why := v.refuses(c); why != "" {
			return fmt.Sprintf("%s cannot take %s: it %s; %[2]s can be under %[4]s", v.Name, c.Type, why, listing(verbsFor(c), "or"))
		}
	}
	for _, index := range t.Unique {
		if repeats(index, c, v) {
			return fmt.Sprintf("%s can repeat values, which the %s %s forbids", v.Name, constraint(index), index.Name)
		}
	}
	return ""
}

func constraint(index postgres.UniqueIndex) string {
	if index.Exclusion {
		return "exclusion constraint"
	}
	return "unique index"
}

// verbsFor names the verbs that can take the column's type.
func verbsFor(c postgres.Column) []string {
	var names []string
	for _, v := range Verbs {
		if v != keepVerb && (v.refuses == nil || v.refuses(c) == "") {
			names = append(names, v.Name)
		}
	}
	return append(names, keepVerb.Name)
}

// repeats tells whether a verb can break a unique index or an exclusion constraint. NULLs do not, except where the index says so or
// holds just the rows in which the column is NULL. What this cannot see, building the index shows.
func repeats(index postgres.UniqueIndex, c postgres.Column, v *Verb) bool {
	switch {
	case !v.Lossy:
		return false
	case v == clearVerb && !c.NotNull:
		return index.NullsEqual && slices.Contains(index.Columns, c.Name) ||
			strings.Contains(index.Predicate, "("+c.Name+" IS NULL)") ||
			strings.Contains(index.Predicate, "("+postgres.Ident(c.Name)+" IS NULL)")
	}
	return slices.Contains(index.Columns, c.Name) || slices.Contains(index.Expression, c.Name)
}

// foreignKeys checks that both sides of each key get the same verb, and that the rows referenced will be there.
func (p *planner) foreignKeys(t postgres.Table, rule *rule) {
	for _, key := range t.ForeignKeys {
		other := p.rules.rule(key.Table)
		switch {
		case rule.truncate || other == nil:
		case !other.truncate:
			p.sameVerbs(rule, key, other)
		case !nulled(t, rule, key):
			p.add(rule.at, p.truncatedFix(t, key), "%s has rows, but its foreign key %s needs those of %s, which is truncated",
				rule.table, key.Name, key.Table)
		}
	}
}

func (p *planner) sameVerbs(rule *rule, key postgres.ForeignKey, other *rule) {
	for i, column := range key.Columns {
		mine, theirs := rule.entry(column), other.entry(key.References[i])
		if mine != nil && theirs != nil && mine.verb != theirs.verb {
			p.add(mine.at, "write: "+yamlLine(rule.table, theirs.verb, column),
				"%s.%s is under %s, but its foreign key %s references %s.%s, which is under %s",
				rule.table, column, mine.verb.Name, key.Name, other.table, theirs.column, theirs.verb.Name)
		}
	}
}

// nulled tells whether the rules make the key NULL, so that it references nothing. An expression may.
func nulled(t postgres.Table, rule *rule, key postgres.ForeignKey) bool {
	nulls := 0
	for _, c := range t.Columns {
		if !slices.Contains(key.Columns, c.Name) {
			continue
		}
		if e := rule.entry(c.Name); e != nil && (e.verb == sqlVerb || e.verb == clearVerb && !c.NotNull) {
			nulls++
		}
	}
	return nulls == len(key.Columns) || nulls > 0 && !key.MatchFull
}

func (p *planner) truncatedFix(t postgres.Table, key postgres.ForeignKey) string {
	fix := "write: " + yamlTable(t.Root) + ": truncate   # or list the columns of " + key.Table
	for _, c := range t.Columns {
		if slices.Contains(key.Columns, c.Name) && !c.NotNull {
			return fix + ", or clear " + strings.Join(key.Columns, ", ")
		}
	}
	return fix
}
