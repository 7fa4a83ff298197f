package mask

import (
	"strings"
	"testing"
)

func TestClassifySuggestsALineForEverythingNewAndNeverToKeepIt(t *testing.T) {
	for _, name := range []string{"nothing", "unclassified"} {
		rules := &Rules{}
		if name != "nothing" {
			var err error
			if rules, err = Parse("columns.yaml", read(t, "refused/"+name+".yaml")); err != nil {
				t.Fatal(err)
			}
		}
		got := Classify(shop(), rules)
		golden(t, "classify-"+name+".txt", got)
		if strings.Contains(got, "keep:") {
			t.Errorf("it suggests to keep something:\n%s", got)
		}
	}
}

func TestClassifyIsSilentWhereEverythingIsSettled(t *testing.T) {
	rules, err := Parse("columns.yaml", read(t, "accepted.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := Classify(shop(), rules); got != "" {
		t.Errorf("it suggests:\n%s", got)
	}
}

func TestWhatClassifyPrintsCanBePasted(t *testing.T) {
	schema := shop()
	printed := Classify(schema, &Rules{})
	rules, err := Parse("columns.yaml", []byte(printed))
	if err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	again := Classify(schema, rules)
	for _, line := range strings.Split(strings.TrimSpace(again), "\n") {
		if !strings.HasPrefix(line, "  # decide: ") && !strings.Contains(line, ":   # line ") {
			t.Errorf("pasted, and yet asked for again: %s", line)
		}
	}
	_, err = rules.Plan(schema)
	for _, line := range strings.Split(err.Error(), "\n") {
		if strings.HasPrefix(line, "columns.yaml:") && !strings.Contains(line, "is in the backup, but not here") {
			t.Errorf("a suggestion is refused: %s", line)
		}
	}
}
