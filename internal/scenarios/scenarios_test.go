// Package scenarios tests the command line as a person uses it: the compiled magefiles against the lab's real
// OpenSSH and PostgreSQL servers, one text file a story in testdata. Every story ends on its own copy of the
// inventory, the SQL and the backups; the two PostgreSQL servers are shared, so stories run one at a time.
package scenarios

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"rehearsal/internal/lab"
)

var (
	shared  *lab.Lab
	binary  string     // the compiled magefiles
	turn    sync.Mutex // whoever holds it may use the servers
	backups string     // one good backup of production, copied for every story
)

func TestMain(m *testing.M) { os.Exit(main(m)) }

func main(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "rehearsal-scenarios-")
	if err == nil {
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "rehearsal")
		err = compile(ctx, binary)
	}
	if err == nil {
		err = compileLoader(ctx, filepath.Join(dir, "rehearsal-loader-linux-"+runtime.GOARCH))
	}
	if err == nil {
		shared, err = lab.Up(ctx, lab.Options{Dir: filepath.Join(dir, "lab"), Orders: 2000}, nil)
	}
	if err == nil {
		defer shared.Down(context.WithoutCancel(ctx))
		backups, err = firstBackup(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "setting up:", err)
		return 1
	}
	return m.Run()
}

func compile(ctx context.Context, to string) error {
	c := exec.CommandContext(ctx, "go", "tool", "mage", "-compile", to)
	c.Dir = filepath.Join("..", "..")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("mage -compile: %w\n%s", err, out)
	}
	return nil
}

// compileLoader puts the loader beside the command line, where a machine without Go has it.
func compileLoader(ctx context.Context, to string) error {
	c := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", to, "rehearsal/internal/restore/loader")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("building the loader: %w\n%s", err, out)
	}
	return nil
}

func firstBackup(ctx context.Context) (string, error) {
	c := exec.CommandContext(ctx, binary, "backup:create")
	c.Env = append(os.Environ(), "REHEARSAL_INVENTORY="+shared.Inventory())
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("backup:create: %w\n%s", err, out)
	}
	text, err := os.ReadFile(shared.Inventory())
	if err != nil {
		return "", err
	}
	m := backupsLine.FindSubmatch(text)
	if m == nil {
		return "", errors.New("the lab's inventory has no line with the path of its backups")
	}
	return strconv.Unquote(string(m[2]))
}

var (
	backupsLine = regexp.MustCompile(`(?m)^(\s+backups:\s+host: backup\s+path: )(".*")$`)
	sqlLine     = regexp.MustCompile(`(?m)^(\s+sql: )(".*")$`)
)

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"unchanged": unchanged,
			"remember":  remember,
			"sql":       sqlCommand,
			"replace":   replace,
			"holdlock":  holdLock,
			"damage":    damage,
			"halt":      halt,
			"start":     start,
			"newest":    newest,
			"keep":      keep,
			"recorded":  recorded,
		},
	})
}

// setup gives a story its turn, its own files, and a picture of everything before it.
func setup(e *testscript.Env) error {
	turn.Lock()
	e.Defer(turn.Unlock)
	if err := files(e.WorkDir); err != nil {
		return err
	}
	e.Vars = append(e.Vars, "REHEARSAL_INVENTORY="+filepath.Join(e.WorkDir, "hosts.yaml"), "BACKUPS="+filepath.Join(e.WorkDir, "backups"),
		"HOME="+os.Getenv("HOME"), "LAB="+shared.Tmp)
	ids, err := filepath.Glob(filepath.Join(e.WorkDir, "backups", "*Z"))
	if err != nil || len(ids) != 1 {
		return fmt.Errorf("one backup expected, found %v (%v)", ids, err)
	}
	e.Vars = append(e.Vars, "ID="+filepath.Base(ids[0]))
	before, err := picture(e.WorkDir)
	e.Values["before"] = before
	return err
}

// files copies the inventory, the SQL and the backups into dir; the inventory names the copies.
func files(dir string) error {
	text, err := os.ReadFile(shared.Inventory())
	if err != nil {
		return err
	}
	own := backupsLine.ReplaceAllString(string(text), "${1}"+strconv.Quote(filepath.Join(dir, "backups")))
	own = sqlLine.ReplaceAllString(own, "${1}sql/shop")
	lab := filepath.Dir(shared.Inventory())
	accounts, err := os.ReadFile(filepath.Join(lab, "accounts.yaml"))
	return errors.Join(err, os.WriteFile(filepath.Join(dir, "hosts.yaml"), []byte(own), 0o600),
		os.WriteFile(filepath.Join(dir, "accounts.yaml"), accounts, 0o600),
		os.CopyFS(filepath.Join(dir, "sql", "shop"), os.DirFS(filepath.Join(lab, "sql", "shop"))),
		os.CopyFS(filepath.Join(dir, "backups"), os.DirFS(backups)))
}

// picture is what a refused or failed run must leave as it was: the content of every database on both servers,
// every file of the backups, and no file of ours on any host but the programs that stay there.
func picture(dir string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := map[string]string{}
	for _, c := range []*lab.Cluster{shared.Production, shared.Staging} {
		if !c.Running() {
			continue
		}
		names, err := c.SQL(ctx, "postgres", `SELECT datname || ' ' || pg_get_userbyid(datdba) || ' ' || coalesce(datacl::text, '') || ' ' || datconnlimit || ' '
			|| coalesce((SELECT setconfig::text FROM pg_db_role_setting WHERE setdatabase = d.oid AND setrole = 0), '') FROM pg_database d ORDER BY 1`)
		if err != nil {
			return nil, err
		}
		p["databases of "+c.Name] = names
		for line := range strings.Lines(names) {
			name, _, _ := strings.Cut(line, " ")
			if strings.HasPrefix(name, "template") || name == "postgres" {
				continue
			}
			if p[c.Name+"/"+name], err = content(ctx, c, name); err != nil {
				return nil, err
			}
		}
	}
	if err := pictureFiles(p, filepath.Join(dir, "backups"), true); err != nil {
		return nil, err
	}
	for _, h := range []string{"production", "backup", "staging"} {
		if err := pictureFiles(p, shared.Path(h, "state"), false); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// content is a hash of everything in a database. pg_dump puts a random word behind \restrict and \unrestrict.
func content(ctx context.Context, c *lab.Cluster, database string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(c.Bin, "pg_dump"), "-h", c.Socket, "-p", strconv.Itoa(c.Port), "-U", "postgres", database).Output()
	if err != nil {
		return "", fmt.Errorf("dumping %s: %w", database, err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(restrict.ReplaceAll(out, nil))), nil
}

var restrict = regexp.MustCompile(`(?m)^\\(un)?restrict .*$`)

func pictureFiles(p map[string]string, root string, content bool) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (d.IsDir() || !content && strings.HasPrefix(d.Name(), "loader-")) {
			return nil
		}
		if err != nil {
			return err
		}
		p[path] = "is there"
		if content {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			p[path] = fmt.Sprintf("%x", sha256.Sum256(text))
		}
		return nil
	})
}

// unchanged [PATH]: everything is as it was when the story began; PATHs are prefixes to leave out of that.
func unchanged(ts *testscript.TestScript, neg bool, args []string) {
	now, err := picture(ts.Getenv("WORK"))
	ts.Check(err)
	before := maps.Clone(ts.Value("before").(map[string]string))
	for _, p := range []map[string]string{before, now} {
		for key := range p {
			for _, a := range args {
				if strings.HasPrefix(key, a) {
					delete(p, key)
				}
			}
		}
	}
	if diff := cmp.Diff(before, now); (diff != "") != neg {
		ts.Fatalf("unchanged: %s", diff)
	}
}

// remember: from here on, unchanged compares with what is now.
func remember(ts *testscript.TestScript, _ bool, _ []string) {
	now, err := picture(ts.Getenv("WORK"))
	ts.Check(err)
	before := ts.Value("before").(map[string]string)
	clear(before)
	maps.Copy(before, now)
}

// exits CODE COMMAND…: the command exits with exactly that code. mage means the compiled magefiles.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	name := args[1]
	if name == "mage" {
		name = binary
	}
	err = ts.Exec(name, args[2:]...)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("%s exited with %d, not %d", strings.Join(args[1:], " "), got, want)
	}
}

// sql CLUSTER DATABASE SQL: as superuser; the rows become stdout.
func sqlCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 || neg {
		ts.Fatalf("usage: sql production|staging DATABASE SQL")
	}
	c := map[string]*lab.Cluster{"production": shared.Production, "staging": shared.Staging}[args[0]]
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := c.SQL(ctx, args[1], args[2])
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), strings.TrimSpace(out))
}

// replace FILE OLD NEW: the text OLD, which must be there, becomes NEW.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 || neg {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	file := ts.MkAbs(args[0])
	text, err := os.ReadFile(file)
	ts.Check(err)
	if !strings.Contains(string(text), args[1]) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(file, []byte(strings.ReplaceAll(string(text), args[1], args[2])), 0o600))
}

// holdlock: until the story ends, another session holds the lock of staging.
func holdLock(ts *testscript.TestScript, neg bool, args []string) {
	c := shared.Staging
	psql := exec.Command(filepath.Join(c.Bin, "psql"), "-X", "-h", c.Socket, "-p", strconv.Itoa(c.Port), "-U", "rehearsal", "-d", "postgres", "-At")
	in, err := psql.StdinPipe()
	ts.Check(err)
	out, err := psql.StdoutPipe()
	ts.Check(err)
	ts.Check(psql.Start())
	ts.Defer(func() { in.Close(); psql.Wait() })
	fmt.Fprintln(in, "SET application_name = 'rehearsal staging:reset ana@laptop'; SELECT pg_advisory_lock(hashtextextended('rehearsal:shop', 0)); SELECT 'held';")
	answer := make([]byte, 64)
	for text := ""; !strings.Contains(text, "held"); {
		n, err := out.Read(answer)
		ts.Check(err)
		text += string(answer[:n])
	}
}

// damage flip|cut|remove: the largest file of the story's backup has one byte changed, loses its second half, or
// is removed; its name becomes $FILE.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: damage flip|cut|remove")
	}
	names, err := filepath.Glob(filepath.Join(ts.Getenv("BACKUPS"), ts.Getenv("ID"), "dump", "*.dat.*"))
	ts.Check(err)
	var file string
	var text []byte
	for _, name := range names {
		content, err := os.ReadFile(name)
		ts.Check(err)
		if len(content) > len(text) {
			file, text = name, content
		}
	}
	ts.Setenv("FILE", filepath.Base(file))
	switch args[0] {
	case "flip":
		text[len(text)/2] ^= 1
		ts.Check(os.WriteFile(file, text, 0o600))
	case "cut":
		ts.Check(os.WriteFile(file, text[:len(text)/2], 0o600))
	case "remove":
		ts.Check(os.Remove(file))
	default:
		ts.Fatalf("unknown damage %q", args[0])
	}
}

// halt and start stop and start staging's PostgreSQL; a story that ends in between leaves it running.
func halt(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(shared.Staging.Halt())
	ts.Defer(func() { start(ts, false, nil) })
}

func start(ts *testscript.TestScript, _ bool, _ []string) {
	if !shared.Staging.Running() {
		ts.Check(shared.Staging.Start(context.Background()))
	}
}

// keep production|staging: the database shop is put back as it is now when the story ends.
func keep(ts *testscript.TestScript, _ bool, args []string) {
	c := map[string]*lab.Cluster{"production": shared.Production, "staging": shared.Staging}[args[0]]
	put := func(script string) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, err := c.SQL(ctx, "postgres", script)
		ts.Check(err)
	}
	put("CREATE DATABASE kept OWNER shop TEMPLATE shop")
	ts.Defer(func() { put("DROP DATABASE shop WITH (FORCE);\nALTER DATABASE kept RENAME TO shop") })
}

// recorded STATUS: the newest record of the story's backup has that status; all its records are taken away.
func recorded(ts *testscript.TestScript, _ bool, args []string) {
	names, err := filepath.Glob(filepath.Join(ts.Getenv("BACKUPS"), ts.Getenv("ID"), "rehearsals", "*.json"))
	ts.Check(err)
	if len(names) == 0 {
		ts.Fatalf("there is no record")
	}
	text, err := os.ReadFile(slices.Max(names))
	ts.Check(err)
	var record struct{ Status, Verdict string }
	ts.Check(json.Unmarshal(text, &record))
	if record.Status != args[0] || record.Verdict == "" {
		ts.Fatalf("the record says %q, verdict %q", record.Status, record.Verdict)
	}
	for _, name := range names {
		ts.Check(os.Remove(name))
	}
}

// newest: the ID of the newest backup becomes $NEWEST.
func newest(ts *testscript.TestScript, _ bool, _ []string) {
	ids, err := filepath.Glob(filepath.Join(ts.Getenv("BACKUPS"), "*Z"))
	ts.Check(err)
	if len(ids) == 0 {
		ts.Fatalf("there is no backup")
	}
	ts.Setenv("NEWEST", filepath.Base(slices.Max(ids)))
}

// result is the part of a target's JSON that tests look at.
type result struct {
	Status   string `json:"status"`
	ExitCode int    `json:"exit_code"`
	Backup   string `json:"backup"`
	Verdict  string `json:"verdict"`
	Tables   []struct {
		Name   string   `json:"name"`
		Rows   int64    `json:"rows"`
		Masked []string `json:"masked"`
	} `json:"tables"`
	Error struct{ Message, Hint string } `json:"error"`
}

func parse(t *testing.T, out []byte) result {
	t.Helper()
	var r result
	if strings.Count(string(out), "\n") != 1 {
		t.Errorf("stdout is not one line: %q", out)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("stdout is not a JSON object: %v: %q", err, out)
	}
	return r
}
