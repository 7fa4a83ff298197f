package bench

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rehearsal/internal/run"
)

// report is what came of all rounds.
type report struct {
	rows, rounds int
	began        time.Time
	machine      machine
	samples      map[string][]sample // by contender, in the order of the rounds
}

// spread is one number of every round.
type spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

func spreadOf(rounds []float64) spread {
	sorted := slices.Sorted(slices.Values(rounds))
	n := len(sorted)
	return spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1], Rounds: rounds}
}

// figure is the spread of a figure's seconds.
func (r *report) figure(name string) spread {
	var rounds []float64
	for _, f := range figures {
		if f.name == name {
			rounds = r.each(f.contender, func(s sample) float64 { return s.seconds[name] })
		}
	}
	return spreadOf(rounds)
}

func (r *report) each(contender string, of func(sample) float64) (rounds []float64) {
	for _, s := range r.samples[contender] {
		rounds = append(rounds, of(s))
	}
	return rounds
}

// comparison is the ratio of two figures: of their medians, and the lowest and highest within a round, whose two runs
// met the same machine as far as two runs can.
type comparison struct {
	Of      string  `json:"of"`
	To      string  `json:"to"`
	Ratio   float64 `json:"ratio"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
	Limit   float64 `json:"limit,omitempty"`
	Reached *bool   `json:"reached,omitempty"`
}

func (r *report) comparisons() (all []comparison) {
	for _, c := range ratios {
		of, to := r.figure(c.of), r.figure(c.to)
		var rounds []float64
		for i := range of.Rounds {
			rounds = append(rounds, of.Rounds[i]/to.Rounds[i])
		}
		s := spreadOf(rounds)
		done := comparison{Of: c.of, To: c.to, Ratio: of.Median / to.Median, Min: s.Min, Max: s.Max, Limit: c.limit}
		if c.limit > 0 {
			reached := done.Ratio <= c.limit
			done.Reached = &reached
		}
		all = append(all, done)
	}
	return all
}

func (c comparison) verdict() string {
	switch {
	case c.Reached == nil:
		return ""
	case *c.Reached:
		return fmt.Sprintf("%.2f: reached", c.Limit)
	}
	return fmt.Sprintf("%.2f: NOT reached", c.Limit)
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

func (r *report) costs() (all []cost) {
	for _, c := range contenders {
		median := func(of func(sample) float64) float64 { return spreadOf(r.each(c.name, of)).Median }
		all = append(all, cost{
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
	return all
}

// quiet is the share of the processors that others may use before the report warns: an ordinary idle machine's.
const quiet = 0.1

// shared is the highest share that others had while a contender ran.
func (r *report) shared() (share float64) {
	for _, c := range contenders {
		for _, s := range r.samples[c.name] {
			share = max(share, s.shared)
		}
	}
	return share
}

// steps are the medians of a reset's steps, longest first.
func (r *report) steps() (all []step) {
	seconds := map[string][]float64{}
	for _, s := range r.samples[masked] {
		for _, st := range s.steps {
			seconds[st.Name] = append(seconds[st.Name], st.Seconds)
		}
	}
	for name, rounds := range seconds {
		all = append(all, step{name, spreadOf(rounds).Median})
	}
	slices.SortFunc(all, func(a, b step) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), strings.Compare(a.Name, b.Name))
	})
	return all
}

// block is one table of the report, for a terminal or for Markdown.
type block struct {
	title  string
	header []string
	rows   [][]string
}

func (r *report) blocks() []block {
	times := block{title: "seconds", header: []string{"what", "median", "lowest–highest"}}
	for _, f := range figures {
		s := r.figure(f.name)
		times.rows = append(times.rows, []string{f.name, fmt.Sprintf("%.1f", s.Median), fmt.Sprintf("%.1f–%.1f", s.Min, s.Max)})
	}
	compared := block{title: "ratios", header: []string{"this", "to this", "ratio", "within a round", "to reach"}}
	for _, c := range r.comparisons() {
		compared.rows = append(compared.rows, []string{c.Of, c.To, fmt.Sprintf("%.2f", c.Ratio), fmt.Sprintf("%.2f–%.2f", c.Min, c.Max), c.verdict()})
	}
	used := block{title: "what it costs (medians)", header: []string{"contender", "database", "WAL", "runner's memory", "CPU s", "PostgreSQL", "sshd, psql, gzip", "client", "all others here"}}
	for _, c := range r.costs() {
		memory := ""
		if c.Runner > 0 {
			memory = run.Bytes(c.Runner)
		}
		used.rows = append(used.rows, []string{c.Contender, run.Bytes(c.Database), run.Bytes(c.WAL), memory,
			fmt.Sprintf("%.1f", c.CPU), fmt.Sprintf("%.1f", c.Server), fmt.Sprintf("%.1f", c.Hosts), fmt.Sprintf("%.1f", c.Client), fmt.Sprintf("%.1f", c.Others)})
	}
	where := block{title: "where the time of staging:reset goes (medians)", header: []string{"step", "seconds"}}
	for _, s := range r.steps() {
		where.rows = append(where.rows, []string{s.Name, fmt.Sprintf("%.2f", s.Seconds)})
	}
	return []block{times, compared, used, where}
}

// summary is a run's figures in a few words.
func (s *sample) summary(contender string) string {
	var words []string
	for _, f := range figures {
		if seconds, ok := s.seconds[f.name]; ok {
			name := strings.TrimPrefix(strings.TrimPrefix(f.name, contender), ", ")
			words = append(words, strings.TrimSpace(fmt.Sprintf("%s %.1f s", name, seconds)))
		}
	}
	return strings.Join(words, ", ")
}

// show prints the report and sets the fields of the JSON object.
func (r *report) show(t *run.Target) {
	for _, b := range r.blocks() {
		t.Printf("\n%s", b.title)
		t.Table(b.header, b.rows)
	}
	t.Printf("\n%d rows, %d rounds in turn; no caches were dropped, every contender after the first finds the dump in memory", r.rows, r.rounds)
	type named struct {
		Name string `json:"name"`
		spread
	}
	var seconds []named
	for _, f := range figures {
		seconds = append(seconds, named{f.name, r.figure(f.name)})
	}
	comparisons := r.comparisons()
	t.Set("rows", r.rows)
	t.Set("rounds", r.rounds)
	t.Set("machine", r.machine)
	t.Set("figures", seconds)
	t.Set("ratios", comparisons)
	t.Set("costs", r.costs())
	t.Set("reset_steps", r.steps())
	if share := r.shared(); share > quiet {
		t.Warn("others used up to %.0f %% of the processors meanwhile: seconds and ratios are not to be relied on, CPU seconds are", 100*share)
	}
	for _, c := range comparisons {
		if c.Reached != nil && !*c.Reached {
			t.Warn("not reached: %s takes %.2f times what %s takes; the figure to reach is %.2f", c.Of, c.Ratio, c.To, c.Limit)
		}
	}
}

// write writes the report as Markdown.
func (r *report) write(t *run.Target, path string) error {
	var b strings.Builder
	command := fmt.Sprintf("mage bench -rows=%d -rounds=%d -write", r.rows, r.rounds)
	fmt.Fprintf(&b, "# Benchmarks\n\nWritten by `%s` on %s. Run it on your machine: the ratios travel, the seconds do not.\n\n", command, r.began.Format(time.DateOnly))
	b.WriteString(markdown(block{header: []string{"machine", ""}, rows: r.machine.rows()}))
	fmt.Fprintf(&b, "\n%d rows in four tables, about 170 bytes each; five columns of a third of them are masked: an e-mail address, a name, a "+
		"telephone number, a JSON document and a token. One backup, %d rounds, the contenders in turn, each round beginning with another one. "+
		"Caches are not dropped, so every contender finds the dump in memory. All hosts are this one machine: what is measured is work, not distance.\n\n", r.rows, r.rounds)
	for _, c := range contenders {
		fmt.Fprintf(&b, "- **%s** %s\n", c.name, c.what)
	}
	b.WriteString("\n")
	if share := r.shared(); share > quiet {
		fmt.Fprintf(&b, "Others used up to %.0f %% of the processors meanwhile: seconds and ratios are not to be relied on, CPU seconds are.\n\n", 100*share)
	}
	for _, c := range r.comparisons() {
		if c.Reached == nil {
			continue
		}
		not := ""
		if !*c.Reached {
			not = "**not** "
		}
		fmt.Fprintf(&b, "- To reach: %s within %.2f times %s. It takes %.2f times, so this is %sreached.\n", c.Of, c.Limit, c.To, c.Ratio, not)
	}
	for _, table := range r.blocks() {
		fmt.Fprintf(&b, "\n## %s\n\n%s", strings.ToUpper(table.title[:1])+table.title[1:], markdown(table))
	}
	b.WriteString("\n" + howToRead)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	t.Printf("\n%s is written", path)
	return nil
}

func markdown(b block) string {
	var out strings.Builder
	line := func(cells []string) { out.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(b.header)
	line(slices.Repeat([]string{"---"}, len(b.header)))
	for _, row := range b.rows {
		line(row)
	}
	return out.String()
}

const howToRead = `Seconds are wall clock on a machine that does everything at once, so more cores help whoever works in parallel. "CPU s" is what
the processes themselves used, the sum of the three columns after it; "all others here" is the work of everybody else meanwhile,
the lab's idle production included: where it is not small, repeat the run. WAL of staging:reset is that of the whole target; of
the others that of what is timed. Memory is the runner's peak resident set.
`
