package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"rehearsal/internal/run"
)

// catch is what a peer found of the planted faults.
type catch struct {
	Peer   string   `json:"peer"`
	Found  int      `json:"found"`
	Of     int      `json:"of"`
	False  int      `json:"false"` // sound files that it reports
	Missed []string `json:"missed"`
}

// findFaults has every peer search the same two trees, for which it remembers nothing.
func (s *site) findFaults(ctx context.Context, t *run.Target, p *part, _ Options) error {
	sides := s.sides("faults")
	if err := (forest{min: 8 << 10, max: 40 << 10}).plant(ctx, sides, minFiles); err != nil {
		return err
	}
	names, err := plantFaults(sides)
	if err != nil {
		return err
	}
	table := block{title: "What they find", header: []string{"contender", "planted faults found", "sound files reported", "missed"}}
	var all []catch
	for _, peer := range peers {
		if peer.missing() || !slices.Contains([]string{ours, rsyncAll, rsyncRun, rclone, hashdeep}, peer.name) {
			continue
		}
		err := t.Step(ctx, "planted faults: "+peer.name, func(ctx context.Context, step *run.Step) error {
			found, err := peer.compare(ctx, s, sides, false, minFiles)
			c := caught(peer.name, names, found.found)
			all = append(all, c)
			table.rows = append(table.rows, []string{c.Peer, fmt.Sprintf("%d of %d", c.Found, c.Of), fmt.Sprint(c.False), strings.Join(c.Missed, "; ")})
			step.Detail("%d of %d", c.Found, c.Of)
			return err
		})
		if err != nil {
			return err
		}
	}
	p.blocks, p.fields["faults"] = append(p.blocks, table), all
	return nil
}

// caught counts which of the planted names are in what a peer says. A fault that was missed several times says so.
func caught(peer string, names map[string]string, text string) catch {
	c := catch{Peer: peer, Missed: []string{}}
	missed := map[string]int{}
	for tag, what := range names {
		found := strings.Contains(text, tag)
		switch {
		case what == "" && found:
			c.False++
		case what == "":
		case found:
			c.Of, c.Found = c.Of+1, c.Found+1
		default:
			c.Of++
			missed[what]++
		}
	}
	for _, f := range faults {
		if n := missed[f.what]; n > 1 {
			c.Missed = append(c.Missed, fmt.Sprintf("%d × %s", n, f.what))
		} else if n == 1 {
			c.Missed = append(c.Missed, f.what)
		}
	}
	return c
}
