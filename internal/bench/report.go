package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rehearsal/internal/run"
)

// part is what came of one benchmark: a part of the report.
type part struct {
	title   string
	command string // what repeats it
	began   time.Time
	machine machine
	about   string // what was measured
	names   []name
	samples samples
	ratios  []comparison
	goals   []goal
	blocks  []block
	how     string         // to read it
	fields  map[string]any // of the part in the JSON object
}

// name is a contender's, with a sentence for who reads the report.
type name struct{ name, what string }

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
	if n == 0 {
		return spread{}
	}
	return spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1], Rounds: rounds}
}

// cells are a table's: the median, the lowest and the highest.
func (s spread) cells() []string {
	if len(s.Rounds) == 0 {
		return []string{"not measured", ""}
	}
	return []string{fmt.Sprintf("%.2f", s.Median), fmt.Sprintf("%.2f–%.2f", s.Min, s.Max)}
}

// samples are the runs of every contender, in the order of the rounds. Where a contender does several things, each has
// a name of its own.
type samples map[string][]sample

// figure is the spread of a figure's seconds: of no rounds where nobody was timed by that name.
func (all samples) figure(name string) spread {
	var rounds []float64
	for _, of := range all {
		for _, s := range of {
			if seconds, ok := s.seconds[name]; ok {
				rounds = append(rounds, seconds)
			}
		}
	}
	return spreadOf(rounds)
}

func (all samples) each(contender string, of func(sample) float64) (rounds []float64) {
	for _, s := range all[contender] {
		rounds = append(rounds, of(s))
	}
	return rounds
}

// quiet is the share of the processors that others may use before the report warns: an ordinary idle machine's.
const quiet = 0.1

// shared is the highest share that others had while a contender ran.
func (all samples) shared() (share float64) {
	for _, of := range all {
		for _, s := range of {
			share = max(share, s.shared)
		}
	}
	return share
}

// named is a figure in the JSON object.
type named struct {
	Name string `json:"name"`
	spread
}

// ratio is what the report compares: the seconds of one figure in those of another. most and least are what is to be
// reached, 0 where there is nothing.
type ratio struct {
	of, to      string
	most, least float64
}

// comparison is a ratio: of the medians, and the lowest and highest within a round, whose two runs met the same machine
// as far as two runs can.
type comparison struct {
	Of      string  `json:"of"`
	To      string  `json:"to"`
	Ratio   float64 `json:"ratio"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
	Goal    string  `json:"goal,omitempty"`
	Reached *bool   `json:"reached,omitempty"` // nil where there is no goal, or one of the two was not measured
}

func (all samples) compare(ratios []ratio) (done []comparison) {
	for _, r := range ratios {
		c := comparison{Of: r.of, To: r.to, Goal: r.goal()}
		of, to := all.figure(r.of), all.figure(r.to)
		if len(of.Rounds) > 0 && len(to.Rounds) > 0 {
			c.Ratio = of.Median / to.Median
			var rounds []float64
			for i := range min(len(of.Rounds), len(to.Rounds)) {
				rounds = append(rounds, of.Rounds[i]/to.Rounds[i])
			}
			c.Min, c.Max = slices.Min(rounds), slices.Max(rounds)
			if reached := (r.most == 0 || c.Ratio <= r.most) && c.Ratio >= r.least; c.Goal != "" {
				c.Reached = &reached
			}
		}
		done = append(done, c)
	}
	return done
}

func (r ratio) goal() string {
	switch {
	case r.most > 0:
		return fmt.Sprintf("at most %.2f", r.most)
	case r.least > 0:
		return fmt.Sprintf("at least %.2f", r.least)
	}
	return ""
}

// goal is a figure to reach, and what was reached.
type goal struct {
	What    string `json:"what"`
	Goal    string `json:"goal"`
	Value   string `json:"value"`
	Reached *bool  `json:"reached,omitempty"` // nil where it was not measured
}

// under is the goal that a value be below a limit.
func under[N int64 | float64](what string, value, limit N, show func(N) string) goal {
	reached := value < limit
	return goal{what, "below " + show(limit), show(value), &reached}
}

func verdict(goal string, reached *bool) string {
	switch {
	case goal == "":
		return ""
	case reached == nil:
		return goal + ": not measured"
	case *reached:
		return goal + ": reached"
	}
	return goal + ": NOT reached"
}

// toReach are the part's figures to reach, one a line. A trial that both figures of a ratio are of is named once.
func (p *part) toReach() (lines []string, missed int) {
	all := slices.Clone(p.goals)
	for _, c := range p.ratios {
		if c.Goal != "" {
			trial, to, within := strings.Cut(c.To, ": ")
			if !within || !strings.HasPrefix(c.Of, trial+": ") {
				to = c.To
			}
			all = append(all, goal{c.Of + " against " + to, c.Goal, fmt.Sprintf("%.2f times as long", c.Ratio), c.Reached})
		}
	}
	for _, g := range all {
		line := g.What + ": " + g.Value + "; " + verdict(g.Goal, g.Reached)
		if g.Reached == nil {
			line = g.What + ": " + verdict(g.Goal, nil)
		}
		if g.Reached == nil || !*g.Reached {
			missed++
		}
		lines = append(lines, line)
	}
	return lines, missed
}

// block is one table of the report, for a terminal or for Markdown.
type block struct {
	title  string
	header []string
	rows   [][]string
}

func (p *part) tables() []block {
	ratios := block{title: "Ratios", header: []string{"this", "to this", "ratio", "within a round", "to reach"}}
	for _, c := range p.ratios {
		cells := []string{c.Of, c.To, fmt.Sprintf("%.2f", c.Ratio), fmt.Sprintf("%.2f–%.2f", c.Min, c.Max), verdict(c.Goal, c.Reached)}
		if c.Ratio == 0 {
			cells[2], cells[3] = "", ""
		}
		ratios.rows = append(ratios.rows, cells)
	}
	return append(slices.Clip(p.blocks[:1]), append([]block{ratios}, p.blocks[1:]...)...)
}

// show prints the part and sets its field of the JSON object.
func (p *part) show(t *run.Target) {
	for _, b := range p.tables() {
		t.Printf("\n%s: %s", p.title, b.title)
		t.Table(b.header, b.rows)
	}
	t.Printf("\n%s", p.about)
	p.fields["machine"], p.fields["ratios"], p.fields["goals"] = p.machine, p.ratios, p.goals
	t.Set(strings.ToLower(p.title), p.fields)
	if share := p.samples.shared(); share > quiet {
		t.Warn("%s", busy(share))
	}
	lines, missed := p.toReach()
	for _, line := range lines {
		t.Printf("%s", line)
	}
	if missed > 0 {
		t.Warn("%s: %d of %d figures are not reached", p.title, missed, len(lines))
	}
}

func busy(share float64) string {
	return fmt.Sprintf("others used up to %.0f %% of the processors meanwhile: seconds and ratios are not to be relied on, CPU seconds are", 100*share)
}
