package archive

import "testing"

func TestNeedsAreAFifthMoreThanWhatWasSeen(t *testing.T) {
	m := &Manifest{DatabaseBytes: 1000, Files: []File{{Bytes: 60}, {Bytes: 40}}}
	if got := m.DumpBytes(); got != 120 {
		t.Errorf("the next dump needs %d bytes, want 120", got)
	}
	if got := m.RestoreBytes(); got != 1200 {
		t.Errorf("a restore needs %d bytes, want 1200", got)
	}
	m.DatabaseBytes = 0 // as in the manifest of a dump that others made
	if got := m.RestoreBytes(); got != 720 {
		t.Errorf("a restore of a dump of unknown origin needs %d bytes, want 720", got)
	}
}
