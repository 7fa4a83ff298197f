package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"rehearsal/internal/run"
)

// result is what we read of the JSON object of a target.
type result struct {
	Seconds float64 `json:"seconds"`
	Steps   []step  `json:"steps"`
	Error   *struct{ Message, Hint string }

	Backup string `json:"backup"` // of a target on backups

	Files         int              `json:"files"` // and these of images:verify
	Bytes         int64            `json:"wan_bytes"`
	Walk          float64          `json:"walk_seconds"`
	Discrepancies []map[string]any `json:"discrepancies"`
	Unchecked     []map[string]any `json:"unchecked_paths"`
}

type step struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// of is how long a step took.
func (r *result) of(name string) (seconds float64) {
	for _, s := range r.Steps {
		if s.Name == name {
			seconds += s.Seconds
		}
	}
	return seconds
}

// product runs a target of ours as its users do.
func product(ctx context.Context, binary, inventory, target string, env ...string) (r result, u usage, err error) {
	cmd := exec.CommandContext(ctx, binary, target)
	cmd.Env = append(append(environ(), "REHEARSAL_INVENTORY="+inventory, "REHEARSAL_FORMAT=json"), env...)
	out, u, err := finish(cmd)
	if ctx.Err() != nil { // it was killed: it has nothing to say, and its hosts go with the lab
		return r, u, context.Cause(ctx)
	}
	if jsonErr := json.Unmarshal(out, &r); jsonErr != nil {
		return r, u, errors.Join(fmt.Errorf("%s printed no JSON object: %w", target, jsonErr), err)
	}
	if r.Error != nil {
		code := run.Unexpected
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code = run.Code(exit.ExitCode())
		}
		return r, u, run.Fail(code, r.Error.Hint, "%s: %s", target, r.Error.Message)
	}
	return r, u, err
}

// environ is ours without what would lead libpq elsewhere.
func environ() []string {
	var kept []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PG") {
			kept = append(kept, e)
		}
	}
	return kept
}
