package host

import (
	"context"
	"fmt"
	"path"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Host is one machine that we are logged in to. It is safe for concurrent use, and opens further connections
// as they are needed.
type Host struct {
	// Memory is how many bytes of files wait for their writers in all Reads together, 64 MiB where it is 0; each Read
	// that comes when they are used up has one span of 2 MiB beside. Set it before the first Read.
	Memory int64

	warn    func(format string, args ...any) // hears of what did not stop a Read; may be nil
	lanes   *lanes
	writers *writers

	spec     *inventory.Host
	route    *route
	trust    func() (*trust, error)                         // whom we believe to be the host
	identify func(ctx context.Context) (*identities, error) // what we log in with
	another  func(ctx context.Context) (*conn, error)       // makes a connection
	here     bool                                           // it is this machine: see Local
	jump     *Host                                          // the machine the connections go through, or nil
	home     string                                         // the remote home, absolute

	life  context.Context // ends with Close
	end   context.CancelFunc
	tasks sync.WaitGroup // goroutines that live as long as a connection

	mu       sync.Mutex
	closed   bool
	conns    []*conn
	letIn    ssh.PublicKey // the key of the latest login
	limit    int           // sessions that we open on one connection
	dialling int           // connections being dialled for the queue
	queue    []chan grant
}

// Dial logs in to a host, through its jump hosts, and learns its home directory. For each machine on the way, reaching
// it may take 15 seconds and authentication 45, and one that turns us away is dialled again for some 5; the first
// command has 30 to begin. A cancelled ctx aborts at once. An error is a *run.Error
// with code Unreachable and says what to do next, except that of a cancelled context.
func Dial(ctx context.Context, spec *inventory.Host) (*Host, error) {
	h, err := login(ctx, spec, 0)
	if err != nil {
		return nil, err
	}
	return h.arrive(ctx)
}

// arrive learns the home directory, and is the last of what makes a Host.
func (h *Host) arrive(ctx context.Context) (_ *Host, err error) {
	spec := h.spec
	h.home, err = h.Output(ctx, Cmd{Script: `printf %s "$HOME"`})
	if err == nil && !path.IsAbs(h.home) {
		err = run.Fail(run.Unreachable, "give the account a home directory", "%s has no home directory for %s: HOME is %q", spec.Name, h.route.user, h.home)
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// Close ends every connection, and with them the commands that have no stdin of their own. It returns when
// nothing of the Host runs here any more.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	conns := h.conns
	h.conns = nil
	h.refuse(len(h.queue), h.errClosed())
	h.mu.Unlock()
	h.end()
	for _, c := range conns {
		c.drop(h.errClosed())
	}
	h.tasks.Wait()
	if h.jump != nil {
		return h.jump.Close()
	}
	return nil
}

// Name is the host's name in the inventory.
func (h *Host) Name() string { return h.spec.Name }

// Path makes p absolute: "~/" and what is relative are below the remote home.
func (h *Host) Path(p string) string {
	if path.IsAbs(p) {
		return p
	}
	if p == "~" {
		return h.home
	}
	return path.Join(h.home, strings.TrimPrefix(p, "~/"))
}

// State is an absolute path below our folder on that host.
func (h *Host) State(elem ...string) string {
	folder := h.spec.State
	if folder == "" {
		folder = "~/.rehearsal"
	}
	return path.Join(append([]string{h.Path(folder)}, elem...)...)
}

func (h *Host) errClosed() error { return fmt.Errorf("the connection to %s is closed", h.spec.Name) }

// maxJumps ends a circle of jump hosts.
const maxJumps = 8

// login makes the first connection; a jump host needs no more, and may not even run commands.
func login(ctx context.Context, spec *inventory.Host, depth int) (*Host, error) {
	if depth > maxJumps {
		return nil, run.Fail(run.Unreachable, `look for a circle in "via" or ProxyJump`, "%s is behind more than %d jump hosts", spec.Name, maxJumps)
	}
	r, err := resolve(ctx, spec)
	if err != nil {
		return nil, err
	}
	h := newHost(spec, r)
	h.trust = func() (*trust, error) { return newTrust(r, spec.HostKey) }
	h.identify = func(ctx context.Context) (*identities, error) { return newIdentities(ctx, r, spec.Identity) }
	if via := r.via(spec); via != nil {
		if h.jump, err = login(ctx, via, depth+1); err != nil {
			return nil, err
		}
		h.limit = sessionsThroughJump
	}
	return h.begin(ctx)
}

func newHost(spec *inventory.Host, r *route) *Host {
	h := &Host{spec: spec, route: r, limit: sessionsPerConnection}
	h.another = h.connect
	h.lanes, h.writers = newLanes(h), newWriters(h)
	h.life, h.end = context.WithCancel(context.Background())
	return h
}

// begin makes the first connection.
func (h *Host) begin(ctx context.Context) (*Host, error) {
	c, err := h.another(ctx)
	if err != nil {
		h.Close()
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.adopt(c)
	return h, nil
}
