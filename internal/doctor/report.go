package doctor

import (
	"context"
	"errors"
	"fmt"

	"rehearsal/internal/guard"
	"rehearsal/internal/run"
)

// report collects the findings of one host.
type report struct {
	host     string
	prefix   string // of the names of what follows
	findings []guard.Finding
}

func (r *report) add(status guard.Status, code run.Code, name, hint, detail string) {
	r.findings = append(r.findings, guard.Finding{Name: r.prefix + name, Host: r.host, Status: status, Detail: detail, Hint: hint, Code: code})
}

func (r *report) ok(name, format string, args ...any) {
	r.add(guard.OK, run.Done, name, "", fmt.Sprintf(format, args...))
}

func (r *report) warn(name, hint, format string, args ...any) {
	r.add(guard.Warning, run.Done, name, hint, fmt.Sprintf(format, args...))
}

func (r *report) fail(code run.Code, name, hint, format string, args ...any) {
	r.add(guard.Failed, code, name, hint, fmt.Sprintf(format, args...))
}

func (r *report) unchecked(name, hint, format string, args ...any) {
	r.add(guard.Unchecked, run.Incomplete, name, hint, fmt.Sprintf(format, args...))
}

// error reports what a look ended with. An error that says what to do is a refusal that a backup or a reset would meet
// as well; any other only kept us from looking.
func (r *report) error(name string, err error) {
	var refusal *run.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		r.unchecked(name, "see what keeps the host busy, then look again", "no answer within %s", run.Duration(patience))
	case errors.As(err, &refusal) && refusal.Code != run.Incomplete:
		r.fail(run.CodeOf(err), name, run.HintOf(err), "%s", err)
	default:
		r.unchecked(name, run.HintOf(err), "%s", err)
	}
}

// take adds findings of another package.
func (r *report) take(findings []guard.Finding) {
	for _, f := range findings {
		f.Name, f.Host = r.prefix+f.Name, r.host
		r.findings = append(r.findings, f)
	}
}
