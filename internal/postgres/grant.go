package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var missingRole = regexp.MustCompile(`role "(.*)" does not exist`)

// Grant applies the access privileges of a dump, statement by statement: those of roles that the server lacks
// are left out and the roles returned, sorted; what else fails comes back as notes. Objects that are not there are passed
// over: whoever restores says what he left out.
func Grant(ctx context.Context, conn *pgx.Conn, statements []string) (missing, notes []string, err error) {
	for _, sql := range statements {
		_, err := conn.Exec(ctx, sql)
		var pg *pgconn.PgError
		switch {
		case err == nil:
		case !errors.As(err, &pg):
			return missing, notes, fmt.Errorf("granting: %w", err)
		case pg.Code == "42883", pg.Code == "42P01": // undefined function or table: of an extension that was left out
		case missingRole.MatchString(pg.Message):
			missing = append(missing, missingRole.FindStringSubmatch(pg.Message)[1])
		default:
			notes = append(notes, fmt.Sprintf("not granted: %s (%s)", sql, pg.Message))
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing), notes, nil
}

// Row returns the single row of numbers that sql makes, nil for NULL.
func Row(ctx context.Context, conn *pgx.Conn, sql string) ([]*int64, error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) ([]*int64, error) {
		numbers := make([]*int64, len(row.FieldDescriptions()))
		into := make([]any, len(numbers))
		for i := range into {
			into[i] = &numbers[i]
		}
		return numbers, row.Scan(into...)
	})
}
