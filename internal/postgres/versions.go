package postgres

import (
	"fmt"
	"strconv"
)

// Versions are the major versions that meet between a server that is dumped and one that the dump is loaded into; 0
// is one that is not known.
type Versions struct {
	Source  int // the server that is dumped
	Dump    int // pg_dump
	Restore int // pg_restore
	Target  int // the server that is loaded into
}

// Misfit says why a dump cannot be made or loaded, and what to do; "" where nothing stands against it.
//
// pg_dump refuses servers newer than itself. It writes for servers of its own version or newer: one of version 17 or
// 18 begins with SET transaction_timeout, which no older server knows, not even the one that was dumped. pg_restore
// refuses archives of a format newer than its own. (PostgreSQL's documentation of pg_dump, Notes.)
func (v Versions) Misfit() (problem, hint string) {
	newer := func(a, b int) bool { return a > b && b > 0 }
	switch {
	case newer(v.Source, v.Dump) && v.Dump > 0:
		return fmt.Sprintf("pg_dump is of PostgreSQL %d, production's server of %d: pg_dump refuses servers newer than itself", v.Dump, v.Source),
			fmt.Sprintf("install the client of PostgreSQL %d on production's host and name its folder in postgres_bin", v.Source)
	case newer(v.Source, v.Target):
		return fmt.Sprintf("production's server is PostgreSQL %d, staging's %d, which cannot load what a newer one dumps", v.Source, v.Target),
			fmt.Sprintf("upgrade staging to PostgreSQL %d: a rehearsal on an older version proves nothing", v.Source)
	case newer(v.Dump, v.Target):
		hint := fmt.Sprintf("upgrade staging to PostgreSQL %d", v.Dump)
		if v.Source > 0 {
			hint = fmt.Sprintf("in the inventory name the folder of PostgreSQL %d's client in production's postgres_bin, then: mage backup:create", v.Source)
		}
		return fmt.Sprintf("pg_dump is of PostgreSQL %d, staging's server of %d: a newer pg_dump writes what an older server does not know", v.Dump, v.Target), hint
	case newer(v.Dump, v.Restore):
		return fmt.Sprintf("pg_dump is of PostgreSQL %d, staging's pg_restore of %d: pg_restore cannot be relied on to read the archive of a newer pg_dump", v.Dump, v.Restore),
			fmt.Sprintf("install the client of PostgreSQL %d on staging's host and name its folder in postgres_bin", v.Dump)
	}
	return "", ""
}

// Major is the major version in a server_version or in what pg_dump writes of itself, e.g. 15 of "15.18 (Debian …)";
// 0 where it holds none.
func Major(version string) int {
	end := 0
	for end < len(version) && version[end] >= '0' && version[end] <= '9' {
		end++
	}
	major, _ := strconv.Atoi(version[:end])
	return major
}
