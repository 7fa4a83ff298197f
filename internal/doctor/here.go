package doctor

import (
	"fmt"
	"os"

	"rehearsal/internal/mask"
	"rehearsal/internal/run"
	"rehearsal/internal/sqldir"
)

// judgeHere judges what lies on this machine: the inventory, the key of the masks, the SQL of each database.
func (e *exam) judgeHere(r *report) {
	inv := e.inventory
	r.ok("inventory", "%s: %s, %s", inv.File, plural(len(inv.Hosts), "host"), plural(len(inv.Databases), "database"))
	switch _, err := mask.LoadKey(); {
	case err != nil:
		r.error("mask key", err)
	case os.Getenv(mask.KeyVariable) != "":
		r.ok("mask key", "%s is set: pseudonyms stay the same", mask.KeyVariable)
	default:
		r.ok("mask key", "a new one for each reset (%s keeps one)", mask.KeyVariable)
	}
	if len(inv.Accounts) == 0 {
		r.warn("accounts", "inventory/accounts.example.yaml is one to start from", "no accounts.yaml beside %s: nobody is made admin on staging", inv.File)
	} else {
		r.ok("accounts", "%d people become admins on staging", len(inv.Accounts))
	}
	for _, s := range e.subjects {
		r.prefix = s.prefix
		s.judgeSQL(r, len(inv.Accounts) > 0)
	}
	r.prefix = ""
}

// judgeSQL reads a database's folder as a reset does. Whether columns.yaml fits the backup, staging:plan knows.
func (s *subject) judgeSQL(r *report, accounts bool) {
	var files sqldir.Files
	err := files.Load(s.SQL)
	if err == nil && accounts {
		err = files.NeedAccounts()
	}
	if err == nil {
		_, err = mask.Parse(files.Columns.Name, []byte(files.Columns.Text))
	}
	switch {
	case err != nil:
		r.fail(run.Usage, "sql", run.HintOf(err), "%s", err)
	case len(files.Checks) == 0:
		r.warn("sql", "sql/shop/checks of this repository has examples", "no checks in %s/checks: nothing says whether restored rows make sense", s.SQL)
	default:
		r.ok("sql", "columns.yaml and %s in %s", plural(len(files.Checks), "check"), s.SQL)
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
