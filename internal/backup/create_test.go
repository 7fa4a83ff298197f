package backup

import (
	"strings"
	"testing"

	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

func TestShrinkingStopsABackupAndGrowthDoesNot(t *testing.T) {
	before := []postgres.TableRows{{Name: "orders", Rows: 1000}, {Name: "jobs", Rows: 20}, {Name: "old", Rows: 500}, {Name: "empty", Rows: 0}}
	for name, c := range map[string]struct {
		now  []postgres.TableRows
		want string
	}{
		"the same":         {before, ""},
		"growth":           {[]postgres.TableRows{{Name: "orders", Rows: 9000}, {Name: "jobs", Rows: 20}, {Name: "old", Rows: 500}}, ""},
		"a little less":    {[]postgres.TableRows{{Name: "orders", Rows: 801}, {Name: "jobs", Rows: 20}, {Name: "old", Rows: 500}}, ""},
		"an empty queue":   {[]postgres.TableRows{{Name: "orders", Rows: 1000}, {Name: "jobs", Rows: 0}, {Name: "old", Rows: 500}}, ""},
		"a table shrank":   {[]postgres.TableRows{{Name: "orders", Rows: 700}, {Name: "jobs", Rows: 900}, {Name: "old", Rows: 500}}, "orders had 1000 rows and has 700"},
		"a table vanished": {[]postgres.TableRows{{Name: "orders", Rows: 1000}, {Name: "jobs", Rows: 20}}, "old had 500 rows and is gone"},
		"all shrank":       {[]postgres.TableRows{{Name: "orders", Rows: 100}, {Name: "jobs", Rows: 0}, {Name: "old", Rows: 500}}, "all tables together had 1520 rows and have 600"},
	} {
		got := strings.Join(shrunk(before, c.now, 0.2), "; ")
		if !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestOnlyTheServerOfTheInventoryIsBackedUp(t *testing.T) {
	expected := inventory.Server{Host: &inventory.Host{Name: "production"}, User: "backup_reader", SystemIdentifier: "1", DataDirectory: "/data"}
	for name, c := range map[string]struct {
		expected inventory.Server
		id       postgres.Identity
		code     run.Code
	}{
		"the same":              {expected, postgres.Identity{SystemIdentifier: "1", DataDirectory: "/data/"}, run.Done},
		"another cluster":       {expected, postgres.Identity{SystemIdentifier: "2", DataDirectory: "/data"}, run.Unfit},
		"another directory":     {expected, postgres.Identity{SystemIdentifier: "1", DataDirectory: "/copy"}, run.Unfit},
		"an unknown directory":  {expected, postgres.Identity{SystemIdentifier: "1"}, run.Incomplete},
		"an unknown production": {inventory.Server{Host: expected.Host}, postgres.Identity{SystemIdentifier: "1", DataDirectory: "/data"}, run.Unfit},
	} {
		if got := run.CodeOf(checkIdentity(c.expected, c.id)); got != c.code {
			t.Errorf("%s: exit code %d, want %d", name, got, c.code)
		}
	}
}
