package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestALargeMaskedTableIsLoadedByTwoSessionsAndEveryRowArrives(t *testing.T) {
	s := newSpecimen(t)
	databases := stagingDatabases(t)
	source(`CREATE TABLE letters (id bigint PRIMARY KEY, sender text NOT NULL, body text);
		INSERT INTO letters SELECT i, md5(i::text) || '@example.org', md5((-i)::text) || md5(i::text) FROM generate_series(1, 120000) i;
		ALTER TABLE letters OWNER TO shop`)(s, t)
	file := filepath.Join(s.dir, "sql", "shop", "columns.yaml")
	rules, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(rule string) {
		if err := os.WriteFile(file, append(rules[:len(rules):len(rules)], "\npublic.letters: "+rule+"\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("{keep: [id], email: [sender], token: [body]}")
	created := s.run(t, "backup:create")
	names, err := filepath.Glob(filepath.Join(s.dir, "backups", created.Backup, "dump", "*.dat.*"))
	if err != nil {
		t.Fatal(err)
	}
	var largest int64
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			largest = max(largest, info.Size())
		}
	}
	if largest < 4<<20 {
		t.Fatalf("the table's file has %d bytes: it would be loaded by one session", largest)
	}
	// A row of one half that the mask cannot take: the other half must not count as the table.
	write(`{keep: [id], email: [sender], sql: {body: "(1 / (id - 77777))::text"}}`)
	s.try(t, try{target: "staging:reset", code: 4, says: `loading public\.letters on staging: SQLSTATE 22012`})
	checkNothingIsLeft(t, databases)

	write("{keep: [id], email: [sender], token: [body]}")
	if out, code := output(mage(s.dir, "staging:reset")); code != 0 {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	got := query(t, shared.Staging, "shop", `SELECT count(*), count(DISTINCT id), min(id), max(id), count(DISTINCT sender),
		count(*) FILTER (WHERE sender NOT LIKE '%.invalid'), count(*) FILTER (WHERE body NOT LIKE 'masked-%') FROM letters`)
	if got != "120000|120000|1|120000|120000|0|0" {
		t.Errorf("letters: %s", strings.TrimSpace(got))
	}
}
