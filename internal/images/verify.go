package images

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/host"
	"rehearsal/internal/images/deploy"
	"rehearsal/internal/images/index"
	"rehearsal/internal/images/wire"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Options are the flags of images:verify.
type Options struct {
	Full bool // read every byte again, whatever the indexes remember
	Deep bool // decode the pixels of what is read, and read what was not decoded before
}

// Verify compares the stores, all at once, prints what it found and sets the fields of the JSON object. An error has
// code Differ where there is a discrepancy, Incomplete where there is none but something could not be compared, Unfit
// where a folder is not there or production's is empty. What an interrupted run has read is not read again by the next.
func Verify(ctx context.Context, t *run.Target, stores []*inventory.ImageStore, o Options) error {
	all, err := compare(ctx, t, stores, o)
	if err != nil {
		return err
	}
	return report(t, all)
}

// compare finds what is not identical. Its agents have ended when it returns.
func compare(ctx context.Context, t *run.Target, stores []*inventory.ImageStore, o Options) (all []*comparison, err error) {
	defer func() {
		for _, c := range all {
			c.close()
		}
	}()
	err = t.Steps(ctx,
		run.Named("connect", func(ctx context.Context, s *run.Step) (err error) {
			all, err = connect(ctx, t, stores, o)
			return err
		}),
		run.Named("walk and read", func(ctx context.Context, s *run.Step) error { return scan(ctx, t, s, all) }),
		run.Named("look again", func(ctx context.Context, s *run.Step) error { return settle(ctx, s, all) }),
	)
	return all, err
}

// comparison is one store that is being compared.
type comparison struct {
	*inventory.ImageStore
	Options
	production, backup []*peer
	differing          []wire.Bucket
	findings           []Finding
	seen               map[string]bool // paths that were looked at again
}

func (c *comparison) peers() []*peer { return slices.Concat(c.production, c.backup) }

func (c *comparison) close() {
	var closing sync.WaitGroup
	for _, p := range c.peers() {
		closing.Go(p.close)
	}
	closing.Wait()
}

// connect dials every host once, and puts the agent there.
func connect(ctx context.Context, t *run.Target, stores []*inventory.ImageStore, o Options) ([]*comparison, error) {
	type place struct {
		host  *host.Host
		agent string
	}
	places := map[string]*place{}
	g, dialling := errgroup.WithContext(ctx)
	for _, store := range stores {
		for _, tr := range slices.Concat(store.Production, store.Backup) {
			if places[tr.Host.Name] != nil {
				continue
			}
			at := &place{}
			places[tr.Host.Name] = at
			g.Go(func() (err error) {
				if at.host, err = host.DialFor(dialling, t, tr.Host); err != nil {
					return err
				}
				at.agent, err = deploy.Put(dialling, at.host)
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var all []*comparison
	for _, store := range stores {
		c := &comparison{ImageStore: store, Options: o, seen: map[string]bool{}}
		side := func(side Side, trees []inventory.Tree) (peers []*peer) {
			for _, tr := range trees {
				at := places[tr.Host.Name]
				peers = append(peers, &peer{side: side, root: at.host.Path(tr.Path), host: at.host, agent: at.agent, folders: newQueue()})
			}
			return peers
		}
		c.production, c.backup = side(Production, store.Production), side(Backup, store.Backup)
		all = append(all, c)
	}
	return all, nil
}

// scan has every folder walked and read at once, and compares the digests meanwhile.
func scan(ctx context.Context, t *run.Target, s *run.Step, all []*comparison) error {
	stop := follow(s, all)
	defer stop()
	g, scanning := errgroup.WithContext(ctx)
	for _, c := range all {
		seed := rand.Uint64()
		for _, p := range c.peers() {
			g.Go(func() error { return p.scan(ctx, scanning, t, p.request(c.ImageStore, c.Options, seed)) })
		}
		g.Go(func() (err error) {
			c.differing, err = differing(c.production, c.backup)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, c := range all {
		for _, p := range c.peers() {
			p.remark(t)
		}
		if files(c.production) == 0 {
			return run.Fail(run.Unfit, "is the right folder mounted there? An empty production is never what a backup is compared with",
				"%s is empty", c.production[0])
		}
	}
	return nil
}

// remark says what a scan met that a person should know.
func (p *peer) remark(t *run.Target) {
	if p.hello.Index != "" {
		t.Warn("%s: its index was not used, so everything was read: %s", p, p.hello.Index)
	}
	if p.summary.Damaged > 0 {
		t.Warn("%s: %d blocks of its index were damaged; the files in them were read again", p, p.summary.Damaged)
	}
	if skew := p.skew.Abs(); skew > 5*time.Second {
		t.Warn("the clock of %s is %s off ours; ages are judged by its own", p.host.Name(), run.Duration(skew))
	}
}

func files(peers []*peer) (n int64) {
	for _, p := range peers {
		n += p.summary.Files
	}
	return n
}

// follow shows how far the hosts are, until stop is called; then the step has what was read.
func follow(s *run.Step, all []*comparison) (stop func()) {
	started, stopping, stopped := time.Now(), make(chan struct{}), make(chan struct{})
	var shown int64
	show := func() {
		var done, expected, read int64
		rates := ""
		known := true
		for _, c := range all {
			for _, p := range c.peers() {
				n := p.count.Load()
				if n == nil {
					known = false
					continue
				}
				done, expected, read = done+n.Files, expected+n.Expected, read+n.ReadBytes
				known = known && n.Expected > 0
				seconds := max(time.Since(started).Seconds(), 0.001)
				rates += fmt.Sprintf("%s %.0f files/s %s/s  ", p.host.Name(), float64(n.Files)/seconds, run.Bytes(int64(float64(n.ReadBytes)/seconds)))
			}
		}
		s.Add(read - shown)
		shown = read
		if known {
			s.Count(int(done), int(max(expected, done)), "files")
			if left := expected - done; left > 0 && done > 0 && time.Since(started) > 5*time.Second {
				rates += "about " + run.Duration(time.Duration(float64(time.Since(started))*float64(left)/float64(done))) + " left"
			}
		}
		s.Detail("%s", strings.TrimSpace(rates))
	}
	go func() {
		defer close(stopped)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show()
			case <-stopping:
				show()
				return
			}
		}
	}()
	return func() {
		close(stopping)
		<-stopped
	}
}

// perLook is how many paths are looked at again at once.
const perLook = 256

// settle lists what differs, has both sides look at it once more, and judges.
func settle(ctx context.Context, s *run.Step, all []*comparison) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range all {
		g.Go(func() error {
			var batch []pair
			err := list(ctx, c.production, c.backup, c.differing, func(p pair) error {
				if !p.unequal && p.production.Damage == 0 {
					return nil
				}
				batch = append(batch, p)
				if len(batch) < perLook {
					return nil
				}
				defer func() { batch = batch[:0] }()
				return c.settle(ctx, batch)
			})
			if err != nil {
				return err
			}
			if err := c.settle(ctx, batch); err != nil {
				return err
			}
			return c.settleNotices(ctx)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	n := 0
	for _, c := range all {
		n += len(c.seen)
		slices.SortFunc(c.findings, func(a, b Finding) int { return comparePaths(a.Path, b.Path) })
	}
	s.Detail("%d paths", n)
	return nil
}

// settleNotices judges the folders that could not be listed, and the damaged files that are alike on both sides.
func (c *comparison) settleNotices(ctx context.Context) error {
	var batch []pair
	for _, p := range c.peers() {
		for _, n := range p.notices {
			if n.Folder != "" {
				c.findings = append(c.findings, Finding{Path: append(n.Path, '/'), Kind: Unreadable, Side: p.side, Why: n.Folder})
			} else if !c.seen[string(n.Path)] {
				c.seen[string(n.Path)] = true
				batch = append(batch, pair{path: n.Path, production: wire.Seen{State: wire.Present}, backup: wire.Seen{State: wire.Present}})
			}
		}
	}
	for part := range slices.Chunk(batch, perLook) {
		if err := c.settle(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// settle has all peers look at the paths, and at their bytes where both sides have them.
func (c *comparison) settle(ctx context.Context, batch []pair) error {
	var onlyStat, read []pair
	for _, p := range batch {
		c.seen[string(p.path)] = true
		if p.production.State == wire.Absent || p.backup.State == wire.Absent {
			onlyStat = append(onlyStat, p)
		} else {
			read = append(read, p)
		}
	}
	for _, part := range []struct {
		pairs []pair
		read  bool
	}{{onlyStat, false}, {read, true}} {
		if err := c.look(ctx, part.pairs, part.read); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) look(ctx context.Context, pairs []pair, read bool) error {
	if len(pairs) == 0 {
		return nil
	}
	req := wire.LookRequest{Algorithm: c.Hash, Deep: c.Deep, Limit: c.ReadLimit, Read: read}
	for _, p := range pairs {
		req.Paths = append(req.Paths, p.path)
	}
	g, looking := errgroup.WithContext(ctx)
	answers := make([][]wire.Seen, len(c.peers()))
	for i, p := range c.peers() {
		g.Go(func() (err error) {
			answers[i], err = p.look(ctx, looking, req)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, was := range pairs {
		now := [2]wire.Seen{{State: wire.Absent}, {State: wire.Absent}}
		for j, a := range answers {
			side := 0
			if j >= len(c.production) {
				side = 1
			}
			now[side] = together(now[side], a[i])
		}
		remember(&now[0], was.production)
		remember(&now[1], was.backup)
		if f := judge(was.path, now[0], now[1], c.times()); f.Kind != Identical {
			c.findings = append(c.findings, f)
		}
	}
	return nil
}

// remember adds what the index knows and a look cannot see: what the bytes are where they were not read, and what they
// were before.
func remember(now *wire.Seen, was wire.Seen) {
	if now.State != wire.Present || was.Flags&index.Known == 0 {
		return
	}
	if now.Flags&index.Known == 0 && now.Kind == was.Kind && now.Size == was.Size && now.Mtime == was.Mtime {
		now.Flags, now.Hash, now.Damage = now.Flags|index.Known, was.Hash, was.Damage
	}
	if was.Flags&index.Rotted != 0 && now.Hash == was.Hash {
		now.Flags |= index.Rotted
		now.Was = was.Was
	}
}

func (c *comparison) times() times {
	now := time.Now()
	return times{production: now.Add(c.production[0].skew), backup: now.Add(c.backup[0].skew), lag: c.MaxLag}
}
