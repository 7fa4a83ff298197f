package postgres

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"rehearsal/internal/host"
)

func TestAnErrorOfPsqlNamesTheFilesOwnLineAndNoRow(t *testing.T) {
	exit := &host.ExitError{Host: "staging", Command: "psql", Status: 3, Stderr: `psql:<stdin>:3: NOTICE:  hello
psql:<stdin>:7: ERROR:  duplicate key value violates unique constraint "staff_email_key"
DETAIL:  Key (email)=(anna@example.com) already exists.
`}
	got := scriptError(Script{File: "sql/shop/accounts.sql", Text: "1\n2\n3\n4"}, 4, exit).Error()
	if want := `sql/shop/accounts.sql:3: ERROR:  duplicate key value violates unique constraint "staff_email_key"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	exit.Stderr = "psql:<stdin>:5: ERROR:  column \"x\" does not exist\nLINE 1: SELECT x;\n               ^\n"
	if got := scriptError(Script{File: "a.sql", Text: "SELECT x"}, 4, exit).Error(); got != "a.sql:1: ERROR:  column \"x\" does not exist\nLINE 1: SELECT x;\n               ^" {
		t.Errorf("got %s", got)
	}
}

func TestAnErrorOfAQueryPointsIntoItsFile(t *testing.T) {
	text := "\n-- Größe\nSELECT größe, y\n  FROM t"
	const declare = 10
	// The server counts characters of what was sent: declare + the text without its leading newline.
	position := declare + strings.Index("-- Größe\nSELECT größe, ", "SELECT") - 1 - 1 + len("SELECT größe, ") - 1 - 1
	err := queryError("events.sql", text, declare-leading(text), &pgconn.PgError{Code: "42703", Message: `column "y" does not exist`, Position: int32(position + 1)})
	if want := "events.sql:3:15: column \"y\" does not exist (SQLSTATE 42703)\nSELECT größe, y\n              ^"; err.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", err, want)
	}
}
