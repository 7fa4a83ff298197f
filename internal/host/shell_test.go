package host

import (
	"testing"
	"time"
)

func TestTriesBeginSomeTimeApartAndLaterEachTime(t *testing.T) {
	t.Parallel()
	b := newBreaks()
	b.backoff = time.Second
	before := time.Now()
	b.broke(b.generation, true, false)
	if b.pause.Before(before.Add(settling)) || b.pause.After(time.Now().Add(settling)) {
		t.Errorf("what has worked for long is tried again after %v", b.pause.Sub(before))
	}
	b.due = time.Now().Add(time.Hour) // no machine is that slow
	for i, want := range []time.Duration{2, 4, 8, 15, 15, 1, 2} {
		if i == 5 {
			b.tries = 0 // a byte came
		}
		last := b.due
		if b.broke(b.generation, i == 5, false); b.pause.Sub(last) != want*time.Second {
			t.Errorf("break %d: the next try is %v after the one before", i, b.pause.Sub(last))
		}
	}
	if first, hopeless := b.broke(b.generation-1, true, false); first || hopeless || b.tries != 2 {
		t.Error("a command of a break before counts")
	}
}

func TestACommandThatCannotBeOpenedBesideOthersIsTriedMuchLater(t *testing.T) {
	t.Parallel()
	b := newBreaks()
	before := time.Now()
	if first, _ := b.broke(b.generation, false, true); first || b.tries != 0 || b.pause.Sub(before) < longestBackoff {
		t.Errorf("a command that could not be opened beside others is tried again in %v", b.pause.Sub(before))
	}
	// Once those others have ended, nothing speaks for waiting.
	if b.broke(b.generation-1, true, false); b.pause.After(time.Now()) {
		t.Errorf("after the others have ended the next try is in %v", time.Until(b.pause))
	}
}
