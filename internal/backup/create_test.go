package backup

import (
	"errors"
	"strings"
	"testing"

	"rehearsal/internal/host"
	"rehearsal/internal/run"
)

func TestAPgDumpThatFailedSaysWhatToDo(t *testing.T) {
	for stderr, want := range map[string]struct {
		code run.Code
		says string
	}{
		"pg_dump: error: could not write to output file: No space left on device\n":     {run.Unreachable, "No space left on device"},
		"pg_dump: error: could not close data file: Success\n":                          {run.Unreachable, "does not say why; as a rule: No space left on device"},
		"pg_dump: error: could not write to file \"x\": No error information\n":         {run.Unreachable, "does not say why"},
		"pg_dump: error: could not close data file: Input/output error\n":               {run.Incomplete, "could not close data file: Input/output error"},
		"pg_dump: error: query failed: ERROR:  permission denied for table suppliers\n": {run.Incomplete, "permission denied for table suppliers"},
	} {
		err := dumpError("production", &host.ExitError{Host: "production", Status: 1, Stderr: stderr})
		if run.CodeOf(err) != want.code || !strings.Contains(err.Error(), want.says) || strings.Contains(run.HintOf(err), "make room") != (want.code == run.Unreachable) {
			t.Errorf("%s: exit code %d, hint %q, %v", stderr, run.CodeOf(err), run.HintOf(err), err)
		}
	}
}

func TestAPgDumpBuiltWithoutZstdIsToldFromOneThatFailed(t *testing.T) {
	for stderr, want := range map[string]bool{
		"pg_dump: error: invalid compression specification: this build does not support compression with zstd\n": true,
		"pg_dump: error: connection to server failed: No such file or directory\n":                               false,
	} {
		if got := builtWithout(&host.ExitError{Status: 1, Stderr: stderr}); got != want {
			t.Errorf("%s: %t", stderr, got)
		}
	}
	if builtWithout(nil) || builtWithout(errors.New("does not support compression with zstd")) {
		t.Error("what pg_dump did not say is no answer of it")
	}
}
