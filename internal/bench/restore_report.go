package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// restored makes a part of what the contenders took.
func restored(p *part, o Options) {
	p.about = fmt.Sprintf("%d rows in four tables, about 170 bytes each; five columns of a third of them are masked: an e-mail address, a name, a "+
		"telephone number, a JSON document and a token. One backup, %d rounds, the contenders in turn, each round beginning with another one. "+
		"Caches are not dropped, so every contender finds the dump in memory. All hosts are this one machine: what is measured is work, not distance.", o.Rows, o.Rounds)
	p.how = howToReadRestore
	for _, c := range contenders {
		p.names = append(p.names, name{c.name, c.what})
	}
	p.ratios = p.samples.compare(restoreRatios)
	var seconds []named
	times := block{title: "Seconds", header: []string{"what", "median", "lowest–highest"}}
	for _, f := range figures {
		s := p.samples.figure(f)
		seconds = append(seconds, named{f, s})
		times.rows = append(times.rows, append([]string{f}, s.cells()...))
	}
	costs, steps := p.samples.costs(), p.samples.steps()
	used := block{title: "What it costs (medians)", header: []string{"contender", "database", "WAL", "runner's memory", "CPU s", "PostgreSQL", "sshd, psql, gzip", "client", "all others here"}}
	for _, c := range costs {
		used.rows = append(used.rows, c.cells())
	}
	where := block{title: "Where the time of staging:reset goes (medians)", header: []string{"step", "seconds"}}
	for _, s := range steps {
		where.rows = append(where.rows, []string{s.Name, fmt.Sprintf("%.2f", s.Seconds)})
	}
	p.blocks = []block{times, used, where}
	p.fields = map[string]any{"rows": o.Rows, "rounds": o.Rounds, "figures": seconds, "costs": costs, "reset_steps": steps}
}

// cost is what a contender used, as medians.
type cost struct {
	Contender string  `json:"contender"`
	Database  int64   `json:"database_bytes"`
	WAL       int64   `json:"wal_bytes"`
	Runner    int64   `json:"runner_rss_bytes,omitempty"`
	Server    float64 `json:"postgresql_cpu_seconds"`
	Hosts     float64 `json:"ssh_cpu_seconds"`
	Client    float64 `json:"client_cpu_seconds"`
	CPU       float64 `json:"cpu_seconds"` // the three together
	Others    float64 `json:"others_cpu_seconds"`
}

func (all samples) costs() (costs []cost) {
	for _, c := range contenders {
		median := func(of func(sample) float64) float64 { return spreadOf(all.each(c.name, of)).Median }
		costs = append(costs, cost{
			Contender: c.name,
			Database:  int64(median(func(s sample) float64 { return float64(s.size) })),
			WAL:       int64(median(func(s sample) float64 { return float64(s.wal) })),
			Runner:    int64(median(func(s sample) float64 { return float64(s.rss) })),
			Server:    median(func(s sample) float64 { return s.server.Seconds() }),
			Hosts:     median(func(s sample) float64 { return s.hosts.Seconds() }),
			Client:    median(func(s sample) float64 { return s.client.Seconds() }),
			CPU:       median(func(s sample) float64 { return (s.server + s.hosts + s.client).Seconds() }),
			Others:    median(func(s sample) float64 { return s.others.Seconds() }),
		})
	}
	return costs
}

func (c cost) cells() []string {
	memory := ""
	if c.Runner > 0 {
		memory = run.Bytes(c.Runner)
	}
	cells := []string{c.Contender, run.Bytes(c.Database), run.Bytes(c.WAL), memory}
	for _, seconds := range []float64{c.CPU, c.Server, c.Hosts, c.Client, c.Others} {
		cells = append(cells, fmt.Sprintf("%.1f", seconds))
	}
	return cells
}

// steps are the medians of a reset's steps, longest first.
func (all samples) steps() (steps []step) {
	seconds := map[string][]float64{}
	for _, s := range all[masked] {
		for _, st := range s.steps {
			seconds[st.Name] = append(seconds[st.Name], st.Seconds)
		}
	}
	for name, rounds := range seconds {
		steps = append(steps, step{name, spreadOf(rounds).Median})
	}
	slices.SortFunc(steps, func(a, b step) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), strings.Compare(a.Name, b.Name))
	})
	return steps
}

// summary is a run's figures in a few words.
func (s *sample) summary(contender string) string {
	var words []string
	for _, f := range figures {
		if seconds, ok := s.seconds[f]; ok {
			name := strings.TrimPrefix(strings.TrimPrefix(f, contender), ", ")
			words = append(words, strings.TrimSpace(fmt.Sprintf("%s %.1f s", name, seconds)))
		}
	}
	return strings.Join(words, ", ")
}

func lookAtDatabase(ctx context.Context, c *lab.Cluster) (machine, error) {
	version, err := c.SQL(ctx, "postgres", "show server_version;")
	if err != nil {
		return machine{}, err
	}
	settings, err := c.SQL(ctx, "postgres", `select string_agg(name || '=' || current_setting(name), ', ' order by name) from pg_settings
		where name in ('fsync', 'full_page_writes', 'maintenance_work_mem', 'max_wal_size', 'shared_buffers', 'synchronous_commit', 'wal_level');`)
	return look(program{"PostgreSQL", version + " with " + settings}), err
}

const howToReadRestore = `Seconds are wall clock on a machine that does everything at once, so more cores help whoever works in parallel. "CPU s" is what
the processes themselves used, the sum of the three columns after it; "all others here" is the work of everybody else meanwhile,
the lab's idle production included: where it is not small, repeat the run. WAL of staging:reset is that of the whole target; of
the others that of what is timed. Memory is the runner's peak resident set.
`
