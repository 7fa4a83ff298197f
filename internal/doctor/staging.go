package doctor

import (
	"context"
	"fmt"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// target is what was learned of a database's staging.
type target struct {
	folders   fact[folders]
	lacking   fact[[]string]
	pgDump    fact[version]
	pgRestore fact[version]
	psql      fact[version]

	identity    fact[postgres.Identity]
	disk        fact[disk]
	replaceable fact[bool]
	ours        fact[bool]
	lock        fact[*postgres.Holder]
	quiet       fact[bool] // errors stay out of the server's log
	tuning      fact[postgres.Tuning]
}

func (g *target) look(ctx context.Context, h *host.Host, db *inventory.Database) {
	s := &postgres.Server{Host: h, Spec: db.Staging}
	together(
		func() { g.folders.learn(readFolders(ctx, h, h.State())) },
		func() { g.lacking.learn(lacking(ctx, h, "gzip")) },
		func() { g.pgRestore.learn(toolVersion(ctx, s, "pg_restore")) },
		func() { g.pgDump.learn(toolVersion(ctx, s, "pg_dump")) },
		func() { g.psql.learn(toolVersion(ctx, s, "psql")) },
		func() { g.lookAtServer(ctx, s) },
		func() { g.lookAtDatabases(ctx, s) },
		func() { g.lookAtSettings(ctx, s) },
	)
}

func (g *target) lookAtServer(ctx context.Context, s *postgres.Server) {
	conn, err := s.ConnectMaintenance(ctx)
	if err != nil {
		g.identity.learn(postgres.Identity{}, err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	g.identity.learn(postgres.Identify(ctx, conn))
	if g.identity.known() {
		free, dir, err := s.FreeDisk(ctx, conn, g.identity.is)
		g.disk.learn(disk{dir, free}, err)
	}
}

func (g *target) lookAtDatabases(ctx context.Context, s *postgres.Server) {
	conn, err := s.ConnectMaintenance(ctx)
	if err != nil {
		g.replaceable.learn(false, err)
		g.ours.learn(false, err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	name := s.Spec.Name
	g.replaceable.learn(true, s.Replaceable(ctx, conn, s.Spec))
	g.ours.learn(true, s.Ours(ctx, conn, postgres.Incoming(name), postgres.Previous(name)))
}

func (g *target) lookAtSettings(ctx context.Context, s *postgres.Server) {
	conn, err := s.ConnectMaintenance(ctx)
	if err != nil {
		g.lock.learn(nil, err)
		g.tuning.learn(postgres.Tuning{}, err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	g.lock.learn(postgres.LockHolder(ctx, conn, s.Spec.Name))
	g.quiet.learn(postgres.LogsNoRows(ctx, conn), nil)
	g.tuning.learn(postgres.Tune(ctx, conn))
}

func (s *subject) judgeStaging(r *report) {
	g := &s.staging
	r.judgeFolders(g.folders)
	g.judgePrograms(r)
	if !g.identity.known() {
		r.error("PostgreSQL", g.identity.err)
		r.unchecked("everything of PostgreSQL", "", "not reached")
		return
	}
	if !s.judgeTarget(r) {
		return // what else it lacks, and the statements that would mend it, are for a staging server
	}
	s.judgeVersions(r)
	r.judgeDisk(g.disk, s.restoreBytes(), "a reset", "make room there; "+postgres.Previous(s.Staging.Name)+" is the database before the last reset")
	s.judgeDatabases(r)
	if g.tuning.known() {
		s.judgeSettings(r)
	} else {
		r.error("settings", g.tuning.err)
	}
}

// judgeTarget refuses a staging that is production, by every name that production is known by.
func (s *subject) judgeTarget(r *report) bool {
	id := s.staging.identity.is.SystemIdentifier
	sources := map[string]string{s.Production.SystemIdentifier: "the inventory's production", s.production.identity.is.SystemIdentifier: "production"}
	for _, b := range s.backups.list.is {
		if b.Manifest != nil && b.Problem == "" {
			sources[b.Manifest.Source.SystemIdentifier] = "the one that backup " + b.ID + " was taken from"
		}
	}
	delete(sources, "")
	switch what, same := sources[id]; {
	case same:
		r.fail(run.Production, "not production", "staging's host, socket and port in the inventory lead to production: correct them",
			"the server is %s (system identifier %s)", what, id)
		return false
	case len(sources) == 0:
		r.unchecked("not production", "write production's system_identifier into the inventory", "nothing says which server production is")
	default:
		r.ok("not production", "system identifier %s", id)
	}
	return true
}

// judgePrograms judges what a backup is loaded with. Their versions are judged with the server's.
func (g *target) judgePrograms(r *report) {
	switch {
	case !g.pgRestore.known():
		r.fail(run.Unreachable, "programs", installClient, "pg_restore is not found: %s", g.pgRestore.err)
	case !g.psql.known():
		r.fail(run.Unreachable, "programs", installClient, "psql is not found: %s", g.psql.err)
	case !g.pgDump.known():
		r.fail(run.Unreachable, "programs", installClient, "pg_dump, which reads the schema back for the proof, is not found: %s", g.pgDump.err)
	case len(g.lacking.is) > 0:
		r.judgeTools(g.lacking)
	default:
		r.judgeTools(g.lacking, "pg_dump "+g.pgDump.is.text, "pg_restore "+g.pgRestore.is.text, "psql "+g.psql.is.text, "gzip")
	}
}

// judgeVersions judges whether what production dumps can be loaded. A pg_dump that refuses production is production's.
func (s *subject) judgeVersions(r *report) {
	here, source, dump := s.staging.identity.is, s.production.identity, s.production.pgDump
	v := postgres.Versions{Source: source.is.Major, Restore: s.staging.pgRestore.is.major, Target: here.Major}
	if dump.is.major >= v.Source {
		v.Dump = dump.is.major
	}
	switch problem, hint := v.Misfit(); {
	case problem != "":
		r.fail(run.Unreachable, "versions", hint, "%s", problem)
	case s.staging.pgDump.known() && s.staging.pgDump.is.major < here.Major:
		r.fail(run.Unreachable, "versions", installClient, "pg_dump here is of PostgreSQL %d, the server of %d: it refuses servers newer than itself",
			s.staging.pgDump.is.major, here.Major)
	case !source.known() || !dump.known() || !s.staging.pgRestore.known():
		r.unchecked("versions", "", "PostgreSQL %s; what else takes part is not all known", number(here))
	default:
		r.ok("versions", "PostgreSQL %s; production is %s, dumped by %s", number(here), number(source.is), dump.is.text)
	}
}

func (s *subject) judgeDatabases(r *report) {
	g, name := &s.staging, s.Staging.Name
	if g.replaceable.err != nil {
		r.error("replaceable", g.replaceable.err)
	} else {
		r.ok("replaceable", "%s may replace %s", s.Staging.User, name)
	}
	if g.ours.err != nil {
		r.error("leftovers", g.ours.err)
	} else {
		r.ok("leftovers", "no database of others is in the way")
	}
	switch holder := g.lock.is; {
	case g.lock.err != nil:
		r.error("lock", g.lock.err)
	case holder != nil:
		r.warn("lock", fmt.Sprintf("wait for it, or end it: SELECT pg_terminate_backend(%d)", holder.PID),
			"held since %s: %s", holder.Since.Format("15:04:05"), holder.Who)
	default:
		r.ok("lock", "nobody works on %s", name)
	}
}

// What is worth a person's time, by measurement: max_wal_size matters where a restore writes many times as much, since
// every checkpoint writes whole pages again; maintenance_work_mem where indexes are large.
const (
	smallWAL   = 1 << 30 // less than PostgreSQL's default
	smallMem   = 64 << 20
	largeIndex = 10 << 30 // of a whole database, as far as its indexes go
)

func (s *subject) judgeSettings(r *report) {
	g, role, need := &s.staging, postgres.Ident(s.Staging.User), s.restoreBytes()
	before := len(r.findings)
	if !g.quiet.is {
		r.fail(run.Unclean, "log_min_messages", fmt.Sprintf("as superuser on %s: ALTER ROLE %s SET log_min_messages = 'panic'", r.host, role),
			"a load that fails would write a row of production into the server's log")
	}
	if g.tuning.is.Archives {
		r.warn("archive_mode", fmt.Sprintf("as superuser on %s: ALTER SYSTEM SET archive_mode = off, then restart it", r.host),
			"on: each reset archives %s or more of WAL; is archive_command production's?", run.Bytes(need))
	}
	if g.tuning.is.MaxWAL < smallWAL && need > 4*smallWAL {
		r.warn("max_wal_size", fmt.Sprintf("as superuser on %s: ALTER SYSTEM SET max_wal_size = '8GB'; SELECT pg_reload_conf()", r.host),
			"%s: restoring %s, checkpoints take over", run.Bytes(g.tuning.is.MaxWAL), run.Bytes(need))
	}
	if g.tuning.is.MaintenanceWorkMem <= smallMem && need > largeIndex {
		r.warn("maintenance_work_mem", fmt.Sprintf("on %s: ALTER ROLE %s SET maintenance_work_mem = '512MB'", r.host, role),
			"%s: indexes of a database of %s are sorted on disk", run.Bytes(g.tuning.is.MaintenanceWorkMem), run.Bytes(need))
	}
	if len(r.findings) == before {
		r.ok("settings", "as they should be for a reset")
	}
}
