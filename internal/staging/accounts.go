package staging

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"rehearsal/internal/inventory"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// outcome is who is admin on staging now: e-mail addresses of accounts.yaml.
type outcome struct {
	Promoted []string `json:"promoted"`
	Created  []string `json:"created"`
	Missing  []string `json:"missing"`
}

// promote makes the people of accounts.yaml admins by accounts.sql. Everybody is masked by then, they too: the
// script finds a person's row by the masked address. Nobody promoted or created at all is run.Unclean.
func (s *stage) promote(ctx context.Context, database string, step *run.Step) error {
	s.outcome = outcome{Promoted: []string{}, Created: []string{}, Missing: []string{}}
	s.Target.Set("accounts", s.outcome)
	if len(s.accounts) == 0 {
		s.Target.Warn("no accounts.yaml beside the inventory: nobody is made admin on staging")
		return nil
	}
	script := s.Files.Accounts
	script.Prelude = accountsTable(s.accounts, s.Key, s.password)
	rows, err := s.Staging.Run(ctx, database, s.DB.Staging.Owner, script)
	if err != nil {
		return run.Fail(run.Unclean, "mend it", "%w", err)
	}
	if s.outcome, err = sortOut(s.accounts, rows); err != nil {
		return run.Fail(run.Unclean, "accounts.sql must return rows (email, outcome), outcome promoted or created", "%s: %w", script.File, err)
	}
	s.Target.Set("accounts", s.outcome)
	step.Detail("%d promoted, %d created, %d missing", len(s.outcome.Promoted), len(s.outcome.Created), len(s.outcome.Missing))
	if len(s.outcome.Missing) == len(s.accounts) {
		return run.Fail(run.Unclean, "does accounts.sql find people by masked_email?", "%s: nobody of accounts.yaml was promoted or created", script.File)
	}
	return nil
}

// people are the addresses and names of accounts.yaml, which are production's as well.
func (s *stage) people() (values []string) {
	for _, a := range s.accounts {
		values = append(values, a.Email, a.Name)
	}
	return values
}

// accountsTable is the temporary table that accounts.sql reads, and the setting with a password's hash, which may be
// empty.
func accountsTable(accounts []inventory.Account, key mask.Key, password string) string {
	var rows []string
	for _, a := range accounts {
		rows = append(rows, fmt.Sprintf("(%s, %s, %s, %s)", postgres.Literal(a.Email), postgres.Literal(key.Email(a.Email)),
			postgres.Literal(a.Name), postgres.Literal(a.Role)))
	}
	return "SET rehearsal.password_hash = " + postgres.Literal(password) + ";\n" +
		"CREATE TEMPORARY TABLE rehearsal_accounts (email text, masked_email text, name text, role text);\n" +
		"INSERT INTO rehearsal_accounts VALUES " + strings.Join(rows, ",\n") + ";\n"
}

// PasswordVariable is the environment variable with the password of the people of accounts.yaml on staging.
const PasswordVariable = "REHEARSAL_STAFF_PASSWORD"

// hashPassword returns the bcrypt hash of the password in PasswordVariable, or "" where that is not set. Hashed once: it
// is one password, and bcrypt is slow on purpose.
func hashPassword() (string, error) {
	password, set := os.LookupEnv(PasswordVariable)
	if !set {
		return "", nil
	}
	if len(password) < 12 {
		return "", run.Fail(run.Usage, "set a longer one, or unset it", "%s is shorter than 12 bytes", PasswordVariable)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if errors.Is(err, bcrypt.ErrPasswordTooLong) {
		return "", run.Fail(run.Usage, "set a shorter one", "%s is longer than 72 bytes, of which bcrypt would take no more", PasswordVariable)
	}
	return string(hash), err
}

// sortOut reads what accounts.sql returned.
func sortOut(accounts []inventory.Account, rows [][]string) (outcome, error) {
	o := outcome{Promoted: []string{}, Created: []string{}, Missing: []string{}}
	seen := map[string]bool{}
	known := map[string]string{}
	for _, a := range accounts {
		known[strings.ToLower(a.Email)] = a.Email
	}
	for _, row := range rows {
		if len(row) != 2 {
			return o, fmt.Errorf("it returned a row of %d columns", len(row))
		}
		email, ok := known[strings.ToLower(row[0])]
		switch {
		case !ok:
			return o, fmt.Errorf("it returned an address that is not in accounts.yaml")
		case seen[email]:
			return o, fmt.Errorf("it returned %s twice", email)
		case row[1] == "promoted":
			o.Promoted = append(o.Promoted, email)
		case row[1] == "created":
			o.Created = append(o.Created, email)
		default:
			return o, fmt.Errorf("it returned an outcome %q for %s", row[1], email)
		}
		seen[email] = true
	}
	for _, a := range accounts {
		if !seen[a.Email] {
			o.Missing = append(o.Missing, a.Email)
		}
	}
	return o, nil
}

func (s *stage) showAccounts() {
	s.Target.Printf("\nadmins on staging\n")
	var rows [][]string
	for _, group := range []struct {
		what   string
		emails []string
	}{{"promoted", s.outcome.Promoted}, {"created", s.outcome.Created}, {"missing", s.outcome.Missing}} {
		for _, email := range group.emails {
			rows = append(rows, []string{"  " + email, group.what})
		}
	}
	if len(rows) == 0 {
		rows = append(rows, []string{"  nobody"})
	}
	s.Target.Table(nil, rows)
}
