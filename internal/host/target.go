package host

import (
	"context"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// DialFor is Dial for a connection that lives as long as the target.
func DialFor(ctx context.Context, t *run.Target, spec *inventory.Host) (*Host, error) {
	h, err := Dial(ctx, spec)
	if err != nil {
		return nil, err
	}
	t.Cleanup("disconnect from "+h.Name(), func(context.Context) error { return h.Close() })
	return h, nil
}
