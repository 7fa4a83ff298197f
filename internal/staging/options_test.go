package staging

import (
	"testing"

	"rehearsal/internal/run"
)

func TestReadAheadIsInMiBAndHasBounds(t *testing.T) {
	if bytes, err := (Options{}).readAhead(); bytes != 0 || err != nil {
		t.Errorf("without the flag: %d, %v", bytes, err)
	}
	for mib, code := range map[int]run.Code{-1: run.Usage, 0: run.Usage, 1: run.Usage, 2: 0, 256: 0, 1 << 20: 0, 1<<20 + 1: run.Usage} {
		bytes, err := (Options{ReadAhead: &mib}).readAhead()
		if run.CodeOf(err) != code || code == 0 && bytes != int64(mib)<<20 {
			t.Errorf("-readAhead=%d: %d, %v", mib, bytes, err)
		}
	}
}
