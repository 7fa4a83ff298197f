package postgres_test

import (
	"context"
	"strings"
	"testing"

	"rehearsal/internal/postgres"
)

func TestASequenceBehindItsColumnAndAnInvalidIndexAreSeen(t *testing.T) {
	s := newSite(t)
	server := s.dial(t, nil)
	seed := func(sql string) error {
		_, err := s.cluster.SQL(t.Context(), "shop", "SET ROLE shop;\n"+sql)
		return err
	}
	if err := seed(`CREATE TABLE well (id serial PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY); INSERT INTO well DEFAULT VALUES;
		CREATE TABLE empty (id serial);
		CREATE TABLE back (id serial); INSERT INTO back VALUES (7);
		CREATE TABLE down (id int); CREATE SEQUENCE down_id INCREMENT -1 OWNED BY down.id; INSERT INTO down VALUES (-7);
		CREATE TABLE hidden (id serial); INSERT INTO hidden VALUES (7);
		CREATE TABLE round (id int); CREATE SEQUENCE round_id MAXVALUE 10 CYCLE OWNED BY round.id; INSERT INTO round VALUES (9);
		CREATE TABLE twice (id int); INSERT INTO twice VALUES (1), (1)`); err != nil {
		t.Fatal(err)
	}
	if seed(`CREATE UNIQUE INDEX CONCURRENTLY twice_id ON twice (id)`) == nil { // which leaves it invalid
		t.Fatal("two equal values went into a unique index")
	}
	conn, err := server.Connect(t.Context(), server.Spec.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	got, err := postgres.Integrity(t.Context(), conn, func(table, column string) bool { return table != "public.hidden" })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"sequence back_id_seq stands at its start, public.back.id at 7", "sequence down_id stands at its start, public.down.id at -7",
		"index twice_id of twice is not valid"}
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
}
