package postgres

import (
	"strings"
	"testing"
)

func TestVersionsThatDoNotFitAreExplainedBeforeAnythingRuns(t *testing.T) {
	for name, c := range map[string]struct {
		v             Versions
		problem, hint string
	}{
		"all the same":                  {Versions{15, 15, 15, 15}, "", ""},
		"newer clients, newer target":   {Versions{15, 17, 17, 17}, "", ""},
		"newer pg_restore only":         {Versions{15, 15, 18, 15}, "", ""},
		"nothing known":                 {Versions{}, "", ""},
		"target not known yet":          {Versions{Source: 15, Dump: 16}, "", ""},
		"older pg_dump":                 {Versions{Source: 17, Dump: 15}, "pg_dump is of PostgreSQL 15, production's server of 17", "client of PostgreSQL 17 on production's host"},
		"newer pg_dump, older target":   {Versions{15, 18, 18, 15}, "pg_dump is of PostgreSQL 18, staging's server of 15", "folder of PostgreSQL 15's client in production's postgres_bin"},
		"newer pg_dump, unknown source": {Versions{0, 18, 18, 15}, "pg_dump is of PostgreSQL 18, staging's server of 15", "upgrade staging to PostgreSQL 18"},
		"older target":                  {Versions{17, 17, 17, 15}, "production's server is PostgreSQL 17, staging's 15", "upgrade staging to PostgreSQL 17"},
		"older pg_restore":              {Versions{15, 16, 15, 16}, "staging's pg_restore of 15", "client of PostgreSQL 16 on staging's host"},
	} {
		problem, hint := c.v.Misfit()
		if !strings.Contains(problem, c.problem) || (problem == "") != (c.problem == "") || !strings.Contains(hint, c.hint) {
			t.Errorf("%s: %q, next %q; want %q, next %q", name, problem, hint, c.problem, c.hint)
		}
	}
	for version, want := range map[string]int{"15.20 (Debian 15.20-0+deb12u1)": 15, "18beta1": 18, "9.6.24": 9, "": 0, "devel": 0} {
		if got := Major(version); got != want {
			t.Errorf("Major(%q) = %d, want %d", version, got, want)
		}
	}
}
