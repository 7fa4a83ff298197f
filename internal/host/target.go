package host

import (
	"context"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// DialFor is Dial for a connection that lives as long as the target, and warns it of what goes wrong and is mended.
func DialFor(ctx context.Context, t *run.Target, spec *inventory.Host) (*Host, error) {
	h, err := Dial(ctx, spec)
	if err != nil {
		return nil, err
	}
	h.warn = t.Warn
	t.Cleanup("disconnect from "+h.Name(), func(context.Context) error { return h.Close() })
	return h, nil
}

// ReadAhead sets Memory, where it is not 0, and lets the program hold as much beside what else it has. Call it before the
// first Read.
func (h *Host) ReadAhead(bytes int64) {
	if bytes > 0 {
		h.Memory = bytes
		run.Allow(bytes)
	}
}

// WarnTo has the Host say what goes wrong and is mended, as DialFor's does to its target. Call it before the first Read.
func (h *Host) WarnTo(warn func(format string, args ...any)) { h.warn = warn }
