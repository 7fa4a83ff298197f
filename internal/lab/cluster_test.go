package lab

import (
	"context"
	"os"
	"testing"
)

func TestAClusterStartsAnswersHaltsKeepsItsDataAndStopsWithoutATrace(t *testing.T) {
	ctx := context.Background()
	c, err := StartCluster(ctx, "test", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	if _, err := c.SQL(ctx, "postgres", "create table kept as select 42 as n;"); err != nil {
		t.Fatal(err)
	}
	if err := c.Halt(); err != nil || c.Running() {
		t.Fatalf("Halt: %v, running: %v", err, c.Running())
	}
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := c.SQL(ctx, "postgres", "select n from kept;"); got != "42" || err != nil {
		t.Fatalf("kept: %q, %v", got, err)
	}
	if err := c.Stop(); err != nil || c.Running() {
		t.Fatalf("Stop: %v, running: %v", err, c.Running())
	}
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Fatalf("%s is still there", c.Dir)
	}
}
