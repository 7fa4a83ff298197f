package guard

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"rehearsal/internal/postgres"
)

// Source looks at the server s and returns every finding, always the same ones in the same order; a look that
// failed is one that could not be checked. It connects to the maintenance database: a foreign server may not
// even have ours. It fails only where the server cannot be reached at all, or ctx ends.
//
// It takes some ten round trips: five for the session and what the server says of itself, two for connections to
// its other addresses, three for one script that looks at the host's processes and containers meanwhile.
func Source(ctx context.Context, s *postgres.Server) ([]Finding, error) {
	conn, err := s.ConnectMaintenance(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	l := look{server: s, conn: conn}
	if l.id, err = postgres.Identify(ctx, conn); err != nil {
		return nil, err
	}
	if l.health, err = s.Health(ctx, conn, l.id); err != nil {
		return nil, err
	}
	l.around(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return append(Identity(s.Spec, l.id), l.database(), l.recovery(), l.postmasterPID(), l.routes(ctx), l.processes(),
		l.containers(), l.controlFile(), l.checksums(), l.checksumFailures(), l.collation()), nil
}

// look is one look at a server: what was seen, for the findings to judge.
type look struct {
	server *postgres.Server
	conn   *pgx.Conn
	id     postgres.Identity
	health postgres.Health

	paths   []route // to the server's other addresses
	machine machine // the host, as the script saw it while the connections of paths were open
	pidSQL  string  // postmaster.pid as the server itself reads it; "" where the role may not
	pidErr  error
}

// around looks at what is not the server's own word: who takes connections at its addresses, what runs beside it.
func (l *look) around(ctx context.Context) {
	l.paths = l.otherRoutes()
	knock(ctx, l.server.Host, l.paths)
	defer hangUp(l.paths)
	var g errgroup.Group
	g.Go(func() error { l.machine = survey(ctx, l.server.Host, l.id, l.paths); return nil })
	if l.health.ReadsFiles {
		g.Go(func() error { l.pidSQL, l.pidErr = postgres.PostmasterPID(ctx, l.conn); return nil })
	}
	_ = g.Wait() // neither returns an error
}

func (l *look) finding(name string) Finding {
	return Finding{Name: name, Host: l.server.Spec.Host.Name}
}

func (l *look) database() Finding {
	f := l.finding("database")
	if !l.health.HasDatabase {
		return f.failed("is this the production server? compare the inventory with `psql -l`", "the server on %s has no database %q", f.Host, l.server.Spec.Name)
	}
	return f.ok("%s", l.server.Spec.Name)
}

func (l *look) recovery() Finding {
	f := l.finding("recovery")
	if l.id.InRecovery {
		return f.failed("write the primary's host into the inventory", "the server on %s is a standby; production's primary is elsewhere", f.Host)
	}
	return f.ok("a primary")
}

// controlFile compares pg_control, which all postmasters on one data directory share, with where this server is.
// A server writes there what it has passed, so anything ahead of it is another's. The other way round tells
// nothing: where this server is ahead of its twin, or wrote the last checkpoint, all looks well. Forcing a
// checkpoint of our own would only cover the other's traces.
func (l *look) controlFile() Finding {
	f := l.finding("control file")
	const hint = "a second postmaster writes into this data directory: stop both, and take a copy of it, before anything else"
	switch h := l.health; {
	case h.Insert == "":
		return f.unchecked("look at the primary", "a standby has no position of its own to compare pg_control with")
	case h.CheckpointAhead:
		return f.failed(hint, "pg_control has a checkpoint at %s, this server has not written beyond %s", h.Checkpoint, h.Insert)
	case h.XidsLeft < 0:
		return f.failed(hint, "pg_control knows %d transactions more than this server has begun", -h.XidsLeft)
	default:
		return f.ok("checkpoint at %s, the server is at %s; a twin that is behind would not show", h.Checkpoint, h.Insert)
	}
}

func (l *look) checksums() Finding {
	f := l.finding("data checksums")
	if !l.health.Checksums {
		return f.warning("with the server stopped: pg_checksums --enable", "off: a page that the disk damages is dumped as it is, or stops a dump, unnoticed until then")
	}
	return f.ok("on")
}

func (l *look) checksumFailures() Finding {
	f := l.finding("checksum failures")
	switch h := l.health; {
	case h.ChecksumFailures > 0:
		return f.failed("the server's log names the page; `mage backup:check` finds the tables; restore them from an older backup, then SELECT pg_stat_reset()",
			"%d, the last one at %s: the disk returns other pages than were written", h.ChecksumFailures, h.LastFailure.UTC().Format(time.DateTime+" MST"))
	case !h.Checksums:
		return f.warning("with the server stopped: pg_checksums --enable", "not counted: data checksums are off")
	}
	return f.ok("none")
}

func (l *look) collation() Finding {
	f := l.finding("collation")
	h := l.health
	switch {
	case h.CollationRecorded != h.CollationActual && h.CollationRecorded != "":
		name := postgres.Ident(l.server.Spec.Name)
		return f.warning(fmt.Sprintf("in that database: REINDEX DATABASE %s; ALTER DATABASE %[1]s REFRESH COLLATION VERSION", name),
			"its indexes were built with version %s, the system has %s: those on text may find too little", h.CollationRecorded, orNone(h.CollationActual))
	case !l.health.HasDatabase:
		return f.unchecked("compare the database's name in the inventory with `psql -l`", "there is no such database")
	case h.CollationRecorded == "" && l.id.Major < 15:
		return f.ok("PostgreSQL %d keeps no version of it", l.id.Major)
	case h.CollationRecorded == "":
		return f.ok("without a version")
	}
	return f.ok("version %s", h.CollationActual)
}

func orNone(s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return "none"
	}
	return s
}
