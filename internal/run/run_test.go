package run

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const asJSON = "REHEARSAL_FORMAT=json"

func TestATargetInTextModePrintsStepsWarningsAndTablesOnStdout(t *testing.T) {
	t.Parallel()
	c := start(t, "ok")
	c.wantExit(Done)
	got := regexp.MustCompile(`\d+ ms   300 MB   .*/s`).ReplaceAllString(c.stdout.String(), "1 ms   300 MB   9 GB/s")
	want := "✓ load tables                      1 ms   300 MB   9 GB/s   tables 40/40   of shop\uFFFD]0;title\uFFFD\n" +
		"warning: no checks/\n" +
		"events:\uFFFD\n" +
		"at         what\n" +
		"yesterday  order 7\n" +
		"now        a b\n" +
		"warning: \"ratio\" is missing in the report: json: unsupported value: NaN\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if c.stderr.Len() > 0 {
		t.Errorf("stderr: %s", c.stderr.String())
	}
	c.wantDiary("cleaned second <nil>\ncleaned first <nil>\n")
}

func TestATargetInJSONModePrintsOneObjectWithFixedKeysFirst(t *testing.T) {
	t.Parallel()
	c := start(t, "ok", asJSON)
	c.wantExit(Done)
	c.object()
	got := regexp.MustCompile(`"seconds":[0-9.]+`).ReplaceAllString(c.stdout.String(), `"seconds":1`)
	got = regexp.MustCompile(`"started_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"`).ReplaceAllString(got, `"started_at":"T"`)
	got, _, _ = strings.Cut(got, `,"report":`)
	want := `{"target":"ok","status":"ok","exit_code":0,"started_at":"T","seconds":1,` +
		`"steps":[{"name":"load tables","seconds":1,"bytes":300000000}],"tables":[4611686018427387905],"arrow":"a->b & c"`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !strings.HasSuffix(c.stdout.String(), `,"warnings":["no checks/","\"ratio\" is missing in the report: json: unsupported value: NaN"]}`+"\n") {
		t.Errorf("the warnings do not end the object: %s", c.stdout.String())
	}
}

func TestReportIsTheObjectSoFarWithStatusOk(t *testing.T) {
	t.Parallel()
	c := start(t, "ok", asJSON)
	c.wantExit(Done)
	r := c.object().Report
	if r["target"] != "ok" || r["status"] != "ok" || r["exit_code"] != 0.0 || len(r["steps"].([]any)) != 1 || r["error"] != nil {
		t.Errorf("report: %v", r)
	}
	if !strings.Contains(c.stdout.String(), `[4611686018427387905],"target"`) && strings.Count(c.stdout.String(), "4611686018427387905") != 2 {
		t.Errorf("a number lost digits in the report: %s", c.stdout.String())
	}
}

func TestAReportSharesNothingWithTheTarget(t *testing.T) {
	value := map[string]string{"a": "before"}
	target := &Target{name: "x", out: &output{json: true}}
	target.Set("value", value)
	report := target.Report()
	value["a"] = "after"
	report["value"].(map[string]any)["a"] = "changed"
	if got := string(target.object(nil)); !strings.Contains(got, `"value":{"a":"before"}`) {
		t.Error(got)
	}
}

func TestAFailedTargetExitsWithTheCodeOfItsErrorAndShowsTheHintOnce(t *testing.T) {
	t.Parallel()
	c := start(t, "fail")
	c.wantExit(Unclean)
	if got, want := c.stderr.String(), "Error: planning: column users.ssn is unclassified: a cause\n  next: add it to columns.yaml\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
	if got := c.stdout.String(); !strings.HasPrefix(got, "✗ check columns ") || strings.Count(got, "\n") != 1 {
		t.Errorf("stdout: %s", got)
	}
	c.wantDiary("cleaned database <nil>\n")
}

func TestAFailedTargetInJSONModePrintsItsErrorAndTheStepThatFailed(t *testing.T) {
	t.Parallel()
	c := start(t, "fail", asJSON)
	c.wantExit(Unclean)
	r := c.object()
	want := &problem{"planning: column users.ssn is unclassified: a cause", "add it to columns.yaml"}
	if d := cmp.Diff(want, r.Error); d != "" || r.Status != "failed" || r.ExitCode != Unclean {
		t.Errorf("%+v %s", r, d)
	}
	if len(r.Steps) != 1 || r.Steps[0].Name != "check columns" || r.Steps[0].Bytes != 7 {
		t.Errorf("steps: %+v", r.Steps)
	}
	if !strings.Contains(c.stdout.String(), `"warnings":[]`) {
		t.Errorf("no empty list of warnings: %s", c.stdout.String())
	}
}

func TestTheCauseOfAnErrorIsStillReachable(t *testing.T) {
	err := Main(context.Background(), "test", func(context.Context, *Target) error {
		return Fail(Locked, "wait", "locked: %w", errCause)
	})
	var made *Error
	if !errors.Is(err, errCause) || !errors.As(err, &made) || CodeOf(err) != Locked || HintOf(err) != "wait" {
		t.Errorf("%#v", err)
	}
}

func TestAnErrorNeverExitsZero(t *testing.T) {
	t.Parallel()
	c := start(t, "fail-done", asJSON)
	c.wantExit(Unexpected)
	if !strings.Contains(c.stdout.String(), `"exit_code":1`) || !strings.Contains(c.stdout.String(), `"steps":[]`) {
		t.Error(c.stdout.String())
	}
}

func TestACancelledContextThatNobodyInterruptedIsUnexpected(t *testing.T) {
	t.Parallel()
	start(t, "fail-canceled").wantExit(Unexpected)
}

func TestAPanicIsAnErrorWithItsStackOnStderrAndCleansUp(t *testing.T) {
	t.Parallel()
	c := start(t, "panic", asJSON)
	c.wantExit(Unexpected)
	c.wantStderr("main_test.go:") // the stack
	c.wantStderr("Error: panic: boom: a cause\n  next: this is a defect")
	c.wantDiary("cleaned database <nil>\n")
	r := c.object()
	if r.Error == nil || r.Error.Message != "panic: boom: a cause" || r.ExitCode != Unexpected || len(r.Steps) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestAPanicKeepsAnErrorThatItCarries(t *testing.T) {
	if err := conclude(&panicError{errCause}); !errors.Is(err, errCause) {
		t.Error(err)
	}
	if err := conclude(&panicError{"boom"}); err.verdict.Error() != "panic: boom" || errors.Is(err, errCause) {
		t.Error(err)
	}
}

func TestFixedKeysCannotBeSet(t *testing.T) {
	t.Parallel()
	c := start(t, "set-reserved", asJSON)
	c.wantExit(Unexpected)
	if r := c.object(); r.Status != "failed" {
		t.Errorf("%+v", r)
	}
}

func TestFixedKeysAreThoseOfTheObject(t *testing.T) {
	target := &Target{name: "x"}
	var object map[string]any
	if err := json.Unmarshal(target.object(conclude(errCause)), &object); err != nil {
		t.Fatal(err)
	}
	for _, key := range fixedKeys {
		if _, ok := object[key]; !ok {
			t.Errorf("no %q in %v", key, object)
		}
		delete(object, key)
	}
	if len(object) > 0 {
		t.Errorf("not in fixedKeys: %v", object)
	}
}

func TestAFailedCleanupIsAWarningAndChangesNoExitCode(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env  string
		code Code
	}{{"RUN_TEST_FAIL=", Done}, {"RUN_TEST_FAIL=1", Differ}} {
		c := start(t, "cleanups-fail", asJSON, test.env)
		c.wantExit(test.code)
		c.wantDiary("cleaned late <nil>\ncleaned first <nil>\n")
		want := []string{"left behind: the panicking one: panic: oh",
			"left behind: database shop_incoming on staging: connection lost\n  next: drop it by hand"}
		r := c.object()
		if d := cmp.Diff(want, r.Warnings); d != "" || r.ExitCode != test.code {
			t.Errorf("%+v %s", r, d)
		}
	}
}

func TestAnUnknownFormatIsRefusedBeforeTheTargetRuns(t *testing.T) {
	t.Parallel()
	c := start(t, "ok", "REHEARSAL_FORMAT=yaml")
	c.wantExit(Usage)
	c.wantDiary("")
	c.wantStderr("Error: REHEARSAL_FORMAT is \"yaml\"\n  next: set it to text or json")
}

func TestTheFormatMayBeNamedText(t *testing.T) {
	t.Parallel()
	c := start(t, "ok", "REHEARSAL_FORMAT=text")
	c.wantExit(Done)
	c.wantStdout("✓ load tables")
}

func TestAClosedStdoutInTextModeNeitherStopsTheTargetNorItsCleanups(t *testing.T) {
	t.Parallel()
	c := command(t, "chatty")
	c.cmd.Stdout = closedPipe(t)
	c.start().wantExit(Done)
	c.wantDiary("cleaned folder <nil>\n")
}

func TestAResultThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, stdout := range []*os.File{full, closedPipe(t)} {
		c := command(t, "ok", asJSON)
		c.cmd.Stdout = stdout
		c.start().wantExit(Unexpected)
		c.wantStderr("Error: writing the result: write /dev/stdout")
		c.wantStderr("\n  next: the target itself succeeded")
	}
}

func TestAResultThatCannotBeWrittenDoesNotHideTheFailure(t *testing.T) {
	t.Parallel()
	c := command(t, "fail", asJSON)
	c.cmd.Stdout = closedPipe(t)
	c.start().wantExit(Unclean)
	c.wantStderr("writing the result: write /dev/stdout: broken pipe\n")
}

// closedPipe is a pipe whose reader has gone, like head(1) after its last line.
func closedPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { w.Close() })
	return w
}

func TestWhereStderrIsNoTerminalProgressIsALineNowAndThen(t *testing.T) {
	t.Parallel()
	c := start(t, "slow", asJSON)
	c.wantExit(Done)
	c.object()
	lines := strings.Split(strings.TrimSpace(c.stderr.String()), "\n")
	shape := regexp.MustCompile(`^load tables   \d+ ms   100 B of 400 B \(25%\)   [0-9.]+ k?B/s   tables 1/4$`)
	if len(lines) < 2 || len(lines) > 6 || !shape.MatchString(lines[0]) {
		t.Errorf("stderr:\n%s", c.stderr.String())
	}
}
