package bench

import (
	"fmt"
	"slices"

	"rehearsal/internal/run"
)

// compared makes a part of what the peers took.
func compared(p *part, o Options) {
	p.about = fmt.Sprintf("Two trees of small images (8 to 40 KiB, %d of them, 50 in a folder) and of large ones (1 to 4 MiB, %d), each with a true copy on "+
		"another host. %d rounds, the contenders in turn, each round beginning with another one. Cold is after the page cache was dropped, with what it "+
		"knows of names; warm is after every byte was read. Far away is behind %s of round trip, without a limit of bandwidth. Both hosts are this one "+
		"machine, with one disk and its processors for both sides and the runner.", o.Files, max(o.Files/100, 4), o.Rounds, run.Duration(o.Distance))
	if !o.Cold {
		p.about += " Nothing was measured cold, because only root may drop the page cache."
	}
	p.how = howToReadImages
	for _, peer := range peers {
		what := peer.what
		if peer.missing() {
			what = "is **missing**: " + peer.tool + " is not installed here."
		}
		p.names = append(p.names, name{peer.name, what})
	}
	p.ratios = p.samples.compare(imageRatios)
	var figures []named
	times := block{title: "Seconds", header: []string{"trial", "contender", "median", "lowest–highest", "CPU s", "all others here"}}
	row := func(forest string, tr trial, peer, figure string) {
		s := p.samples.figure(in(forest, tr.name, figure))
		cells := append([]string{in(forest, tr.name), figure}, s.cells()...)
		used := p.samples[in(forest, tr.name, figure)]
		if len(used) > 0 {
			cpu := p.samples.each(in(forest, tr.name, figure), func(s sample) float64 { return (s.client + s.hosts).Seconds() })
			others := p.samples.each(in(forest, tr.name, figure), func(s sample) float64 { return s.others.Seconds() })
			cells = append(cells, fmt.Sprintf("%.2f", spreadOf(cpu).Median), fmt.Sprintf("%.2f", spreadOf(others).Median))
		}
		times.rows = append(times.rows, slices.Concat(cells, make([]string, 6-len(cells))))
		figures = append(figures, named{in(forest, tr.name, figure), s})
	}
	for _, w := range woods {
		for _, tr := range w.trials {
			for _, peer := range tr.peers {
				row(w.name, tr, peer, peer)
				if tr.state == known && !tr.far && (peer == ours || peer == oursBare) {
					row(w.name, tr, peer, peer+", "+reading1)
				}
			}
		}
	}
	p.blocks = slices.Insert(p.blocks, 0, times)
	p.fields["files"], p.fields["rounds"], p.fields["figures"] = o.Files, o.Rounds, figures
}

const howToReadImages = `Seconds are wall clock, of the whole command: what images:verify takes includes its start, its connections and the search for its
agent on both hosts; "walk and read" is from when the first agent begins to walk to the last one's last word, its index written. "CPU s" is what the command and what the hosts ran for it used; "all others here"
is everybody else meanwhile, the kernel's own threads and, far away, the proxy included. rclone drops what it has read from the page cache, so that it always
reads cold. Sound files that are reported have odd names: a line feed, invalid UTF-8. Memory is the peak resident set.

Far away, what is left of our time whatever the files is twelve round trips: seven until we are logged in, one for a session, one
for the home directory, two to start the agent and to hear of it, one to end it. A cold first run reads as fast as eight readers get it from this
disk. Beside a bare walk the second run writes the index of the next.
`
