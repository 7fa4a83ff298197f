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

// timed is a report of one round.
func timed(seconds map[string]float64) *report {
	return &report{samples: map[string][]sample{plain: {{seconds: seconds}}, masked: {{seconds: seconds}}, updated: {{seconds: seconds}}}}
}

func TestAReportSaysPlainlyWhetherAFigureIsReached(t *testing.T) {
	r := timed(map[string]float64{plain: 10, maskedLoad: 12.5, maskedProof: 16, maskedWhole: 20, updated: 30})
	var verdicts []string
	for _, c := range r.comparisons() {
		verdicts = append(verdicts, c.verdict())
	}
	if got, want := strings.Join(verdicts, ";"), "1.25: reached;1.50: NOT reached;;;"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAComparisonShowsTheRatiosWithinTheRounds(t *testing.T) {
	r := timed(map[string]float64{plain: 10, maskedLoad: 20, maskedProof: 20, updated: 20})
	second := sample{seconds: map[string]float64{plain: 20, maskedLoad: 20, maskedProof: 20, updated: 20}}
	for name := range r.samples {
		r.samples[name] = append(r.samples[name], second)
	}
	if c := r.comparisons()[0]; c.Min != 1 || c.Max != 2 {
		t.Errorf("%+v: the rounds have ratios 2 and 1", c)
	}
}

func TestABusyMachineIsReportedAndAQuietOneIsNot(t *testing.T) {
	r := timed(map[string]float64{plain: 10, maskedLoad: 12, maskedProof: 15, maskedWhole: 20, updated: 30})
	for share, busy := range map[float64]bool{0.05: false, 0.4: true} {
		r.samples[masked][0].shared = share
		path := filepath.Join(t.TempDir(), "benchmarks.md")
		if err := target(t, func(_ context.Context, tg *run.Target) error { return r.write(tg, path) }); err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(path)
		if got := strings.Contains(string(text), "not to be relied on"); got != busy {
			t.Errorf("others had %.2f: reported %t", share, got)
		}
	}
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
