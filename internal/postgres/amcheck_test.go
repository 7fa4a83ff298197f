package postgres

import (
	"strings"
	"testing"
)

var scanned = []Relation{
	{OID: 1, Schema: "public", Name: "orders", Table: "public.orders"},
	{OID: 2, Schema: "public", Name: "orders_pkey", Table: "public.orders", Index: true},
	{OID: 3, Schema: `Billing "Dept"`, Name: "Invoice.#$*", Table: `"Billing ""Dept"""."Invoice.#$*"`},
}

func TestAmcheckArgsNameEveryRelationExactlyAndLockNothing(t *testing.T) {
	want := `/usr/lib/postgresql/15/bin/pg_amcheck
--no-password
--verbose
--heapallindexed
--no-strict-names
--no-dependent-indexes
--no-dependent-toast
--table="public"."orders"
--index="public"."orders_pkey"
--table="Billing ""Dept"""."Invoice.#$*"
host='/var/run/postgresql' port=5433 user='backup_reader' dbname='we"ird $HOME sh\'op\\' application_name=rehearsal`
	if got := strings.Join(AmcheckArgs(weird, scanned), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// read feeds what PostgreSQL 15 really printed.
func read(stdout, stderr string, relations []Relation) *Amchecked {
	a := newAmchecked("shop", relations, func(Relation) {})
	for to, text := range map[*lines]string{{to: a.readReport}: stdout, {to: a.readProgress}: stderr} {
		for i := 0; i < len(text); i += 7 { // a pipe cuts lines anywhere
			to.Write([]byte(text[i:min(i+7, len(text))]))
		}
		to.flush()
	}
	return a
}

func TestAReportOfCorruptionIsReadInFull(t *testing.T) {
	a := read(`btree index "shop.public.orders_pkey":
    ERROR:  XX001: heap tuple (10,151) from table "orders" lacks matching index tuple within index "orders_pkey"
    HINT:  Retrying verification using the function bt_index_parent_check() might provide a more specific error.
    LOCATION:  bt_tuple_present_callback, verify_nbtree.c:2573
query was: SELECT "public".bt_index_check(index := c.oid, heapallindexed := true)
FROM pg_catalog.pg_class c, pg_catalog.pg_index i WHERE c.oid = 16421 AND c.oid = i.indexrelid AND c.relpersistence != 't' AND i.indisready AND i.indisvalid AND i.indislive
heap table "shop.public.orders", block 3, offset 2, attribute 1:
    attribute with length 1024 ends at offset 5 beyond total tuple length 4
heap table "shop.public.orders", block 3, offset 7:
    line pointer redirection to item at offset 19 exceeds maximum offset 12
`, `pg_amcheck: including database "shop"
pg_amcheck: in database "shop": using amcheck version "1.3" in schema "public"
pg_amcheck: checking heap table "shop.Billing "Dept".Invoice.#$*"
pg_amcheck: checking btree index "shop.public.orders_pkey"
WARNING:  XX001: page verification failed, calculated checksum 63265 but expected 9659
pg_amcheck: checking heap table "shop.public.orders"
`, scanned)
	if len(a.Begun) != 3 || a.Begun[0] != scanned[2] || a.Begun[1] != scanned[1] {
		t.Errorf("begun: %v", a.Begun)
	}
	if len(a.Reports) != 2 || len(a.unread) != 0 || !a.Reports[0].Corrupt() || !a.Reports[1].Corrupt() {
		t.Fatalf("reports: %+v, unread %q", a.Reports, a.unread)
	}
	for i, want := range []string{
		`heap tuple (10,151) from table "orders" lacks matching index tuple within index "orders_pkey"`,
		"attribute with length 1024 ends at offset 5 beyond total tuple length 4; line pointer redirection to item at offset 19 exceeds maximum offset 12",
	} {
		if got := a.Reports[i].Text(); got != want {
			t.Errorf("got %s", got)
		}
	}
}

func TestOnlyErrorsOfTheStorageAreCorruptionAndOthersNeverQuoteARow(t *testing.T) {
	for state, corrupt := range map[string]bool{"XX000": true, "XX001": true, "XX002": true, "58P01": true, "58030": true,
		"42501": false, "55P03": false, "P0001": false, "22P02": false, "57014": false} {
		a := read(`btree index "shop.public.orders_pkey":
    FEHLER:  `+state+`: anna@example.com is wrong
    KONTEXT:  anna@example.com
`, "", scanned)
		if len(a.Reports) != 1 || a.Reports[0].Corrupt() != corrupt {
			t.Errorf("%s: %+v", state, a.Reports)
			continue
		}
		if text := a.Reports[0].Text(); !corrupt && strings.Contains(text, "anna") || text == "" {
			t.Errorf("%s: %s", state, text)
		}
	}
}

func TestAHeapWithAMessageARowIsCutShort(t *testing.T) {
	a := read(strings.Repeat("heap table \"shop.public.orders\", block 3, offset 2:\n    xmin 7 is odd\n", 1000), "", scanned)
	if len(a.Reports) != 1 || a.Reports[0].Count != 1000 || !strings.HasSuffix(a.Reports[0].Text(), "; and 995 more") {
		t.Errorf("%+v", a.Reports[0])
	}
}

func TestAReportOnWhatNobodyAskedForIsNotDropped(t *testing.T) {
	a := read("heap table \"shop.public.other\":\n    xmin 7 is odd\n", "", scanned)
	if len(a.unread) != 1 || len(a.Reports) != 0 || !strings.Contains(a.complaint(), "other") {
		t.Errorf("unread %q, reports %v", a.unread, a.Reports)
	}
}

func TestTwoRelationsWithOneLabelAreBothReported(t *testing.T) {
	twins := []Relation{{OID: 1, Schema: "a.b", Name: "c"}, {OID: 2, Schema: "a", Name: "b.c"}}
	a := read("heap table \"shop.a.b.c\":\n    xmin 7 is odd\n", "pg_amcheck: checking heap table \"shop.a.b.c\"\n", twins)
	if len(a.Reports) != 2 || len(a.Begun) != 2 {
		t.Errorf("reports %v, begun %v", a.Reports, a.Begun)
	}
}
