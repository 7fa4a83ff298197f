package restore

import (
	"errors"
	"strings"
	"testing"

	"rehearsal/internal/host"
	"rehearsal/internal/run"
)

func TestAFailedLoadNeverShowsARow(t *testing.T) {
	for stderr, want := range map[string]string{
		"pg_restore: error: COPY failed for table \"users\": ERROR:  invalid input syntax for type integer: \"Anna Schmidt\"\nCONTEXT:  COPY users, line 1, column id: \"Anna Schmidt\"\n": `invalid input syntax for type integer`,
		"pg_restore: error: COPY failed for table \"users\": ERROR:  value Anna \"Schmidt\nsecond line Anna\" is bad\nDETAIL:  Failing row contains (1, Anna).":                            `its rows are refused, in a message that may quote them`,
		"pg_restore: error: COPY failed for table \"users\": ERROR:  new row for relation \"users\" violates check constraint \"c\"\nDETAIL:  Failing row contains (Anna).":                `new row for relation "users" violates check constraint "c"`,
		"pg_restore: error: COPY failed for table \"leak\": ERROR:  bad mail\nCONTEXT:  COPY leak, line 1: \"smtp error: \"anna@example.com\" bounced\"\n":                                 `its rows are refused, in a message that may quote them`,
		"COPY leak, line 1: pg_restore: error: Anna\n": `its rows are refused, in a message that may quote them`,
	} {
		err := loadError(stream{table: "public.users", fault: run.Unclean}, &host.ExitError{Host: "staging", Stderr: stderr})
		if got := err.Error(); got != "loading public.users on staging: "+want {
			t.Errorf("got %s, want %s", got, want)
		}
		var exit *host.ExitError
		if errors.As(err, &exit) {
			t.Error("the error still carries pg_restore's stderr")
		}
	}
}

func TestAFullDiskIsStagingsFaultAndNotTheBackups(t *testing.T) {
	exit := &host.ExitError{Host: "staging", Stderr: `pg_restore: error: COPY failed for table "t": ERROR:  could not extend file "base/1/2": No space left on device`}
	for _, err := range []error{loadError(stream{table: "t", fault: run.Unfit}, exit), restoreError(postData, exit), restoreError("--schema-only", exit)} {
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
