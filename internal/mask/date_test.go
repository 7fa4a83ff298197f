package mask_test

import (
	"fmt"
	"strings"
	"testing"
)

const datesSchema = `
CREATE DOMAIN past AS date CHECK (value < '2100-01-01');
CREATE TABLE t (id int, d date, p past, ts timestamp, ts0 timestamp(0), tz timestamptz, tz0 timestamptz(0), raw timestamptz)`

const datesRules = `public.t: {keep: [id, raw], date: {year: [d, p, ts, ts0, tz, tz0]}}`

// dates is a row of the table above that holds one instant of UTC in every column.
func dates(id int, day, clock string) string {
	at := day + " " + clock
	if bc := strings.TrimSuffix(day, " BC"); bc != day {
		at = bc + " " + clock + " BC"
	}
	return fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", id, day, day, at, at, at+" UTC", at+" UTC", at+" UTC")
}

func TestADateKeepsItsYearAndNothingElse(t *testing.T) {
	d := newDatabase(t, datesSchema)
	plan := d.plan(datesRules)
	d.install(plan)
	k := key(t, "one")
	days := []string{"1977-07-07", "2000-02-29", "1999-12-31", "2001-01-01", "0001-01-01", "0044-03-15 BC", "0001-02-29 BC", "4712-01-01 BC", "1582-10-15"}
	rows := ""
	for i, day := range days {
		rows += dates(i, day, "23:59:59.25")
	}
	for _, zone := range []string{"Asia/Tokyo", "America/Los_Angeles", "UTC"} {
		d.sql("ALTER DATABASE " + d.name + " SET timezone = '" + zone + "'; ALTER DATABASE " + d.name + " SET datestyle = 'German, DMY'")
		d.load(k, "public.t", rows)
	}
	d.sql("SET timezone = 'UTC'; ALTER DATABASE " + d.name + " RESET ALL")
	utc := "SET timezone = 'UTC'; "
	for query, want := range map[string]string{
		`SELECT count(*) FROM t WHERE extract(year from d) <> extract(year from raw) OR d <> p OR d <> ts::date OR d <> tz::date`: "0",
		`SELECT count(*) FROM t WHERE ts::time <> '12:34:56' OR ts <> ts0 OR tz <> ts AT TIME ZONE 'UTC' OR tz0 <> tz`:            "0",
		`SELECT count(*), count(DISTINCT (d, p, ts, ts0, tz, tz0)) FROM t`:                                                        "27|9",
		`SELECT count(DISTINCT extract(month from d)) > 3 FROM t`:                                                                 "t",
	} {
		if got := d.sql(utc + query); got != want {
			t.Errorf("%s\n\tis %s, want %s: %s", query, got, want, d.sql("SELECT * FROM t"))
		}
	}
	for _, zone := range []string{"Asia/Tokyo", "America/Los_Angeles", "UTC"} {
		if _, err := d.conn.Exec(t.Context(), "SET timezone = '"+zone+"'; SET datestyle = 'SQL, DMY'"); err != nil {
			t.Fatal(err)
		}
		if v := d.violated(table(t, plan, "public.t")); len(v) > 0 {
			t.Errorf("in %s the proof finds violations in %v", zone, v)
		}
	}
}

func TestDatesAtTheEndsOfTimeStayValid(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (d date, ts timestamp, tz timestamptz)`)
	plan := d.plan(`public.t: {date: [d, ts, tz]}`)
	d.install(plan)
	k := key(t, "one")
	for _, row := range []string{"infinity\tinfinity\tinfinity", "-infinity\t-infinity\t-infinity", `\N` + "\t" + `\N` + "\t" + `\N`} {
		d.sql("TRUNCATE t")
		d.load(k, "public.t", row+"\n")
		if got, want := d.sql("SELECT * FROM t"), strings.ReplaceAll(strings.ReplaceAll(row, `\N`, ""), "\t", "|"); got != want {
			t.Errorf("%q became %s", row, got)
		}
	}
	d.load(k, "public.t", "5874897-12-31\t294276-12-31 23:59:59.999999\t294276-12-31 23:59:59.999999+00\n"+
		"4714-11-24 BC\t4714-11-24 00:00:00 BC\t4714-11-24 00:00:00+00 BC\n")
	if v := d.violated(table(t, plan, "public.t")); len(v) > 0 {
		t.Errorf("the proof finds violations in %v: %s", v, d.sql("SELECT * FROM t"))
	}
}

func TestADatesPseudonymIsTheKeysAndOneForTheWholeDay(t *testing.T) {
	d := newDatabase(t, datesSchema)
	d.install(d.plan(datesRules))
	rows, later := "", ""
	for i := range 28 {
		rows += dates(i, fmt.Sprintf("1980-02-%02d", i+1), "01:00")
		later += dates(i, fmt.Sprintf("1980-02-%02d", i+1), "02:00")
	}
	d.load(key(t, "one"), "public.t", rows+later)
	if got := d.sql("SELECT count(*), count(DISTINCT (id, d, tz)), count(DISTINCT d) > 5 FROM t"); got != "56|28|t" {
		t.Errorf("rows, days, varied: %s", got)
	}
	if got := d.sql("SELECT count(*) FROM t WHERE extract(day FROM d) IN (1, 15, 28, 29, 30, 31)"); got != "0" {
		t.Errorf("%s stand where raw dates gather", got)
	}
	d.load(key(t, "two"), "public.t", rows)
	if got := d.sql("SELECT count(DISTINCT (id, d)) > 40 FROM t"); got != "t" {
		t.Error("two keys make the same dates")
	}
}

func TestTheProofLetsOneRawDateInThirtyPass(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE t (d date, ts timestamp, tz timestamptz)`)
	d.sql(`INSERT INTO t SELECT x, x + interval '10 hours', x + interval '10 hours' FROM generate_series(date '1950-01-01', '2049-12-31', '1 day') x`)
	plan := d.plan(`public.t: {date: [d, ts, tz]}`)
	rows, violations := d.prove(table(t, plan, "public.t"))
	if passed := rows - *violations[0]; passed != 100*12 {
		t.Errorf("%d of %d raw dates pass, want 12 a year", passed, rows)
	}
	if *violations[1] != rows || *violations[2] != rows {
		t.Errorf("of %d raw times %d and %d were counted", rows, *violations[1], *violations[2])
	}
}
