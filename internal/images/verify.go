package images

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/deploy"
	"rehearsal/internal/host"
	"rehearsal/internal/images/wire"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Options are the flags of images:verify.
type Options struct {
	Full bool // read every byte again, whatever the indexes remember
	Deep bool // decode the pixels of what is read, and read what was not decoded before

	refer bool // compare with the rows that refer to the images
}

// Verify compares the stores, all at once, prints what it found and sets the fields of the JSON object. An error has
// code Differ where there is a discrepancy, Incomplete where there is none but something could not be compared, Unfit
// where a folder is not there or production's is empty. What an interrupted run has read is not read again by the next.
func Verify(ctx context.Context, t *run.Target, stores []*inventory.ImageStore, o Options) error {
	o.refer = true
	all, err := compare(ctx, t, stores, o)
	if err != nil {
		return err
	}
	return report(t, all)
}

// compare finds what is not identical. Its agents have ended when it returns, and the lists of paths are in their places
// or as they were.
func compare(ctx context.Context, t *run.Target, stores []*inventory.ImageStore, o Options) (all []*comparison, err error) {
	life, end := context.WithCancel(ctx)
	defer end()
	w := newWalks(life)
	defer func() {
		w.end()
		for _, c := range all {
			c.close()
			c.found.list.discard()
		}
	}()
	steps := []run.Part{
		run.Named("connect", func(ctx context.Context, s *run.Step) (err error) {
			all, err = connect(life, ctx, t, w, stores, o)
			return err
		}),
		run.Named("walk and read", func(ctx context.Context, s *run.Step) error { return scan(t, s, w, all) }),
		run.Named("look again", func(ctx context.Context, s *run.Step) error { return settle(ctx, s, all) }),
	}
	if o.refer && slices.ContainsFunc(stores, func(s *inventory.ImageStore) bool { return s.References != nil }) {
		steps = append(steps, run.Named("references", func(ctx context.Context, s *run.Step) error { return refer(ctx, s, all) }))
	}
	if err := t.Steps(ctx, steps...); err != nil {
		return all, err
	}
	for _, c := range all {
		if err := c.found.end(); err != nil {
			return all, err
		}
	}
	return all, nil
}

// comparison is one store that is being compared.
type comparison struct {
	*inventory.ImageStore
	Options
	production, backup []*peer
	differing          []wire.Bucket
	walked             time.Duration   // from when the first agent began to the last one's last word
	references         *references     // nil: nothing is said to refer to the images
	damaged            map[string]bool // paths that an index calls so, and that were not looked at again
	found              findings
}

func (c *comparison) peers() []*peer { return slices.Concat(c.production, c.backup) }

func (c *comparison) close() {
	var closing sync.WaitGroup
	for _, p := range c.peers() {
		closing.Go(p.close)
	}
	closing.Wait()
}

// walks are the scans of all peers. Each begins as soon as its host is reached, so that a host that is far away has the
// others read while it is logged in to. The first that fails ends all of them.
type walks struct {
	*errgroup.Group
	ctx    context.Context
	cancel context.CancelFunc
}

func newWalks(life context.Context) *walks {
	ctx, cancel := context.WithCancel(life)
	w := &walks{cancel: cancel}
	w.Group, w.ctx = errgroup.WithContext(ctx)
	return w
}

// end ends what still walks.
func (w *walks) end() {
	w.cancel()
	_ = w.Wait()
}

// connect dials every host once, has the agents begin where images are, and tries the queries of references. Agents
// that are started live as long as life.
func connect(life, ctx context.Context, t *run.Target, w *walks, stores []*inventory.ImageStore, o Options) (all []*comparison, err error) {
	for _, store := range stores {
		c := &comparison{ImageStore: store, Options: o, damaged: map[string]bool{}, found: findings{n: counts{}}}
		all = append(all, c)
		if c.found.list, err = newPathList(store.Name); err != nil {
			return all, err
		}
		if o.refer && store.References != nil {
			if c.references, err = readReferences(store.References); err != nil {
				return all, err
			}
		}
		seed := rand.Uint64()
		side := func(side Side, trees []inventory.Tree) (peers []*peer) {
			for _, tr := range trees {
				peers = append(peers, &peer{side: side, at: tr, life: life, warn: t.Warn, store: store.Name, request: request(store, o, seed),
					folders: newQueue(), greeted: make(chan struct{})})
			}
			return peers
		}
		c.production, c.backup = side(Production, c.Production), side(Backup, c.Backup)
	}
	hosts, err := reach(ctx, t, w, all)
	if err != nil {
		return all, err
	}
	for _, c := range all {
		if c.references == nil {
			continue
		}
		if err := c.references.try(ctx, hosts[c.References.Database.Production.Host.Name], c.References); err != nil {
			return all, fmt.Errorf("trying the query of references: %w", err)
		}
	}
	return all, nil
}

// reach dials all hosts at once, and returns when all agents have begun.
func reach(ctx context.Context, t *run.Target, w *walks, all []*comparison) (map[string]*host.Host, error) {
	wanted, peers := map[string]*inventory.Host{}, map[string][]*peer{}
	for _, c := range all {
		for _, p := range c.peers() {
			h := p.at.Host
			wanted[h.Name], peers[h.Name] = h, append(peers[h.Name], p)
		}
		if c.references != nil {
			h := c.References.Database.Production.Host
			wanted[h.Name] = h
		}
	}
	ready := sync.OnceValue(func() deploy.Ready { return deploy.Find(ctx) })
	go ready()
	var mu sync.Mutex
	hosts := map[string]*host.Host{}
	g, dialling := errgroup.WithContext(w.ctx)
	for name, spec := range wanted {
		g.Go(func() error {
			h, err := host.DialFor(dialling, t, spec)
			if err != nil {
				return err
			}
			mu.Lock()
			hosts[name] = h
			mu.Unlock()
			if len(peers[name]) == 0 {
				return nil
			}
			agent := deploy.Expect(h, ready())
			for _, p := range peers[name] {
				p.begin(w, h, agent)
			}
			for _, p := range peers[name] {
				if err := p.wait(dialling); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	if err != nil && w.ctx.Err() != nil { // one of the walks failed, which ended all
		err = cmp.Or(w.Wait(), err)
	}
	return hosts, err
}

// scan has every folder walked and read at once, and compares the digests meanwhile.
func scan(t *run.Target, s *run.Step, w *walks, all []*comparison) error {
	stop := follow(s, all)
	defer stop()
	for _, c := range all {
		w.Go(func() (err error) {
			c.differing, err = differing(c.production, c.backup)
			return err
		})
	}
	if err := w.Wait(); err != nil {
		return err
	}
	for _, c := range all {
		for _, p := range c.peers() {
			c.walked = max(c.walked, time.Since(p.began))
			p.remark(t)
		}
		if summed(c.production).Files == 0 {
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
	if p.hello.Resumed {
		t.Printf("%s: going on where a run before was interrupted", p)
	}
	if skew := p.skew.Abs(); skew > 5*time.Second {
		t.Warn("the clock of %s is %s off ours; ages are judged by its own", p.host.Name(), run.Duration(skew))
	}
}
