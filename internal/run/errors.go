package run

import (
	"context"
	"errors"
	"fmt"
)

// Code is the exit code of a target. The numbers are part of the contract that runbooks rely on.
type Code int

// The exit codes; Codes says what each means.
const (
	Done        Code = 0
	Unexpected  Code = 1
	Usage       Code = 2
	Unfit       Code = 3
	Unclean     Code = 4
	Differ      Code = 5
	Unreachable Code = 6
	Locked      Code = 7
	Production  Code = 8
	Incomplete  Code = 9
	Interrupted Code = 130
)

// Codes lists every exit code with its meaning, in the order a reader expects them.
var Codes = []struct {
	Code    Code
	Meaning string
}{
	{Done, "done"},
	{Unexpected, "unexpected"},
	{Usage, "usage or inventory wrong"},
	{Unfit, "the backup is not fit (none, stale, empty, damaged, suspicious, wrong source)"},
	{Unclean, "sanitizing refused or unproven"},
	{Differ, "images differ"},
	{Unreachable, "a host is out of reach or refuses us"},
	{Locked, "another run holds the lock"},
	{Production, "refused: production would be the target"},
	{Incomplete, "incomplete: something could not be checked (never success)"},
	{Interrupted, "interrupted"},
}

// Error is an error that a target ends with: what happened, the exit code, and what to do next.
type Error struct {
	Code Code
	Hint string // the next step, a sentence or a command; empty where there is none
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Fail makes an *Error with a message in the manner of fmt.Errorf; %w works.
func Fail(code Code, hint, format string, args ...any) error {
	return &Error{Code: code, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// CodeOf returns the exit code for err: that of the outermost *Error in its chain, Interrupted for a
// cancelled context, Done for nil, Unexpected for anything else.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return Done
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.Canceled):
		return Interrupted
	}
	return Unexpected
}

// HintOf returns the hint of the outermost *Error in err's chain that has one.
func HintOf(err error) string {
	var e *Error
	for errors.As(err, &e) {
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
