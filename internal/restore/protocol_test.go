package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/archive"
	"rehearsal/internal/canary"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

func TestAnErrorKeepsCodeHintAndMessageAcrossTheLine(t *testing.T) {
	for _, err := range []error{
		fmt.Errorf("reading x: %w", run.Fail(run.Unfit, "take an older one", "it is damaged")),
		run.Fail(run.Unclean, "", "staging would hold values"),
		fmt.Errorf("a %% of its own"),
	} {
		var f *failure
		text, _ := json.Marshal(failed(err))
		if e := json.Unmarshal(text, &f); e != nil {
			t.Fatal(e)
		}
		if got := f.err(); got.Error() != err.Error() || run.CodeOf(got) != run.CodeOf(err) || run.HintOf(got) != run.HintOf(err) {
			t.Errorf("%v (%d, %q) became %v (%d, %q)", err, run.CodeOf(err), run.HintOf(err), got, run.CodeOf(got), run.HintOf(got))
		}
	}
	if got := run.CodeOf(failed(fmt.Errorf("reading: %w", context.Canceled)).err()); got != run.Unexpected {
		t.Errorf("what nobody here interrupted has exit code %d", got)
	}
}

func TestWhatAJobSaysOfABackupIsItsFilesAndNoEvent(t *testing.T) {
	rules, err := mask.Parse("columns.yaml", []byte("public.t: {keep: [id], email: [e]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	table := postgres.Table{Schema: "public", Name: "t", Kind: 'r', Root: "public.t", Columns: []postgres.Column{
		{Name: "id", Type: "integer", Base: "int4", Category: 'N', Kind: 'b', NotNull: true}, {Name: "e", Type: "text", Base: "text", Category: 'S', Kind: 'b'}},
		Unique: []postgres.UniqueIndex{{Name: "t_pkey", Columns: []string{"id"}}}}
	plan, err := rules.Plan([]postgres.Table{table})
	if err != nil {
		t.Fatal(err)
	}
	r := &Restore{Rules: rules, Key: mask.KeyOf([]byte("secret")), Database: "shop_incoming", dir: "/state/x", Backup: &archive.Backup{ID: "20260101T000000Z",
		Manifest: &archive.Manifest{Files: []archive.File{{Name: "dump/1.dat.gz", Bytes: 7, SHA256: "ab"}}, NewestEvents: []postgres.Event{{What: "customer Ann Lee signed in"}}}}}
	r.plan(plan)
	text, err := json.Marshal(ask{Do: toPrepare, Job: r.job([]byte("toc"))})
	if err != nil || strings.Contains(string(text), "Ann Lee") {
		t.Errorf("%v: %s", err, text)
	}
	var a ask
	if err := json.Unmarshal(text, &a); err != nil || !reflect.DeepEqual(a.Job, r.job([]byte("toc"))) {
		t.Errorf("%v: it arrives as %+v", err, a.Job)
	}
	if a.Job.Key != nil {
		t.Error("who only searches gets the masking key")
	}
	r.Loader = &Loader{}
	if got := r.job(nil).Key; string(got) != "secret" {
		t.Errorf("who masks gets the key %q", got)
	}
	file, again := rules.Text()
	if parsed, err := mask.Parse(file, again); err != nil || !reflect.DeepEqual(parsed, rules) {
		t.Errorf("%v: the rules arrive as %+v", err, parsed)
	}
}

func TestALoaderLearnsNothingOfProductionAndNoKey(t *testing.T) {
	host := func(name string) *inventory.Host {
		return &inventory.Host{Name: name, Address: name + ".example.com", Identity: "/home/me/.ssh/" + name, HostKey: "key of " + name, Via: &inventory.Host{Name: "bastion"}}
	}
	db := &inventory.Database{Name: "shop", Production: inventory.Server{Host: host("production")}, Backups: inventory.Backups{Host: host("vault"), Path: "/srv"},
		Staging: inventory.Server{Host: host("stage"), Name: "shop"}, SQL: "/home/me/sql"}
	text, err := json.Marshal(public(db))
	if err != nil {
		t.Fatal(err)
	}
	for _, private := range []string{"production.example", "/home/me", "key of", "bastion"} {
		if strings.Contains(string(text), private) {
			t.Errorf("it learns %q: %s", private, text)
		}
	}
	for _, needed := range []string{"stage", "vault", "/srv"} {
		if !strings.Contains(string(text), needed) {
			t.Errorf("it does not learn %q: %s", needed, text)
		}
	}
}

// served runs Serve on what is written to in, and returns its answers, line by line, and how it ended.
func served(t *testing.T) (in *io.PipeWriter, answers *json.Decoder, ended chan error) {
	t.Helper()
	from, in := io.Pipe()
	heard, to := io.Pipe()
	ended = make(chan error, 1)
	go func() {
		err := Serve(t.Context(), from, to)
		from.Close()
		to.Close()
		ended <- err
	}()
	t.Cleanup(func() { in.Close() })
	return in, json.NewDecoder(heard), ended
}

func wait(t *testing.T, ended chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
		return nil
	}
}

func TestALoaderEndsWhenItsInputDoes(t *testing.T) {
	in, _, ended := served(t)
	in.Close()
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
}

func TestALoaderThatHearsNothingEndsAndOneThatHearsSignsOfLifeDoesNot(t *testing.T) {
	defer func(before time.Duration) { signOfLife = before }(signOfLife)
	signOfLife = 50 * time.Millisecond
	_, _, ended := served(t)
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
	in, _, ended := served(t)
	longest, last := time.Duration(0), time.Now()
	for begun := last; time.Since(begun) < 10*signOfLife; last = time.Now() {
		time.Sleep(10 * time.Millisecond)
		_, _ = io.WriteString(in, "{}\n") // it fails where the loader has ended
		longest = max(longest, time.Since(last))
	}
	select {
	case err := <-ended:
		if longest < 2*signOfLife {
			t.Errorf("it has ended though somebody is there: %v", err)
		}
	default:
	}
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
}

func TestALoaderAnswersWhatIsOutOfTurnWithAFailureAndEndsAtWhatIsNoQuestion(t *testing.T) {
	in, answers, ended := served(t)
	for _, question := range []string{`{"do":"load"}`, `{"do":"search"}`, `{"do":"prepare","job":{}}`, `{"do":"connect"}`, `{"do":"sift"}`, `{"do":"dance"}`} {
		go io.WriteString(in, question+"\n")
		var a answer
		if err := answers.Decode(&a); err != nil || a.Done || a.Failed == nil || !strings.Contains(a.Failed.Message, "out of turn") {
			t.Errorf("%s: %+v, %v", question, a, err)
		}
	}
	go io.WriteString(in, `{"do":"connect","ends":{"version":0,"database":{},"access":{}}}`+"\n")
	var a answer
	if err := answers.Decode(&a); err != nil || a.Failed == nil || a.Failed.Code != run.Usage || !strings.Contains(a.Failed.Hint, "anew") {
		t.Errorf("asked by another version: %+v, %v", a, err)
	}
	go io.WriteString(in, "hello\n")
	if err := wait(t, ended); err == nil {
		t.Error("it takes anything for a question")
	}
}

func TestALoaderDoesNotSearchWhereItHasSampledNothing(t *testing.T) {
	s := &server{restore: &Restore{}}
	if err := s.do(t.Context(), ask{Do: toSearch}, run.Unseen(), &answer{}); err == nil || !strings.Contains(err.Error(), "out of turn") {
		t.Errorf("got %v", err)
	}
}

func TestALoaderWithoutABackupNeitherLoadsNorCountsAndRefusesABrokenSieve(t *testing.T) {
	s := &server{restore: &Restore{}}
	for _, verb := range []verb{toLoad, toCount, toSift} {
		if err := s.do(t.Context(), ask{Do: verb}, run.Unseen(), &answer{}); err == nil || !strings.Contains(err.Error(), "out of turn") {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if err := s.do(t.Context(), ask{Do: toSift, Sieve: &canary.Sieve{Shift: 7}}, run.Unseen(), &answer{}); err == nil || !strings.Contains(err.Error(), "sieve") {
		t.Errorf("got %v", err)
	}
}

// against has the runner's end talk to a program, a script of sh, behind a real sshd.
func against(t *testing.T, script string, talk func(ctx context.Context, target *run.Target, l *Loader) error) error {
	t.Helper()
	t.Setenv("REHEARSAL_FORMAT", "json")
	specs := map[inventory.Role]*inventory.Host{}
	for _, role := range []inventory.Role{inventory.Staging, inventory.Backup} {
		sshd, spec, err := lab.StartHost(t.Context(), inventory.Host{Name: string(role), Role: role, State: t.TempDir()}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := sshd.Stop(); err != nil {
				t.Error(err)
			}
		})
		specs[role] = spec
	}
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	os.Stdout = null
	defer func() { os.Stdout = stdout }()
	var ended error
	_ = run.Main(t.Context(), "test", func(ctx context.Context, target *run.Target) error {
		staging, err := host.DialFor(ctx, target, specs[inventory.Staging])
		if err != nil {
			return err
		}
		backup, err := host.DialFor(ctx, target, specs[inventory.Backup])
		if err != nil {
			return err
		}
		db := &inventory.Database{Staging: inventory.Server{Host: specs[inventory.Staging]}, Backups: inventory.Backups{Host: specs[inventory.Backup]}}
		l, err := StartLoader(ctx, target, program, db, staging, backup)
		if err != nil {
			ended = err
			return nil
		}
		ended = talk(ctx, target, l)
		return nil
	})
	return ended
}

func TestWhatAProgramSaysThatIsNoAnswerFailsAndIsNotShown(t *testing.T) {
	err := against(t, "echo 'Ann Lee ann@example.org'; cat\n", nil)
	if run.CodeOf(err) != run.Unexpected || !strings.Contains(err.Error(), "says what is no answer") || strings.Contains(err.Error(), "Ann") {
		t.Errorf("got %v", err)
	}
}

func TestAProgramThatEndsEarlyIsSaidWithItsStatusAndNothingOfItsStderr(t *testing.T) {
	err := against(t, "read -r question; echo 'panic: ann@example.org' >&2; exit 3\n", nil)
	if run.CodeOf(err) != run.Unreachable || !strings.Contains(err.Error(), "ended early, with exit status 3") || strings.Contains(err.Error(), "ann") {
		t.Errorf("got %v", err)
	}
}

func TestProgressWarningsAndResultsArriveAsTheyAreSaid(t *testing.T) {
	script := `read -r question; echo '{"done":true}'
		read -r question
		echo '{"warning":"the line broke off"}'
		echo '{"progress":{"bytes":7,"expected":9,"count":"tables 1/2"}}'
		echo '{"progress":{"bytes":9,"expected":9,"count":"tables 2/2"},"failed":{"code":4,"hint":"mask it","message":"a finding"},"found":{"canaries":5}}'
		cat >/dev/null`
	step := run.Unseen()
	var warnings any
	err := against(t, script, func(ctx context.Context, target *run.Target, l *Loader) error {
		got, err := l.ask(ctx, ask{Do: toSearch}, step)
		warnings = target.Report()["warnings"]
		if got.Found == nil || got.Found.Canaries != 5 {
			t.Errorf("found %+v", got.Found)
		}
		return err
	})
	if run.CodeOf(err) != run.Unclean || run.HintOf(err) != "mask it" || err.Error() != "a finding" {
		t.Errorf("got %v (%d), next: %s", err, run.CodeOf(err), run.HintOf(err))
	}
	if got, want := step.Progress(), (run.Progress{Bytes: 9, Expected: 9, Count: "tables 2/2"}); got != want {
		t.Errorf("progress %+v, want %+v", got, want)
	}
	if !reflect.DeepEqual(warnings, []any{"the line broke off"}) {
		t.Errorf("warnings: %v", warnings)
	}
}

func TestWhatASieveLetsThroughIsJudgedHere(t *testing.T) {
	sampler := canary.NewSampler("public.t", []canary.Column{{Name: "e", Base: "text", Category: 'S', Masked: true}})
	_, _ = sampler.Write([]byte("Jürgen O'Brien\n"))
	said := func(a answer) string {
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return "echo '" + strings.ReplaceAll(string(text), "'", `'\''`) + "'\n"
	}
	suspect := func(number int64, field string) string {
		return said(answer{Suspect: &canary.Suspect{Where: "public.t.note", Base: "text", Number: number, Field: []byte(field)}})
	}
	found := reading{Bytes: 9, Findings: []canary.Finding{{Kind: canary.Email, Where: "public.a.b", Count: 1}, {Kind: canary.Card, Where: "public.z.b", Count: 1}}}
	for name, c := range map[string]struct{ script, want string }{
		"two fields with a canary, one without": {suspect(1, "for JÜRGEN O'BRIEN, Jürgen O'Brien") + suspect(2, "Jürgen") + suspect(3, "Jürgen O'Brien") + said(answer{Done: true, Read: &found}),
			"[public.a.b: e-mail, once public.t.note: a value of public.t.e, 2 times (1 different) public.z.b: card, once] <nil>"},
		"a value that is not masked":    {suspect(1, "Jürgen O'Brien") + said(answer{Failed: &failure{Code: run.Unclean, Message: "public.t.e: 3 values"}}), "[] public.t.e: 3 values"},
		"nothing of what was asked for": {said(answer{Done: true}), "the loader on staging says that it has searched, and not what it found"},
	} {
		rules, err := mask.Parse("columns.yaml", nil)
		if err != nil {
			t.Fatal(err)
		}
		script := "read -r question; echo '{\"done\":true}'; read -r question; echo '{\"done\":true}'; read -r question\n" + c.script + "cat >/dev/null\n"
		err = against(t, script, func(ctx context.Context, target *run.Target, l *Loader) error {
			r := &Restore{Target: target, Rules: rules, Plan: &mask.Plan{}, Backup: &archive.Backup{Manifest: &archive.Manifest{}}, Searcher: func() (*Loader, error) { return l, nil },
				Contents: func() (*archive.TOC, []byte, error) { return nil, nil, nil }, samples: samples{tables: map[string]*canary.Sampler{"public.t": sampler}}}
			read, err := r.readThere(ctx, run.Unseen(), canary.NewScanner(r.samples.all()), nil)
			if got := fmt.Sprint(read.Findings, err); !strings.HasSuffix(got, c.want) {
				t.Errorf("%s: %s", name, got)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestATableThatWasNotReadBackIsNotProven(t *testing.T) {
	sampler := canary.NewSampler("public.t", []canary.Column{{Name: "e", Base: "text", Category: 'S', Masked: true}})
	_, _ = sampler.Write([]byte("Jürgen O'Brien\n"))
	r := &Restore{samples: samples{tables: map[string]*canary.Sampler{"public.t": sampler}}}
	for _, c := range []struct {
		kept   map[string]canary.Fingerprint
		tables int
		says   string
	}{
		{map[string]canary.Fingerprint{"public.t": sampler.Fingerprint(), "public.empty": {}}, 1, "<nil>"},
		{map[string]canary.Fingerprint{"public.empty": {}}, 0, "public.t was not read back"},
		{map[string]canary.Fingerprint{"public.t": {Rows: 2}}, 0, "are not what the backup holds"},
	} {
		if n, err := r.compareKept(c.kept); n != c.tables || !strings.Contains(fmt.Sprint(err), c.says) || (err != nil) != (run.CodeOf(err) == run.Unclean) {
			t.Errorf("%v: %d, %v", c.kept, n, err)
		}
	}
}

func TestAnInterruptedQuestionEndsTheProgramThatDoesNotAnswer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	var took time.Duration
	err := against(t, "echo $$ >"+file+"; read -r question; echo '{\"done\":true}'; read -r question; : >"+file+".asked; trap '' TERM; while :; do sleep 1; done\n",
		func(ctx context.Context, _ *run.Target, l *Loader) error {
			ctx, cancel := context.WithCancel(ctx)
			go func() {
				for _, err := os.Stat(file + ".asked"); err != nil; _, err = os.Stat(file + ".asked") {
					time.Sleep(10 * time.Millisecond)
				}
				cancel()
			}()
			_, err := l.ask(ctx, ask{Do: toLoad}, run.Unseen())
			since := time.Now()
			l.close()
			took = time.Since(since)
			return err
		})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	pid, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := os.ReadFile("/proc/" + string(bytes.TrimSpace(pid)) + "/stat"); err == nil && !bytes.Contains(state, []byte(") Z")) {
		t.Errorf("it still runs: %s", state)
	}
	if took > time.Second {
		t.Errorf("a second end of it took %s", took)
	}
}
