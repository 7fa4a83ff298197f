package mask

import (
	"fmt"

	"rehearsal/internal/postgres"
)

// A masked date stands on one of twelve days of its year: 16 January, 17 February, and so on to 27 December. They are
// in every year, and far from the first, the fifteenth and the last of a month, where dates that people write down
// gather. A time stands at maskedTime in UTC, where twelve hours more or less change no year.
//
// So a date that nobody masked passes for a masked one in 1 case of 30, a time in 1 of 2.6 million: the proof finds a
// column that was left out by a handful of its rows, and may miss a single date.
const (
	daysAfterMonth = 15
	maskedTime     = "12:34:56" // without a fraction, which timestamp(0) would round
	firstYear      = -4713      // the earliest date is 24 November 4714 BC, so that year has no January
)

func dateRefuses(c postgres.Column) string {
	if kindOf(c) != date {
		return "takes only " + date.String()
	}
	return ""
}

// dateAssign keeps infinity, and the year of everything else. Two times of one day become one, and the date of that
// day becomes theirs.
func dateAssign(c Column) string {
	column := "NEW." + ident(c.Name)
	day := c.day(column)
	month := fmt.Sprintf("1 + %s %% 12", uint16Of(0))
	masked := fmt.Sprintf("pg_catalog.make_date(greatest(EXTRACT(year FROM %s)::pg_catalog.int4, %d), %s, %d + %[3]s)",
		day, firstYear, month, daysAfterMonth)
	switch c.Base {
	case "timestamp":
		masked += " + '" + maskedTime + "'::pg_catalog.time"
	case "timestamptz":
		masked = utc(masked + " + '" + maskedTime + "'::pg_catalog.time")
	}
	return fmt.Sprintf("IF pg_catalog.isfinite(%s) THEN\n\t%s\n\t%[1]s := %[3]s;\nEND IF;",
		column, mac("date", fmt.Sprintf("(%s - '2000-01-01'::pg_catalog.date)::pg_catalog.text", day)), masked)
}

func dateProof(c Column) string {
	column := postgres.Ident(c.Name)
	day := c.day(column)
	masked := fmt.Sprintf("EXTRACT(day FROM %s) = %d + EXTRACT(month FROM %[1]s)", day, daysAfterMonth)
	switch c.Base {
	case "timestamp":
		masked += fmt.Sprintf(" AND %s::pg_catalog.time = '%s'", column, maskedTime)
	case "timestamptz":
		masked += fmt.Sprintf(" AND %s::pg_catalog.time = '%s'", utc(column), maskedTime)
	}
	return fmt.Sprintf("(NOT pg_catalog.isfinite(%s) OR %s)", column, masked)
}

// day is the day of a value, in UTC whatever the session's TimeZone says.
func (c Column) day(value string) string {
	switch c.Base {
	case "timestamp":
		return value + "::pg_catalog.date"
	case "timestamptz":
		return utc(value) + "::pg_catalog.date"
	}
	return value
}

// utc makes a timestamp of a timestamptz, and one of those of a timestamp.
func utc(value string) string { return "pg_catalog.timezone('UTC', " + value + ")" }
