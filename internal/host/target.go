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
