package restore

import (
	"errors"
	"strings"
	"testing"

	"rehearsal/internal/host"
	"rehearsal/internal/run"
)

func TestAFailedLoadShowsItsSQLSTATEAndNothingElse(t *testing.T) {
	for stderr, want := range map[string]string{
		"ERROR:  23502\n": "loading public.users on staging: SQLSTATE 23502: a value is missing where the column is NOT NULL",
		"ERROR:  42P17\n": "loading public.users on staging: SQLSTATE 42P17",
		"Anna\nERROR:  invalid input syntax: \"Anna\"\nCONTEXT:  COPY users, line 1: \"Anna\"\n": "loading public.users on staging: it failed without a SQLSTATE (exit status 3)",
	} {
		err := loadError(stream{what: "public.users", fault: run.Unclean}, &host.ExitError{Host: "staging", Status: 3, Stderr: stderr})
		if got := err.Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		var exit *host.ExitError
		if errors.As(err, &exit) {
			t.Error("the error still carries psql's stderr")
		}
	}
}

func TestAFullDiskIsStagingsFaultAndNotTheBackups(t *testing.T) {
	exit := &host.ExitError{Host: "staging", Stderr: `pg_restore: error: could not execute query: ERROR:  could not extend file "base/1/2": No space left on device`}
	copied := &host.ExitError{Host: "staging", Stderr: "ERROR:  53100\n"}
	for _, err := range []error{loadError(stream{what: "t", fault: run.Unfit}, copied), restoreError(postData, exit), restoreError("--schema-only", exit)} {
		if run.CodeOf(err) != run.Unreachable || run.HintOf(err) != "make room on staging" {
			t.Errorf("%v: exit %d, hint %q", err, run.CodeOf(err), run.HintOf(err))
		}
	}
}

func TestWhatPgRestoreMissesIsSaidWithTheNextStep(t *testing.T) {
	for stderr, want := range map[string]struct {
		hint string
		code run.Code
	}{
		"pg_restore: error: unsupported version (1.16) in file header":                                           {"newer client", run.Unclean},
		"pg_restore: error: could not execute query: ERROR:  extension \"postgis\" is not available":             {"install that extension", run.Unreachable},
		"pg_restore: error: could not execute query: ERROR:  role \"reporting\" does not exist\nCommand was: X":  {"create that role", run.Unreachable},
		"pg_restore: error: could not execute query: ERROR:  could not create unique index \"users_email_key\"":  {"a mask made two values equal", run.Unclean},
		"pg_restore: error: could not execute query: ERROR:  permission denied to create extension \"file_fdw\"": {"only a superuser", run.Unreachable},
	} {
		err := restoreError("--section=post-data", &host.ExitError{Host: "staging", Stderr: stderr})
		if run.CodeOf(err) != want.code || !strings.Contains(run.HintOf(err), want.hint) {
			t.Errorf("%s\nhint %q does not say %q", stderr, run.HintOf(err), want.hint)
		}
	}
}
