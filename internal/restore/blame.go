package restore

import (
	"regexp"
	"slices"

	"rehearsal/internal/mask"
	"rehearsal/internal/run"
)

var brokenConstraint = regexp.MustCompile(`could not create (?:unique index|exclusion constraint) "(.+)"|violates foreign key constraint "(.+)"`)

// blame turns the failure of a unique index or foreign key over columns that no mask has touched into run.Unfit: the rows
// are as they were on production, whose own index or constraint must have let them through. A heap that two servers
// wrote to looks like that.
func (r *Restore) blame(err error) error {
	if run.CodeOf(err) != run.Unclean {
		return err
	}
	m := brokenConstraint.FindStringSubmatch(err.Error())
	if m == nil || r.masks(m[1]+m[2]) {
		return err
	}
	return run.Fail(run.Unfit, "production itself holds rows that its own constraint forbids: mage backup:check, and take no backup for good until you know why",
		"backup %s: %w", r.Backup.ID, err)
}

// masks says whether a mask has changed a column of that unique index or foreign key. One that is not known may be.
func (r *Restore) masks(constraint string) bool {
	for _, t := range r.Plan.Tables {
		for _, u := range t.Unique {
			if u.Name == constraint {
				return masked(t, u.Columns) || len(u.Expression) > 0 && masked(t, u.Expression)
			}
		}
		for _, f := range t.ForeignKeys {
			if f.Name == constraint {
				return masked(t, f.Columns) || r.masksReferenced(f.Table, f.References)
			}
		}
	}
	return true
}

// masksReferenced says the same of the other side of a foreign key; rows that were not loaded are missing there.
func (r *Restore) masksReferenced(table string, columns []string) bool {
	for _, t := range r.Plan.Tables {
		if t.Qualified() == table {
			return t.Truncate || masked(t, columns)
		}
	}
	return true
}

func masked(t mask.Table, columns []string) bool {
	return slices.ContainsFunc(t.Masked, func(c mask.Column) bool { return slices.Contains(columns, c.Name) })
}
