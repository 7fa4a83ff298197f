package lab

import (
	"context"
	"errors"
	"os"
	"testing"
)

func TestTwinsServeOneDataDirectoryAtOnceAndEndWithoutATrace(t *testing.T) {
	ctx := context.Background()
	c, err := StartCluster(ctx, "test", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	twins, err := StartTwins(ctx, c)
	if errors.Is(err, ErrNoNamespaces) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer twins.Stop()
	who := "SELECT system_identifier || ' ' || current_setting('data_directory') FROM pg_control_system(); CREATE TEMP TABLE mine AS SELECT 1"
	first, err := twins.First.SQL(ctx, "postgres", who)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := twins.Second.SQL(ctx, "postgres", who); err != nil || second != first {
		t.Errorf("the second is %q, %v, the first %q", second, err, first)
	}
	pids := twins.PIDs
	if err := errors.Join(twins.Stop(), twins.Stop()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if pid < 2 || runsIn(pid, c.Data) {
			t.Errorf("process %d runs", pid)
		}
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there", c.Dir)
	}
}
