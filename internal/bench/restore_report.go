package bench

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// restored makes a part of what the contenders took.
func restored(p *part, o Options) {
	p.about = fmt.Sprintf("%d rows in four tables, some 190 bytes each; five columns of a third of them are masked: an e-mail address, a name, a "+
		"telephone number, a JSON document and a token. One backup, %d rounds, the contenders in turn, each round beginning with another one. "+
		"Every contender finds the dump in memory, files of WAL to use again, and nothing waiting to be written. All hosts are this one machine. Far away is the backup host alone, behind "+
		"%s of round trip, without a limit of bandwidth.", o.Rows, o.Rounds, run.Duration(o.Distance))
	p.how = howToReadRestore
	for _, c := range contenders {
		p.names = append(p.names, name{c.String(), c.what})
	}
	p.ratios = p.samples.compare(restoreRatios)
	costs, resets, runner := p.samples.costs(), resets(), int64(0)
	for _, c := range resets {
		runner = max(runner, int64(spreadOf(p.samples.each(c, func(s sample) float64 { return float64(s.rss) })).Max))
	}
	p.goals = append(p.goals, under("the runner's memory in every reset", runner, runnerGoal, run.Bytes))
	var seconds []named
	times := block{title: "Seconds", header: []string{"what", "median", "lowest–highest"}}
	for _, f := range figures {
		s := p.samples.figure(f)
		seconds = append(seconds, named{f, s})
		times.rows = append(times.rows, append([]string{f}, s.cells()...))
	}
	used := block{title: "What it costs (medians)", header: []string{"contender", "database", "WAL", "over the line", "runner's memory", "CPU s", "PostgreSQL", "sshd, sftp, psql, zstd, the loader, the line", "client", "all others here"}}
	for _, c := range costs {
		used.rows = append(used.rows, c.cells())
	}
	where, steps := p.samples.where(resets)
	p.blocks = []block{times, used, where}
	p.fields = map[string]any{"rows": o.Rows, "rounds": o.Rounds, "figures": seconds, "costs": costs, "reset_steps": steps}
}

// cost is what a contender used, as medians.
type cost struct {
	Contender string  `json:"contender"`
	Database  int64   `json:"database_bytes"`
	WAL       int64   `json:"wal_bytes"`
	Line      int64   `json:"line_bytes"`
	Runner    int64   `json:"runner_rss_bytes,omitempty"`
	Server    float64 `json:"postgresql_cpu_seconds"`
	Hosts     float64 `json:"ssh_cpu_seconds"`
	Client    float64 `json:"client_cpu_seconds"`
	CPU       float64 `json:"cpu_seconds"` // the three together
	Others    float64 `json:"others_cpu_seconds"`
}

func (all samples) costs() (costs []cost) {
	for _, c := range contenders {
		median := func(of func(sample) float64) float64 { return spreadOf(all.each(c.String(), of)).Median }
		costs = append(costs, cost{
			Contender: c.String(),
			Database:  int64(median(func(s sample) float64 { return float64(s.size) })),
			WAL:       int64(median(func(s sample) float64 { return float64(s.wal) })),
			Line:      int64(median(func(s sample) float64 { return float64(s.line) })),
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
	cells := []string{c.Contender}
	for _, bytes := range []int64{c.Database, c.WAL, c.Line, c.Runner} {
		cell := ""
		if bytes > 999 { // else the meter's own
			cell = run.Bytes(bytes)
		}
		cells = append(cells, cell)
	}
	for _, seconds := range []float64{c.CPU, c.Server, c.Hosts, c.Client, c.Others} {
		cells = append(cells, fmt.Sprintf("%.1f", seconds))
	}
	return cells
}

// resets are the contenders that are ours.
func resets() (names []string) {
	for _, c := range contenders {
		if c.name == masked || c.name == direct {
			names = append(names, c.String())
		}
	}
	return names
}

// where is a table of the medians of every step of some resets, those of the first longest first.
func (all samples) where(resets []string) (block, map[string]map[string]float64) {
	table, steps := block{title: "Where the time of staging:reset goes (medians of seconds)", header: append([]string{"step"}, resets...)}, map[string]map[string]float64{}
	for _, c := range resets {
		steps[c] = all.steps(c)
	}
	first := steps[resets[0]]
	longest := func(a, b string) int { return cmp.Or(cmp.Compare(first[b], first[a]), strings.Compare(a, b)) }
	for _, step := range slices.SortedFunc(maps.Keys(first), longest) {
		cells := []string{step}
		for _, c := range resets {
			cells = append(cells, fmt.Sprintf("%.2f", steps[c][step]))
		}
		table.rows = append(table.rows, cells)
	}
	return table, steps
}

// steps are the medians of a reset's steps.
func (all samples) steps(reset string) map[string]float64 {
	seconds, medians := map[string][]float64{}, map[string]float64{}
	for _, s := range all[reset] {
		for _, st := range s.steps {
			seconds[st.Name] = append(seconds[st.Name], st.Seconds)
		}
	}
	for name, rounds := range seconds {
		medians[name] = spreadOf(rounds).Median
	}
	return medians
}

// summary is a run's figures in a few words.
func (s *sample) summary(contender string) string {
	var words []string
	if s.cuts > 0 {
		words = append(words, fmt.Sprintf("cut %d times", s.cuts))
	}
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
	return look(append([]program{{"PostgreSQL", version + " with " + settings}}, programs(ctx, "ssh -V", "zstd -V")...)...), err
}

const howToReadRestore = `Seconds are wall clock on a machine that does everything at once, so more cores help whoever works in parallel. "CPU s" is what
the processes themselves used, the sum of the three columns after it; "all others here" is the work of everybody else meanwhile,
the lab's idle production included: where it is not small, repeat the run. WAL of staging:reset is that of the whole target; of
the others that of what is timed. "Over the line" is what passed to and from a backup host far away; a cut loses what is on its way. Memory is
the runner's peak resident set.

What is not reached is not for want of waiting: both processors are busy throughout. The work of pg_restore is in every
contender; beside it a reset unpacks, samples and masks the rows, sends them on to psql, and reads everything back to search
it, which the column "client" and that of sshd and psql show. On a machine with more processors, or with staging on another one
than the runner, that work is done beside PostgreSQL's; here it is done in its place. Through the runner the rows of masked
tables are encrypted once more, by sshd and by us: so what can be masked in flight never gets to staging's host as it was.
transfer: direct saves that.

Tried, and not kept: to search a table as soon as an index or a key leaves a processor idle (reading one table keeps two of them
busy), and to build the indexes of a table while others load (pg_restore -j2 itself takes 0.96 to 1.16 times as long when it does
both at once as when it does one after the other).

The cuts come each time another eleventh of the bytes has been on the line. Dialling and logging in again takes ten round trips,
1.6 s far away, in which the load uses up what the line brings in a fraction of one: what is read ahead hides the pause where
cuts are further apart than that.
`
