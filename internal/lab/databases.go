package lab

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"rehearsal/internal/run"
)

//go:embed seed.sql
var seed string

// Production's roles are what a careful owner gives a backup: it may read, and nothing else. The role
// reporting exists there only, so that a restore meets grants to a role it does not have.
const productionRoles = `
create role shop login;
create role backup_reader login;
grant pg_read_all_data, pg_monitor to backup_reader;
create role reporting;
create database shop owner shop;
`

// backup:check scans production with amcheck, which its owner has to allow.
const productionAmcheck = `
create extension amcheck;
grant execute on function bt_index_check(regclass, boolean), verify_heapam(regclass, boolean, boolean, text, bigint, bigint) to backup_reader;
`

// Staging begins with an old copy and with what a swap of databases forgets: who may connect, how many, and
// what is set for the database. rehearsal is no superuser; a superuser keeps rows that fail out of its log.
const stagingRoles = `
create role shop login;
create role qa login;
create role rehearsal login createdb;
grant shop, pg_signal_backend to rehearsal;
alter role rehearsal set log_min_messages = 'panic';

create database shop owner shop connection limit 40;
revoke connect on database shop from public;
grant connect on database shop to qa;
alter database shop set work_mem = '8MB';
alter database shop set timezone = 'Europe/Berlin';
`

const stagingShop = `
set role shop;
create table customers (id bigint primary key, email text not null unique, full_name text not null);
insert into customers values (1, 'first@old-staging.invalid', 'Old Staging One'), (2, 'second@old-staging.invalid', 'Old Staging Two');
`

func (l *Lab) startProduction(ctx context.Context, orders int, tell func(string)) error {
	c, err := StartCluster(ctx, "production", l.Path("production", "postgres"))
	if err != nil {
		return err
	}
	if err := l.note(func() { l.Production = c }); err != nil {
		return err
	}
	if _, err := c.SQL(ctx, "postgres", productionRoles); err != nil {
		return err
	}
	begin := time.Now()
	if _, err := c.SQL(ctx, "shop", fmt.Sprintf("%s\\set orders %d\n%s", productionAmcheck, orders, seed)); err != nil {
		return err
	}
	tell(fmt.Sprintf("PostgreSQL answers: production, with %d orders seeded in %s", orders, run.Duration(time.Since(begin))))
	return nil
}

func (l *Lab) startStaging(ctx context.Context, tell func(string)) error {
	c, err := StartCluster(ctx, "staging", l.Path("staging", "postgres"))
	if err != nil {
		return err
	}
	if err := l.note(func() { l.Staging = c }); err != nil {
		return err
	}
	if _, err := c.SQL(ctx, "postgres", stagingRoles); err != nil {
		return err
	}
	if _, err := c.SQL(ctx, "shop", stagingShop); err != nil {
		return err
	}
	tell("PostgreSQL answers: staging, with an old copy of two customers")
	return nil
}

// identity returns the system identifier and the data directory as the server knows them.
func (c *Cluster) identity(ctx context.Context) (system, data string, err error) {
	out, err := c.SQL(ctx, "postgres", "select system_identifier from pg_control_system(); show data_directory;")
	system, data, _ = strings.Cut(out, "\n")
	return system, data, err
}
