package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// route is another address of the server, by its own word.
type route struct {
	address string
	server  *postgres.Server
	conn    net.Conn // open and silent; nil where nobody answers
	err     error    // why we cannot know whether somebody does
}

// otherRoutes lists where the server says it listens, as its host sees that, without the way we came.
func (l *look) otherRoutes() (routes []route) {
	spec := l.server.Spec
	for _, a := range append(slices.Clone(l.health.Sockets), addresses(l.health.Listen)...) {
		if a == spec.Socket || a == spec.Address || strings.HasPrefix(a, "@") {
			continue
		}
		routes = append(routes, route{address: a, server: l.server.Other(a)})
	}
	return routes
}

// addresses are listen_addresses as one connects to them.
func addresses(listen []string) (all []string) {
	for _, a := range listen {
		switch a {
		case "*", "localhost":
			all = append(all, "127.0.0.1", "::1")
		case "0.0.0.0":
			all = append(all, "127.0.0.1")
		case "::":
			all = append(all, "::1")
		default:
			all = append(all, a)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// patience is how long an address may take to answer; a filtered one never does.
const patience = 2 * time.Second

// knock opens a connection by every route and says nothing: whoever accepts it forks a child, which waits for the
// first message and shows among the processes. Nobody needs a password for that, and no log has a line.
func knock(ctx context.Context, h *host.Host, routes []route) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var all sync.WaitGroup
	for i := range routes {
		all.Go(func() {
			r := &routes[i]
			network, address := r.server.Endpoint()
			conn, err := h.DialContext(ctx, network, address)
			switch {
			case err == nil:
				r.conn = conn
			case run.CodeOf(err) == run.Unreachable, errors.Is(err, context.DeadlineExceeded):
				r.err = err
			}
		})
	}
	all.Wait()
}

func hangUp(routes []route) {
	for _, r := range routes {
		if r.conn != nil {
			r.conn.Close()
		}
	}
}

// routes tells whether one and the same server answers at all its addresses. Where the host shows that its
// postmaster has accepted every one of our silent connections, that is proven; else we log in.
func (l *look) routes(ctx context.Context) Finding {
	f := l.finding("routes")
	spec := l.server.Spec
	switch {
	case l.health.Sockets == nil:
		return f.unchecked(monitor(spec), "the role %s may not see unix_socket_directories", spec.User)
	case l.health.Port != spec.Port:
		return f.ok("port %d leads to port %d of a container; its other addresses are not %s's", spec.Port, l.health.Port, f.Host)
	case l.ours() == nil && !l.local():
		return f.unchecked("name the machine that the server runs on as the host", "the server does not run on %s, whose addresses tell nothing of it", f.Host)
	}
	var answering, unknown []route
	for _, r := range l.paths {
		if r.conn != nil {
			answering = append(answering, r)
		} else if r.err != nil {
			unknown = append(unknown, r)
		}
	}
	if foreign := l.acceptedBy(len(answering)); foreign != "" {
		if f = l.compare(ctx, f, answering, foreign); f.Status != OK {
			return f
		}
	}
	if len(unknown) > 0 {
		return f.unchecked(next(unknown[0].err, "let the host reach its own addresses, or take that one out of listen_addresses"),
			"%s: %v", unknown[0].address, unknown[0].err)
	}
	if len(answering) == 0 {
		return f.ok("there is but one way to it")
	}
	return f.ok("the same server answers at %s", names(answering))
}

// local reports whether the way we came cannot but lead to a server on the host.
func (l *look) local() bool {
	ip := net.ParseIP(l.server.Spec.Address)
	return l.server.Spec.Socket != "" || l.server.Spec.Address == "localhost" || ip != nil && ip.IsLoopback()
}

// acceptedBy is "" where our postmaster has accepted n silent connections, and else who has.
func (l *look) acceptedBy(n int) string {
	accepted := map[int]int{}
	for _, c := range l.machine.children {
		if c.silent {
			accepted[c.parent]++
		}
	}
	ours := l.ours()
	if n == 0 || ours != nil && accepted[ours.pid] >= n {
		return ""
	}
	for _, p := range l.machine.postmasters {
		if accepted[p.pid] > 0 && ours != nil && p.pid != ours.pid {
			return fmt.Sprintf("%s (%s)", &p, p.args)
		}
	}
	return unseen
}

// unseen stands for whoever accepted our connections where the host does not show it.
const unseen = "nobody that shows"

// compare logs in by each route, where the processes have not proven that all lead to one server.
func (l *look) compare(ctx context.Context, f Finding, routes []route, foreign string) Finding {
	errs := make([]error, len(routes))
	var all sync.WaitGroup
	for i, r := range routes {
		all.Go(func() { errs[i] = l.sameServer(ctx, r) })
	}
	all.Wait()
	const hint = "two servers answer at the addresses that one of them names: stop the one that is not production's"
	for _, err := range errs {
		var d differs
		if errors.As(err, &d) {
			return f.failed(hint, "%v", err)
		}
	}
	for i, err := range errs {
		switch {
		case err == nil:
		case foreign != unseen:
			return f.failed(hint, "of the connections to %s one was accepted by another postmaster, %s", names(routes), foreign)
		default:
			return f.unchecked(next(err, asOwner), "somebody answers at %s, and nothing shows who: %v", routes[i].address, err)
		}
	}
	return f.ok("the same server answers at %s", names(routes))
}

// next is the next step, and the one that err has itself.
func next(err error, hint string) string {
	if own := run.HintOf(err); own != "" {
		hint += "; or " + own
	}
	return hint
}

// differs says how the server at another address is not ours.
type differs string

func (d differs) Error() string { return string(d) }

func (l *look) sameServer(ctx context.Context, r route) error {
	conn, err := r.server.ConnectMaintenance(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	id, err := postgres.Identify(ctx, conn)
	switch {
	case err != nil:
		return err
	case id.SystemIdentifier != l.id.SystemIdentifier:
		return differs(fmt.Sprintf("the server at %s has system identifier %s", r.address, id.SystemIdentifier))
	case id.DataDirectory != l.id.DataDirectory:
		return differs(fmt.Sprintf("the server at %s works in %s", r.address, id.DataDirectory))
	case !id.StartedAt.Equal(l.id.StartedAt):
		return differs(fmt.Sprintf("the server at %s has the same data directory and began at %s, ours at %s", r.address,
			clock(id.StartedAt), clock(l.id.StartedAt)))
	}
	return nil
}

func names(routes []route) string {
	var all []string
	for _, r := range routes {
		all = append(all, r.address)
	}
	return strings.Join(all, ", ")
}
