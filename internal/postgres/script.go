package postgres

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"rehearsal/internal/host"
	"rehearsal/internal/source"
)

// Script is a file of SQL for psql: meta-commands and several statements are fine.
type Script struct {
	File    string // for messages
	Prelude string // SQL that runs before the text, in the same transaction
	Text    string
}

// Run runs the script in database as role, in one transaction, and returns the rows it prints. A policy of row
// security that would hide rows from it is an error, and so is a script that ends the transaction itself or whose
// end psql never reaches: it exits 0 after both. An SQL error
// ends it, rolls back, and names the file and line; DETAIL and CONTEXT, which quote rows, are left out.
func (s *Server) Run(ctx context.Context, database, role string, script Script) ([][]string, error) {
	prelude := "SET row_security = off;\nSET ROLE " + Ident(role) + ";\nCREATE TEMPORARY TABLE rehearsal_transaction () ON COMMIT DROP;\n" + script.Prelude
	if !strings.HasSuffix(prelude, "\n") {
		prelude += "\n"
	}
	c, err := s.Command(ctx, ScriptArgs(s.Spec, database), nil)
	if err != nil {
		return nil, err
	}
	c.Env["PGCLIENTENCODING"] = "UTF8"
	end := fmt.Sprint(rand.Int64()) // no quotes: they would close one that the script left open
	c.Stdin = strings.NewReader(prelude + script.Text + "\n;\nDROP TABLE rehearsal_transaction;\nSELECT " + end + ";\n")
	out, err := s.Host.Output(ctx, c)
	var exit *host.ExitError
	if errors.As(err, &exit) {
		return nil, scriptError(script, strings.Count(prelude, "\n"), exit)
	}
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", script.File, err)
	}
	reader := csv.NewReader(strings.NewReader(out))
	reader.FieldsPerRecord = -1
	rows, err := reader.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("reading what %s returned: %w", script.File, err)
	}
	if n := len(rows); n > 0 && len(rows[n-1]) == 1 && rows[n-1][0] == end {
		return rows[:n-1], nil
	}
	return nil, fmt.Errorf("%s: its end was not reached: a quotation, a comment or \\if is left open, or it leaves by \\q", script.File)
}

var psqlMessage = regexp.MustCompile(`^psql:<stdin>:(\d+): (.*)$`)

// scriptError keeps of psql's messages the first error with its LINE and caret, and turns the line of
// stdin into the file's.
func scriptError(script Script, prelude int, exit *host.ExitError) error {
	file := script.File
	if strings.Contains(exit.Stderr, `"rehearsal_transaction" does not exist`) {
		return fmt.Errorf("%s: it ends its own transaction; remove COMMIT, ROLLBACK and their like", file)
	}
	last := strings.Count(strings.TrimSpace(script.Text), "\n") + 1
	lines := strings.Split(exit.Stderr, "\n")
	for i, line := range lines {
		m := psqlMessage.FindStringSubmatch(line)
		if m == nil || !strings.Contains(m[2], "ERROR:") && !strings.Contains(m[2], "error:") && !strings.Contains(m[2], "FATAL:") {
			continue
		}
		n, _ := strconv.Atoi(m[1])
		message := fmt.Sprintf("%s:%d: %s", file, min(max(n-prelude, 1), last), m[2])
		if i+2 < len(lines) && strings.HasPrefix(lines[i+1], "LINE ") {
			message += "\n" + lines[i+1] + "\n" + lines[i+2]
		}
		return errors.New(message)
	}
	return fmt.Errorf("running %s: %w", file, exit)
}

// Query is a file with one SQL query.
type Query struct {
	File string
	Text string
}

// beginner is a *pgx.Conn, or a pgx.Tx within which a savepoint begins.
type beginner interface {
	Begin(context.Context) (pgx.Tx, error)
}

// CountRows runs the query as role in a read-only transaction and returns how many rows it has, counting
// no further than limit. The rows themselves are never read.
func (q Query) CountRows(ctx context.Context, conn beginner, role string, limit int) (n int, err error) {
	err = q.cursor(ctx, conn, role, verbatim, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, fmt.Sprintf("MOVE FORWARD %d FROM rehearsal", limit))
		n = int(tag.RowsAffected())
		return err
	})
	return n, err
}

// Event is one row of events.sql.
type Event struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
}

// Events runs the query as role in a read-only transaction and returns its first limit rows, which must be
// (at timestamptz, what text).
func (q Query) Events(ctx context.Context, conn beginner, role string, limit int) ([]Event, error) {
	events := []Event{}
	err := q.cursor(ctx, conn, role, verbatim, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, fmt.Sprintf("FETCH FORWARD %d FROM rehearsal", limit))
		if err != nil {
			return err
		}
		if !isEvents(rows.FieldDescriptions()) {
			rows.Close()
			return cmp.Or(rows.Err(), fmt.Errorf("%s must return (at timestamptz, what text), with a time zone", q.File))
		}
		var e Event
		_, err = pgx.ForEachRow(rows, []any{&e.At, &e.What}, func() error { events = append(events, e); return nil })
		return err
	})
	return events, err
}

// isEvents says whether a row is (timestamptz, text). A timestamp without a time zone would be taken for UTC.
func isEvents(fields []pgconn.FieldDescription) bool {
	return len(fields) == 2 && fields[0].DataTypeOID == pgtype.TimestamptzOID &&
		(fields[1].DataTypeOID == pgtype.TextOID || fields[1].DataTypeOID == pgtype.VarcharOID)
}

// byPath sorts paths component by component, bytewise, a folder's files before its folders. So that '/' is below every
// other character, it becomes \x01, twice, and \x01 itself \x01 and \x02.
var byPath = around{`
SELECT convert_to(path, 'UTF8') FROM (SELECT path::text FROM (
`, `
) AS rehearsal (path)) AS rehearsal WHERE path IS NOT NULL
ORDER BY convert_to(replace(replace(coalesce(substring(path FROM '^(.*)/'), ''), E'\x01', E'\x01\x02'), '/', E'\x01\x01'), 'UTF8'),
	convert_to(substring(path FROM '[^/]*$'), 'UTF8')`}

// OneColumn plans the query as role, reads its first row and fails where its rows have not one column.
func (q Query) OneColumn(ctx context.Context, conn beginner, role string) error {
	return q.cursor(ctx, conn, role, verbatim, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "FETCH FORWARD 1 FROM rehearsal")
		if err != nil {
			return err
		}
		rows.Close()
		if n := len(rows.FieldDescriptions()); rows.Err() == nil && n != 1 {
			return fmt.Errorf("%s must return one column, and returns %d", q.File, n)
		}
		return rows.Err()
	})
}

// Paths runs the query as role in a read-only transaction and calls each for every path of its one column, in UTF-8,
// sorted as folders are walked: component by component, bytewise, a folder's files before its folders. NULLs are left
// out. The server sorts; here are never more than some thousand paths at once.
func (q Query) Paths(ctx context.Context, conn beginner, role string, each func(path []byte) error) error {
	return q.cursor(ctx, conn, role, byPath, func(tx pgx.Tx) error {
		for {
			rows, err := tx.Query(ctx, "FETCH FORWARD 5000 FROM rehearsal")
			if err != nil {
				return err
			}
			var path []byte
			tag, err := pgx.ForEachRow(rows, []any{&path}, func() error { return each(path) })
			if err != nil || tag.RowsAffected() == 0 {
				return err
			}
		}
	})
}

// around is SQL that a query is put into.
type around struct{ before, after string }

var verbatim around

// cursor declares a cursor for the query within a, which also plans it for its first rows, and calls f. role "" stays
// what the session is.
func (q Query) cursor(ctx context.Context, conn beginner, role string, a around, f func(pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("running %s: %w", q.File, err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	set := "SET TRANSACTION READ ONLY; SET LOCAL row_security = off" // a policy must not hide what a check looks for
	if role != "" {
		set += "; SET LOCAL ROLE " + Ident(role)
	}
	if _, err := tx.Exec(ctx, set); err != nil {
		return fmt.Errorf("running %s: %w", q.File, err)
	}
	declare := "DECLARE rehearsal NO SCROLL CURSOR FOR " + a.before
	// Not tx.Exec: without arguments it uses the simple protocol, which takes several statements, and only the first
	// would be the cursor's.
	sql := declare + strings.TrimRight(strings.TrimSpace(q.Text), ";") + a.after
	if _, err := tx.Conn().PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Close(); err != nil {
		return queryError(q.File, q.Text, len(declare)-leading(q.Text), err)
	}
	if err := f(tx); err != nil {
		return queryError(q.File, q.Text, len(declare)-leading(q.Text), err)
	}
	return nil
}

// leading is how many characters TrimSpace takes from the front of a text.
func leading(text string) int {
	return len([]rune(text)) - len([]rune(strings.TrimLeft(text, " \t\r\n")))
}

// queryError adds file, line, column and a caret to a server's error about text, which was sent offset
// characters late. Context ends stay as they are.
func queryError(file, text string, offset int, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return fmt.Errorf("running %s: %w", file, err)
	}
	position := int(pg.Position) - 1 - offset // counted in characters from 1
	runes := []rune(text)
	if pg.Position == 0 || position < 0 || position > len(runes) {
		return fmt.Errorf("%s: %s (SQLSTATE %s)", file, pg.Message, pg.Code)
	}
	before := string(runes[:position])
	line := strings.Count(before, "\n") + 1
	column := len([]rune(before[strings.LastIndex(before, "\n")+1:])) + 1
	excerpt := strings.Split(text, "\n")[line-1]
	return fmt.Errorf("%s:%d:%d: %s (SQLSTATE %s)\n%s\n%s", file, line, column, pg.Message, pg.Code, excerpt, source.Caret(excerpt, column))
}
