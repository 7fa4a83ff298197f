package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/run"
)

func TestTheMedianOfAnEvenNumberOfRoundsIsBetweenTheMiddleTwo(t *testing.T) {
	for want, rounds := range map[float64][]float64{2: {3, 1, 2}, 2.5: {4, 1, 2, 3}, 7: {7}} {
		if s := spreadOf(rounds); s.Median != want {
			t.Errorf("%v: median %v, want %v", rounds, s.Median, want)
		}
	}
	if s := spreadOf([]float64{3, 1, 2}); s.Min != 1 || s.Max != 3 || s.Rounds[0] != 3 {
		t.Errorf("%+v: the rounds stay in their order", s)
	}
}

// timed are the samples of one round of the restore.
func timed(seconds map[string]float64) samples {
	only := func(names ...string) []sample {
		own := map[string]float64{}
		for _, name := range names {
			own[name] = seconds[name]
		}
		return []sample{{seconds: own}}
	}
	return samples{plain: only(plain), masked: only(maskedLoad, maskedProof, maskedWhole), updated: only(updated)}
}

func TestAReportSaysPlainlyWhetherAFigureIsReached(t *testing.T) {
	all := timed(map[string]float64{plain: 10, maskedLoad: 12.5, maskedProof: 16, maskedWhole: 20, updated: 30})
	all["walk"] = []sample{{seconds: map[string]float64{"walk": 5}}}
	ratios := append(restoreRatios[:5:5], ratio{of: plain, to: "walk", least: 2}, ratio{of: plain, to: "walk", least: 2.1}, ratio{of: "rclone", to: plain, least: 1})
	var verdicts []string
	for _, c := range all.compare(ratios) {
		verdicts = append(verdicts, verdict(c.Goal, c.Reached))
	}
	want := "at most 1.25: reached;at most 1.50: NOT reached;;;;at least 2.00: reached;at least 2.10: NOT reached;at least 1.00: not measured"
	if got := strings.Join(verdicts, ";"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAFigureThatWasNotMeasuredIsNotReached(t *testing.T) {
	p := &part{goals: []goal{under("seconds", 1, 2, inSeconds), under("seconds", 2, 2, inSeconds), {What: "memory", Goal: "below 200 MB"}}}
	lines, missed := p.toReach()
	if got := strings.Join(lines, "|"); missed != 2 ||
		got != "seconds: 1.00 s; below 2.00 s: reached|seconds: 2.00 s; below 2.00 s: NOT reached|memory: below 200 MB: not measured" {
		t.Errorf("%d missed: %s", missed, got)
	}
}

func TestAComparisonShowsTheRatiosWithinTheRounds(t *testing.T) {
	all := timed(map[string]float64{plain: 10, maskedLoad: 20, maskedProof: 20, updated: 20})
	for name, second := range timed(map[string]float64{plain: 20, maskedLoad: 20, maskedProof: 20, updated: 20}) {
		all[name] = append(all[name], second...)
	}
	if c := all.compare(restoreRatios)[0]; c.Min != 1 || c.Max != 2 {
		t.Errorf("%+v: the rounds have ratios 2 and 1", c)
	}
}

// written is a report with parts of some figures, one after the other.
func written(t *testing.T, parts ...*part) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	for _, p := range parts {
		p.blocks = []block{{title: "Seconds", header: []string{"what"}}}
		if err := target(t, func(_ context.Context, tg *run.Target) error { return p.write(tg, path) }); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestABusyMachineIsReportedAndAQuietOneIsNot(t *testing.T) {
	for share, busy := range map[float64]bool{0.05: false, 0.4: true} {
		text := written(t, &part{title: "Restore", samples: samples{plain: {{shared: share}}}})
		if got := strings.Contains(text, "not to be relied on"); got != busy {
			t.Errorf("others had %.2f: reported %t", share, got)
		}
	}
}

func TestEveryPartOfTheReportStaysWhenAnotherIsMeasured(t *testing.T) {
	a, b, c := &part{title: "Images", command: "one"}, &part{title: "Restore", command: "two"}, &part{title: "Images", command: "three"}
	want := preface + "\n" + strings.TrimSpace(b.markdownOf(t)) + "\n\n" + strings.TrimSpace(c.markdownOf(t)) + "\n"
	if got := written(t, a, b, c, b); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func (p *part) markdownOf(t *testing.T) string {
	t.Helper()
	p.blocks = []block{{title: "Seconds", header: []string{"what"}}}
	return p.markdown()
}

var reset = []step{{"connect", 100}, {"empty tables", 1}, {"load and mask", 2}, {"sequences", 4}, {"count and prove", 16}, {"indexes and constraints", 8}}

func TestAStepThatNobodyKnowsCountsAsProof(t *testing.T) {
	load, proof, err := phases(append(reset, step{"look for canaries", 32}))
	if load != 15 || proof != 48 || err != nil {
		t.Errorf("load %v, proof %v, %v", load, proof, err)
	}
}

func TestAResetThatLacksAStepOfLoadingOrEveryProofIsNoFigure(t *testing.T) {
	without := func(name string) (left []step) {
		for _, s := range reset {
			if s.Name != name {
				left = append(left, s)
			}
		}
		return left
	}
	for _, name := range append([]string{"count and prove"}, loading...) {
		if _, _, err := phases(without(name)); run.CodeOf(err) != run.Incomplete {
			t.Errorf("without %q: code %d, %v", name, run.CodeOf(err), err)
		}
	}
}

func TestProcessorTimeOfAnEndedProcessStaysWithItsParent(t *testing.T) {
	before, err := processTimes()
	if err != nil {
		t.Fatal(err)
	}
	_, u, err := finish(exec.Command("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := processTimes()
	if err != nil {
		t.Fatal(err)
	}
	if grown := after.tree(os.Getpid()) - before.tree(os.Getpid()); u.cpu < 3*tick || grown < u.cpu-2*tick {
		t.Errorf("the child used %s, our tree grew by %s", u.cpu, grown)
	}
	if u.wall < u.cpu/2 || u.wall > time.Minute || u.rss < 1<<20 {
		t.Errorf("%+v", u)
	}
}

func TestAFailingToolSaysWhy(t *testing.T) {
	_, _, err := finish(exec.Command("sh", "-c", "echo no such table >&2; exit 3"))
	if err == nil || !strings.Contains(err.Error(), "sh: exit status 3: no such table") {
		t.Error(err)
	}
}
