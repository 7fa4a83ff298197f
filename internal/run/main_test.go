package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests watch real processes from outside: the test binary, started again with RUN_TEST_TARGET set, runs
// one of the targets below and exits as mage would.
func TestMain(m *testing.M) {
	if name := os.Getenv("RUN_TEST_TARGET"); name != "" {
		noteEvery = 100 * time.Millisecond
		err := Main(context.Background(), name, targets[name])
		if os.Getenv("RUN_TEST_LINGER") != "" {
			diary("ended")
			time.Sleep(10 * time.Second)
		}
		exitLikeMage(err)
	}
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(s) { // as in the background, or under nohup: every child would ignore it too
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	flag.Parse()
	flag.Set("test.parallel", "16") // these tests wait, for children that wait
	os.Exit(m.Run())
}

// exitLikeMage is handleError of the program that mage generates.
func exitLikeMage(err any) {
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintf(os.Stderr, "Error: %+v\n", err)
	if c, ok := err.(interface{ ExitStatus() int }); ok {
		os.Exit(c.ExitStatus())
	}
	os.Exit(1)
}

// diary appends a line to a file that the test reads.
func diary(line string) {
	f, err := os.OpenFile(os.Getenv("RUN_TEST_DIARY"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(f, line)
	f.Close()
}

// noting is a cleanup that writes to the diary.
func noting(t *Target, what string) (done func()) {
	return t.Cleanup(what, func(ctx context.Context) error {
		diary("cleaned " + what + fmt.Sprintf(" %v", ctx.Err()))
		return nil
	})
}

// waiting waits for the end of its context.
func waiting(ctx context.Context, s *Step) error {
	diary("ready")
	<-ctx.Done()
	return fmt.Errorf("loading orders on staging: %w", ctx.Err())
}

var errCause = errors.New("a cause")

var targets = map[string]func(ctx context.Context, t *Target) error{
	"ok": func(ctx context.Context, t *Target) error {
		noting(t, "first")
		noting(t, "forgotten")()
		noting(t, "second")
		t.Set("tables", []int{1 << 62})
		t.Set("arrow", "a->b & c")
		t.Step(ctx, "load tables", func(ctx context.Context, s *Step) error {
			s.Add(300_000_000)
			s.Count(40, 40, "tables")
			s.Detail("of %s", "shop\x1b]0;title\a")
			return nil
		})
		t.Warn("no checks/")
		t.Printf("events:\a")
		t.Table([]string{"at", "what"}, [][]string{{"yesterday", "order 7"}, {"now", "a\tb"}})
		t.Set("tables", []int64{1<<62 + 1})
		t.Set("ratio", nan())
		t.Set("report", t.Report())
		return nil
	},
	"fail": func(ctx context.Context, t *Target) error {
		noting(t, "database")
		return t.Step(ctx, "check columns", func(ctx context.Context, s *Step) error {
			s.Add(7)
			return fmt.Errorf("planning: %w", Fail(Unclean, "add it to columns.yaml", "column users.ssn is unclassified: %w", errCause))
		})
	},
	"fail-done":     func(context.Context, *Target) error { return Fail(Done, "", "no error at all") },
	"fail-canceled": func(context.Context, *Target) error { return fmt.Errorf("counting: %w", context.Canceled) },
	"panic": func(ctx context.Context, t *Target) error {
		noting(t, "database")
		return t.Step(ctx, "load", func(context.Context, *Step) error { panic(fmt.Errorf("boom: %w", errCause)) })
	},
	"set-reserved": func(ctx context.Context, t *Target) error { t.Set("status", "fine"); return nil },
	"cleanups-fail": func(ctx context.Context, t *Target) error {
		noting(t, "first")
		t.Cleanup("database shop_incoming on staging", func(context.Context) error {
			return Fail(Unreachable, "drop it by hand", "connection lost")
		})
		t.Cleanup("the panicking one", func(context.Context) error { panic("oh") })
		t.Cleanup("the registering one", func(context.Context) error { noting(t, "late"); return nil })
		if os.Getenv("RUN_TEST_FAIL") != "" {
			return Fail(Differ, "", "images differ")
		}
		return nil
	},
	"wait": func(ctx context.Context, t *Target) error {
		noting(t, "first")
		noting(t, "second")
		return t.Step(ctx, "load", waiting)
	},
	"wait-hinted": func(ctx context.Context, t *Target) error {
		waiting(ctx, nil)
		if err := t.Step(ctx, "never begun", waiting); !errors.Is(err, context.Canceled) {
			panic(err)
		}
		return Fail(Unreachable, "look at the network", "connection lost")
	},
	"finish-anyway": func(ctx context.Context, t *Target) error { waiting(ctx, nil); return nil },
	"deaf": func(ctx context.Context, t *Target) error {
		noting(t, "database")
		return t.Step(ctx, "load", func(context.Context, *Step) error {
			diary("ready")
			select {}
		})
	},
	"deaf-cleanup": func(ctx context.Context, t *Target) error {
		noting(t, "folder")
		t.Cleanup("database", func(context.Context) error { diary("ready"); select {} })
		if os.Getenv("RUN_TEST_PANIC") != "" {
			panic("boom")
		}
		return Fail(Differ, "", "images differ")
	},
	"slow-cleanup": func(ctx context.Context, t *Target) error {
		noting(t, "folder")
		t.Cleanup("database", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		return t.Step(ctx, "load", waiting)
	},
	"blocked": func(ctx context.Context, t *Target) error { // on a pipe that nobody reads
		diary("ready")
		for {
			t.Printf("%s", strings.Repeat("y", 1000))
		}
	},
	"chatty": func(ctx context.Context, t *Target) error {
		noting(t, "folder")
		for range 1000 {
			t.Printf("line")
		}
		return t.Step(ctx, "load", func(context.Context, *Step) error { return nil })
	},
	"progress": func(ctx context.Context, t *Target) error {
		t.Cleanup("database", func(context.Context) error { time.Sleep(300 * time.Millisecond); return nil })
		return t.Step(ctx, "load tables", func(ctx context.Context, s *Step) error {
			s.Expect(300_000_000)
			for i := range 100 {
				s.Add(1_000_000)
				s.Count(i, 100, "tables")
				s.Detail("a detail\nthat is longer than what a terminal of sixty columns can hold")
				switch i {
				case 40:
					t.Printf("half way")
				case 70:
					t.Warn("slow")
				}
				time.Sleep(15 * time.Millisecond)
			}
			return nil
		})
	},
	"slow": func(ctx context.Context, t *Target) error {
		t.Step(ctx, "load tables", func(ctx context.Context, s *Step) error {
			s.Expect(400)
			s.Add(100)
			s.Count(1, 4, "tables")
			time.Sleep(550 * time.Millisecond)
			return nil
		})
		return nil
	},
}

func nan() float64 { zero := 0.0; return zero / zero }

// child is a target that runs in a process of its own.
type child struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	diaryFile      string
	started        time.Time
}

// command prepares a child; env is added to its environment.
func command(t *testing.T, target string, env ...string) *child {
	t.Helper()
	c := &child{t: t, diaryFile: filepath.Join(t.TempDir(), "diary")}
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), "RUN_TEST_TARGET="+target, "RUN_TEST_DIARY="+c.diaryFile, "TERM=xterm",
		"REHEARSAL_FORMAT=", "NO_COLOR=")
	c.cmd.Env = append(c.cmd.Env, env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	return c
}

func (c *child) start() *child {
	c.t.Helper()
	c.started = time.Now()
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return c
}

func start(t *testing.T, target string, env ...string) *child {
	t.Helper()
	return command(t, target, env...).start()
}

// interrupt sends a signal once the child is ready.
func (c *child) interrupt(s os.Signal) *child {
	c.t.Helper()
	c.awaitDiary("ready")
	c.started = time.Now()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
	return c
}

func (c *child) diary() string {
	b, err := os.ReadFile(c.diaryFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	return string(b)
}

func (c *child) awaitDiary(line string) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(c.diary(), line+"\n") {
			return
		}
	}
	c.t.Fatalf("no %q in the diary:\n%s\nstderr:\n%s", line, c.diary(), c.stderr.String())
}

// wait returns the exit code.
func (c *child) wait() int {
	c.t.Helper()
	hung := time.AfterFunc(15*time.Second, func() { c.cmd.Process.Kill() })
	defer hung.Stop()
	err := c.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return c.cmd.ProcessState.ExitCode()
}

func (c *child) wantExit(code Code) {
	c.t.Helper()
	if got := c.wait(); got != int(code) {
		c.t.Fatalf("exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", got, code, c.stdout.String(), c.stderr.String())
	}
}

func (c *child) wantStderr(text string) {
	c.t.Helper()
	if !strings.Contains(c.stderr.String(), text) {
		c.t.Errorf("stderr:\n%s\nwant: %s", c.stderr.String(), text)
	}
}

func (c *child) wantStdout(text string) {
	c.t.Helper()
	if !strings.Contains(c.stdout.String(), text) {
		c.t.Errorf("stdout:\n%s\nwant: %s", c.stdout.String(), text)
	}
}

func (c *child) wantDiary(want string) {
	c.t.Helper()
	if got := c.diary(); got != want {
		c.t.Errorf("diary:\n%s\nwant:\n%s", got, want)
	}
}

// result is the JSON object as a consumer of the contract reads it.
type result struct {
	Target    string
	Status    string
	ExitCode  Code `json:"exit_code"`
	StartedAt time.Time
	Seconds   float64
	Steps     []stepRecord
	Error     *problem
	Warnings  []string
	Report    map[string]any
}

// object checks that stdout is one line with one object and reads it.
func (c *child) object() result {
	c.t.Helper()
	line := c.stdout.String()
	if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
		c.t.Fatalf("stdout is not one line:\n%s", line)
	}
	var r result
	d := json.NewDecoder(strings.NewReader(line))
	if err := d.Decode(&r); err != nil {
		c.t.Fatalf("%v in %s", err, line)
	}
	if _, err := d.Token(); err != io.EOF {
		c.t.Fatalf("more than one object: %s", line)
	}
	return r
}
