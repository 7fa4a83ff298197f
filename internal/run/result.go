package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Set makes value, as it is now, a field of the JSON object. Fields appear in the order in which they were
// first set. The keys that every target has are not to be set; that panics. A value that JSON cannot hold
// (a NaN) becomes a warning instead, because the object must be printed whatever happens.
func (t *Target) Set(key string, value any) {
	if slices.Contains(fixedKeys, key) {
		panic(fmt.Sprintf("run: the field %q belongs to every target", key))
	}
	raw, err := encode(value)
	if err != nil {
		t.Warn("%q is missing in the report: %v", key, err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.IndexFunc(t.fields, func(f field) bool { return f.key == key }); i >= 0 {
		t.fields[i].value = raw
		return
	}
	t.fields = append(t.fields, field{key, raw})
}

// Report returns the JSON object as it would be if the target succeeded now, for the records of a run.
// It shares nothing with the target. Numbers are json.Number, so that none loses a digit.
func (t *Target) Report() map[string]any {
	d := json.NewDecoder(bytes.NewReader(t.object(nil)))
	d.UseNumber()
	var report map[string]any
	if err := d.Decode(&report); err != nil {
		panic(fmt.Sprintf("run: reading our own JSON: %v", err))
	}
	return report
}

type field struct {
	key   string
	value json.RawMessage
}

// fixedKeys are the keys that every target has: those of head, and the warnings, which end the object.
var fixedKeys = []string{"target", "status", "exit_code", "started_at", "seconds", "steps", "error", "warnings"}

type head struct {
	Target    string       `json:"target"`
	Status    string       `json:"status"`
	ExitCode  Code         `json:"exit_code"`
	StartedAt string       `json:"started_at"`
	Seconds   float64      `json:"seconds"`
	Steps     []stepRecord `json:"steps"`
	Error     *problem     `json:"error,omitempty"`
}

type problem struct {
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

type stepRecord struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes"`
}

// object is the JSON object on one line.
func (t *Target) object(failed *failure) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := head{Target: t.name, Status: "ok", StartedAt: t.started.UTC().Format(time.RFC3339),
		Seconds: seconds(time.Since(t.started)), Steps: append([]stepRecord{}, t.steps...)}
	if failed != nil {
		h.Status, h.ExitCode = "failed", failed.verdict.Code
		h.Error = &problem{failed.verdict.Error(), failed.verdict.Hint}
	}
	var b bytes.Buffer
	b.Write(bytes.TrimSuffix(mustEncode(h), []byte("}")))
	warnings := field{"warnings", mustEncode(append([]string{}, t.warnings...))}
	for _, f := range append(slices.Clip(t.fields), warnings) {
		fmt.Fprintf(&b, ",%s:%s", mustEncode(f.key), f.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // people read it too: a->b, not a-\u003eb
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// mustEncode is for what consists of strings and finite numbers.
func mustEncode(v any) []byte {
	b, err := encode(v)
	if err != nil {
		panic(err)
	}
	return b
}

// seconds are rounded to milliseconds: more digits would pretend precision.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// failure is the error that Main returns: a verdict that prints its hint and that mage can ask for its code.
type failure struct{ verdict *Error }

func (f *failure) Error() string   { return printable(withHint(f.verdict.Error(), f.verdict.Hint)) }
func (f *failure) Unwrap() error   { return f.verdict }
func (f *failure) ExitStatus() int { return int(f.verdict.Code) }

func withHint(message, hint string) string {
	if hint == "" {
		return message
	}
	return message + "\n  next: " + hint
}

// conclude decides the exit code and the hint of what a target ended with; nil stays nil.
func conclude(err error) *failure {
	if err == nil {
		return nil
	}
	var interrupted *interruptedError
	switch {
	case isPanic(err):
		return &failure{&Error{Unexpected, "this is a defect of rehearsal: report it with the stack above", err}}
	case errors.As(err, &interrupted):
		return &failure{&Error{Interrupted, interrupted.hint(), err}}
	}
	verdict := &Error{CodeOf(err), HintOf(err), err}
	var made *Error
	if verdict.Code == Done || !errors.As(err, &made) {
		// An error never exits 0. And 130 for a bare context.Canceled, though nobody interrupted the
		// target, would hide a fault of ours from those who do not look at interrupted runs.
		verdict.Code = Unexpected
	}
	return &failure{verdict}
}

// interruptedError is what f returned after its context had ended.
type interruptedError struct{ reason, err error }

// Error appends to the reason what f had to say beyond the fact that its context had ended.
func (e *interruptedError) Error() string {
	text := e.err.Error()
	for _, known := range []string{e.reason.Error(), context.Canceled.Error(), ": "} {
		text = strings.TrimSuffix(text, known)
	}
	if text == "" {
		return e.reason.Error()
	}
	return e.reason.Error() + ": " + text
}

func (e *interruptedError) Unwrap() []error { return []error{e.reason, e.err} }

// hint keeps a hint that was meant for an interruption; one on the connection that broke would mislead.
func (e *interruptedError) hint() string {
	if CodeOf(e.err) == Interrupted {
		return HintOf(e.err)
	}
	return ""
}
