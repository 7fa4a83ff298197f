package doctor

import (
	"context"
	"fmt"
	"strings"

	"rehearsal/internal/guard"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// source is what was learned of a database on production.
type source struct {
	folders    fact[folders]
	spool      fact[disk]
	pgDump     fact[version]
	pgAmcheck  fact[version]
	guard      fact[[]guard.Finding]
	identity   fact[postgres.Identity]
	bytes      fact[int64] // size of the database
	unreadable fact[postgres.Unreadable]
	amcheck    fact[string] // version of the extension that our role may use
}

// version is that of a program or a server.
type version struct {
	text  string
	major int
}

func toolVersion(ctx context.Context, s *postgres.Server, tool string) (version, error) {
	text, major, err := s.Version(ctx, tool)
	return version{text, major}, err
}

func (p *source) look(ctx context.Context, h *host.Host, db *inventory.Database) {
	s := &postgres.Server{Host: h, Spec: db.Production}
	together(
		func() { p.folders.learn(readFolders(ctx, h, h.State())) },
		func() { p.spool.learn(freeAt(ctx, h, h.State("spool"))) },
		func() { p.pgDump.learn(toolVersion(ctx, s, "pg_dump")) },
		func() { p.pgAmcheck.learn(toolVersion(ctx, s, "pg_amcheck")) },
		func() { p.guard.learn(guard.Source(ctx, s)) },
		func() { p.lookAtServer(ctx, s) },
		func() { p.lookAtRights(ctx, s) },
	)
}

func freeAt(ctx context.Context, h *host.Host, dir string) (disk, error) {
	free, err := postgres.FreeAt(ctx, h, dir)
	return disk{dir, free}, err
}

func (p *source) lookAtServer(ctx context.Context, s *postgres.Server) {
	conn, err := s.Connect(ctx, s.Spec.Name)
	if err != nil {
		p.identity.learn(postgres.Identity{}, err)
		p.bytes.learn(0, err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	p.identity.learn(postgres.Identify(ctx, conn))
	p.bytes.learn(postgres.DatabaseBytes(ctx, conn))
}

func (p *source) lookAtRights(ctx context.Context, s *postgres.Server) {
	conn, err := s.Connect(ctx, s.Spec.Name)
	if err != nil {
		p.unreadable.learn(postgres.Unreadable{}, err)
		p.amcheck.learn("", err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	p.unreadable.learn(postgres.FindUnreadable(ctx, conn))
	p.amcheck.learn(s.AmcheckReady(ctx, conn))
}

func (s *subject) judgeProduction(r *report) {
	p := &s.production
	r.judgeFolders(p.folders)
	r.judgeDisk(p.spool, s.dumpBytes(), "the next dump", "make room there, or move the folder: state in the inventory")
	s.judgeDump(r)
	if !p.guard.known() {
		r.error("PostgreSQL", p.guard.err)
		r.unchecked("everything of PostgreSQL", "", "not reached")
		return
	}
	r.take(p.guard.is)
	s.judgeRights(r)
}

func (s *subject) judgeDump(r *report) {
	p := &s.production
	if !p.pgDump.known() {
		r.fail(run.Unreachable, "pg_dump", installClient, "not found: %s", p.pgDump.err)
		return
	}
	if !p.identity.known() {
		r.unchecked("pg_dump", "", "%s; the server's version is not known", p.pgDump.is.text)
		return
	}
	if problem, hint := (postgres.Versions{Source: p.identity.is.Major, Dump: p.pgDump.is.major}).Misfit(); problem != "" {
		r.fail(run.Unreachable, "pg_dump", hint, "%s", problem)
		return
	}
	r.ok("pg_dump", "%s, the server is %s", p.pgDump.is.text, number(p.identity.is))
}

const installClient = "install PostgreSQL's client there, or name its folder in postgres_bin"

// number is the server's version without what its packager adds.
func number(id postgres.Identity) string {
	text, _, _ := strings.Cut(id.ServerVersion, " ")
	return text
}

func (s *subject) judgeRights(r *report) {
	p, user := &s.production, s.Production.User
	role := postgres.Ident(user)
	if !p.unreadable.known() {
		r.error("rights", p.unreadable.err)
		return
	}
	u := p.unreadable.is
	if len(u.Denied) > 0 {
		r.fail(run.Incomplete, "rights", fmt.Sprintf("as superuser on %s, in %s: %s", r.host, postgres.Ident(s.Production.Name), s.grant(u.Denied)),
			"%s may not read %s", user, some(u.Denied))
	}
	if len(u.Hidden) > 0 {
		r.fail(run.Incomplete, "row security", fmt.Sprintf("as superuser on %s: ALTER ROLE %s BYPASSRLS", r.host, role),
			"policies would hide rows of %s from %s", some(u.Hidden), user)
	}
	if u.LargeObjects > 0 {
		r.fail(run.Incomplete, "large objects", fmt.Sprintf("as superuser on %s: ALTER ROLE %s SET lo_compat_privileges = on; or GRANT SELECT ON LARGE OBJECT, each", r.host, role),
			"%s may not read %d of them", user, u.LargeObjects)
	}
	if len(u.Denied) == 0 && len(u.Hidden) == 0 && u.LargeObjects == 0 {
		r.ok("rights", "%s may read everything in %s", user, s.Production.Name)
	}
	judgeAmcheck(r, p)
}

// judgeAmcheck judges what backup:check needs to scan production for corruption. Backups and resets go without it.
func judgeAmcheck(r *report, p *source) {
	switch {
	case !p.pgAmcheck.known():
		r.warn("amcheck", "install PostgreSQL's client programs there, 14 or newer, or name their folder in postgres_bin",
			"backup:check cannot scan for corruption: no pg_amcheck")
	case !p.amcheck.known():
		r.warn("amcheck", run.HintOf(p.amcheck.err), "backup:check cannot scan for corruption: %s", p.amcheck.err)
	default:
		r.ok("amcheck", "pg_amcheck %s, the extension is %s", p.pgAmcheck.is.text, p.amcheck.is)
	}
}

// grant is what lets our role read everything, now and after migrations; before PostgreSQL 14 only what is there now.
func (s *subject) grant(denied []string) string {
	role := postgres.Ident(s.Production.User)
	if s.production.identity.is.Major >= 14 {
		return "GRANT pg_read_all_data TO " + role
	}
	return "GRANT SELECT ON " + strings.Join(denied, ", ") + " TO " + role + " (and USAGE on their schemas)"
}

// some names the first few.
func some(names []string) string {
	const few = 3
	if len(names) <= few+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
