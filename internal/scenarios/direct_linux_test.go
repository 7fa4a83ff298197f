package scenarios

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"rehearsal/internal/lab"
)

// transfer writes the ways that rows may take into the inventory in dir.
func transfer(t *testing.T, dir, ways string) {
	t.Helper()
	file := filepath.Join(dir, "hosts.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^(    transfer: .*\n)?(    sql: .*)$`)
	if !line.Match(text) {
		t.Fatalf("no sql in %s", text)
	}
	if err := os.WriteFile(file, line.ReplaceAll(text, []byte("    transfer: "+ways+"\n$2")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// timeless makes two resets of one backup leave the same: no script asks for the time, and nobody is created.
func (s *specimen) timeless(t *testing.T) {
	t.Helper()
	path(filepath.Join(s.dir, "sql", "shop", "neutralize.sql")).substitute(t, "now()", "'2026-01-01'")
	path(filepath.Join(s.dir, "accounts.yaml")).substitute(t, "- {email: mei.tanaka@shop.example, name: Mei Tanaka, role: tester}\n", "")
}

// reset resets staging with a fixed key, and returns its JSON without times, and what staging holds.
func (s *specimen) reset(t *testing.T, flags ...string) (report map[string]any, dump string) {
	t.Helper()
	c := mage(s.dir, append([]string{"staging:reset"}, flags...)...)
	c.Env = append(c.Env, "REHEARSAL_FORMAT=json", "REHEARSAL_MASK_KEY=the same each time")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil || json.Unmarshal(out, &report) != nil {
		t.Fatalf("%v\n%s%s", err, out, &stderr)
	}
	delete(report, "started_at")
	delete(report, "seconds")
	for _, step := range report["steps"].([]any) {
		delete(step.(map[string]any), "seconds")
	}
	proof := report["proof"].(map[string]any)
	if n := proof["canaries"].(float64); n < 100 {
		t.Errorf("%v canaries", n)
	}
	delete(proof, "canaries") // drawn anew each time
	p := shared.Staging
	text, err := exec.Command(filepath.Join(p.Bin, "pg_dump"), "-h", p.Socket, "-p", strconv.Itoa(p.Port), "-U", "postgres", "shop").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(restrict.ReplaceAll(text, nil)), "\n")
	slices.Sort(lines) // two sessions that share a table do not keep its order
	return report, strings.Join(lines, "\n")
}

// letters is a table so large that two sessions load it where a trigger masks it.
const letters = `CREATE TABLE letters (id bigint PRIMARY KEY, sender text NOT NULL, body text);
	INSERT INTO letters SELECT i, md5(i::text) || '@example.org', md5((-i)::text) || md5(i::text) FROM generate_series(1, 120000) i;
	ALTER TABLE letters OWNER TO shop`

// withLetters gives production that table, and columns.yaml a rule for it.
func (s *specimen) withLetters(t *testing.T, rule string) {
	t.Helper()
	source(letters)(s, t)
	file, err := os.OpenFile(filepath.Join(s.dir, "sql", "shop", "columns.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(file, "\npublic.%s\n", rule)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestADirectResetIsWhatARelayedOneIsAndNoRowsPassThroughThisMachine(t *testing.T) {
	for _, kind := range []string{"ours", "pg_dump -Fc"} {
		t.Run(kind, func(t *testing.T) {
			s := newSpecimen(t)
			s.timeless(t)
			s.withLetters(t, `letters: {keep: [id], email: [sender], sql: {body: "'to ' || id"}}`)
			var flags []string
			if kind == "ours" {
				s.try(t, try{target: "backup:create", verdict: "sealed"})
			} else {
				s.foreignOf(t, "specimen", "-Fc")
				flags = []string{"-backup=" + foreignID}
			}
			g := s.gate(t, nil)
			want, wanted := s.reset(t, flags...)
			relayed := g.passed(false)
			if g.passed(true) != 0 || relayed < 1<<20 {
				t.Errorf("relayed: %d bytes to this machine, %d to a loader", relayed, g.passed(true))
			}
			if programs, _ := filepath.Glob(shared.Path("staging", "state", "loader-*")); kind == "ours" && len(programs) > 0 {
				t.Errorf("a relayed reset put %q there", programs)
			}
			transfer(t, s.dir, "direct")
			got, dumped := s.reset(t, flags...)
			t.Cleanup(func() { removeLoaders(t) })
			here, there := g.passed(false)-relayed, g.passed(true)
			t.Logf("relayed: %d bytes here; direct: %d bytes here, %d to staging", relayed, here, there)
			if there < relayed/2 || here > 128<<10 {
				t.Errorf("direct: %d bytes to this machine, %d to the loader, of %d", here, there, relayed)
			}
			if want["transfer"] != "relay" || got["transfer"] != "direct" {
				t.Errorf("transfer: %v, then %v", want["transfer"], got["transfer"])
			}
			delete(want, "transfer")
			delete(got, "transfer")
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("the report: %s", diff)
			}
			if wanted != dumped {
				t.Errorf("staging: %s", gocmp.Diff(strings.Split(wanted, "\n"), strings.Split(dumped, "\n")))
			}
			verified := s.run(t, "backup:verify "+strings.Join(flags, " "))
			if verified.Verdict != "verified" {
				t.Errorf("verified directly: %q, %s", verified.Verdict, verified.text())
			}
		})
	}
}

func removeLoaders(t *testing.T) {
	t.Helper()
	programs, err := filepath.Glob(shared.Path("staging", "state", "loader-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if err := os.Remove(p); err != nil {
			t.Error(err)
		}
	}
}

// gate stands before the backup host, and counts what it sends to loaders and what to others.
type gate struct {
	target  string
	refuses func() bool // a loader's connection; may be nil

	mu    sync.Mutex
	bytes map[bool]int64 // by whether a loader has them
	mute  int64          // more bytes to loaders, and one connection of theirs falls silent; 0: none does
	ended chan struct{}
}

// gate puts one before the backup host of the specimen's inventory.
func (s *specimen) gate(t *testing.T, refuses func() bool) *gate {
	t.Helper()
	return s.gateBefore(t, shared.FarPort, refuses)
}

// gateBefore puts one before the host at a port.
func (s *specimen) gateBefore(t *testing.T, port int, refuses func() bool) *gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{target: fmt.Sprintf("127.0.0.1:%d", port), refuses: refuses, bytes: map[bool]int64{}, ended: make(chan struct{})}
	t.Cleanup(func() { close(g.ended); listener.Close() })
	s.inventory(t, g.target, listener.Addr().String())
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go g.pass(c)
		}
	}()
	return g
}

func (g *gate) pass(c net.Conn) {
	defer c.Close()
	loader := isLoaders(c)
	if loader && g.refuses != nil && g.refuses() {
		return
	}
	host, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	defer host.Close()
	go func() { _, _ = io.Copy(host, c); host.(*net.TCPConn).CloseWrite() }()
	_, _ = io.Copy(io.MultiWriter(c, count(func(n int) { g.count(loader, n) })), host)
}

// fallSilent has a connection of a loader do so when n bytes more have passed to loaders.
func (g *gate) fallSilent(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mute = g.bytes[true] + n
}

// count counts bytes that have passed, and does not return where nothing more is to.
func (g *gate) count(loader bool, n int) {
	g.mu.Lock()
	g.bytes[loader] += int64(n)
	mute := loader && g.mute > 0 && g.bytes[loader] > g.mute
	if mute {
		g.mute = 0
	}
	g.mu.Unlock()
	if mute {
		<-g.ended
	}
}

func (g *gate) passed(loader bool) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bytes[loader]
}

type count func(int)

func (c count) Write(p []byte) (int, error) { c(len(p)); return len(p), nil }

// isLoaders tells whether a loader is at the other end of a connection, as /proc has it.
func isLoaders(c net.Conn) bool {
	local, remote := c.LocalAddr().(*net.TCPAddr).Port, c.RemoteAddr().(*net.TCPAddr).Port
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return false
	}
	m := regexp.MustCompile(fmt.Sprintf(`(?m)^ *\d+: 0100007F:%04X 0100007F:%04X(?: +\S+){6} +(\d+)`, remote, local)).FindSubmatch(table)
	if m == nil {
		return false
	}
	for _, pid := range loaders() {
		sockets, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range sockets {
			if target, _ := os.Readlink(fd); target == "socket:["+string(m[1])+"]" {
				return true
			}
		}
	}
	return false
}

// loaders are the processes of loaders on the lab's staging.
func loaders() (pids []int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		text, _ := os.ReadFile(file)
		if bytes.HasPrefix(text, []byte(shared.Path("staging", "state", "loader-"))) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestCtrlCInEachStepOfADirectResetLeavesEverythingAsItWas(t *testing.T) {
	interruptEach(t, "staging:reset", []string{"choose the backup", "empty tables", "grants and statistics"}, syscall.SIGINT,
		func(dir string) { transfer(t, dir, "direct") })
}

// stalled starts a direct reset whose load waits for bytes of the backup host, and returns what it has printed so far.
func (s *specimen) stalled(t *testing.T) (c *exec.Cmd, output *lockedText) {
	t.Helper()
	transfer(t, s.dir, "direct")
	s.slowLoad(t, 60)
	output = &lockedText{}
	c = mage(s.dir, "staging:reset")
	c.Stdout, c.Stderr = output, output
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a COPY runs on staging", func() bool {
		if strings.Contains(output.String(), "Error:") {
			t.Fatalf("it ended: %s", output)
		}
		return query(t, shared.Staging, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND datname = 'shop_incoming' OR query LIKE 'COPY public.products %' AND state = 'active'") != "0"
	})
	return c, output
}

// slowLoad makes the load of one table take as long as a test may need it: so many seconds for each of its rows.
func (s *specimen) slowLoad(t *testing.T, seconds float64) {
	t.Helper()
	path(filepath.Join(s.dir, "sql", "shop", "columns.yaml")).substitute(t, "public.products:\n  keep:  [sku, name, price]",
		fmt.Sprintf("public.products:\n  keep:  [sku, price]\n  sql: {name: \"(SELECT 'slow' FROM pg_sleep(%g))\"}", seconds))
}

type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// atWork are the processes on staging that belong to a load: loaders, their scripts, and PostgreSQL's programs.
func atWork(t *testing.T) string {
	t.Helper()
	var left []string
	for line := range strings.Lines(processes(t, shared.Tmp+"/staging/state", shared.Staging.Socket)) {
		if !strings.Contains(line, "postgres ") || strings.Contains(line, "psql") {
			left = append(left, line)
		}
	}
	return strings.Join(left, "")
}

func TestWhateverEndsADirectLoadLeavesNothingRunningAndStagingAsItWas(t *testing.T) {
	for _, end := range []struct {
		name string
		does func(c *exec.Cmd) error
		code int
		says string
	}{
		{"the loader is killed", func(*exec.Cmd) error { return killLoader() }, 6, `the loader on staging ended early, with exit status 137`},
		{"Ctrl-C", func(c *exec.Cmd) error { return c.Process.Signal(syscall.SIGINT) }, 130, ``},
		{"the runner is killed", func(c *exec.Cmd) error { return c.Process.Kill() }, -1, ``},
	} {
		t.Run(end.name, func(t *testing.T) {
			s := newSpecimen(t)
			t.Cleanup(func() { removeLoaders(t) })
			before := staged(t)
			c, output := s.stalled(t)
			if err := end.does(c); err != nil {
				t.Fatal(err)
			}
			since := time.Now()
			err := c.Wait()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if code := c.ProcessState.ExitCode(); code != end.code || !regexp.MustCompile(end.says).MatchString(output.String()) {
				t.Errorf("exit code %d, want %d\n%s", code, end.code, output)
			}
			if took := time.Since(since); end.code == 130 && took > 5*time.Second {
				t.Errorf("it took %s to end", took)
			}
			eventually(t, "nothing of it runs on staging", func() bool { return len(loaders()) == 0 && atWork(t) == "" })
			if end.code == -1 { // the next run cleans up
				eventually(t, "the lock ends with the connection", func() bool { return mage(s.dir, "staging:plan").Run() == nil })
			}
			if diff := gocmp.Diff(before, staged(t)); diff != "" {
				t.Errorf("staging is not what it was: %s", diff)
			}
		})
	}
}

func killLoader() error {
	pids := loaders()
	if len(pids) != 1 {
		return fmt.Errorf("one loader expected, found %d", len(pids))
	}
	return syscall.Kill(pids[0], syscall.SIGKILL)
}

func TestWhatIsWrongHasItsExitCodeAndHintWhereStagingFindsIt(t *testing.T) {
	expression := func(expression string) func(*specimen, *testing.T) {
		return func(s *specimen, t *testing.T) {
			path(filepath.Join(s.dir, "sql", "shop", "columns.yaml")).substitute(t, "to_tsvector('simple', '')", expression)
		}
	}
	for _, c := range []struct {
		name   string
		breaks func(s *specimen, t *testing.T)
		code   int
		says   string
	}{
		{"a damaged file", func(s *specimen, t *testing.T) { s.at("dump").largest(t).flip(t) }, 3,
			`^backup \S+Z is damaged: /\S+/dump/\d+\.dat\.gz on backup does not have the bytes of its manifest .*\n  next: the disk or the file is damaged`},
		{"a mask that fails", expression("(1 / (id - 7))::text::tsvector"), 4,
			`^loading public\.customers on staging: SQLSTATE 22012\n  next: does the mask in columns\.yaml fit its column\?`},
		{"a mask that makes a card", expression("to_tsvector('simple', '4111111111111111')"), 4,
			`^staging would hold values of production:\n  public\.customers\.search_doc: card, .*\n  next: mask the column`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSpecimen(t)
			t.Cleanup(func() { removeLoaders(t) })
			databases := stagingDatabases(t)
			c.breaks(s, t)
			transfer(t, s.dir, "direct")
			s.try(t, try{target: "staging:reset", code: c.code, says: c.says})
			checkNothingIsLeft(t, databases)
			eventually(t, "nothing of it runs on staging", func() bool { return len(loaders()) == 0 && atWork(t) == "" })
		})
	}
}

// otherSSHD gives staging an sshd with other lines in its configuration.
func (s *specimen) otherSSHD(t *testing.T, lines ...string) {
	t.Helper()
	hosts := path(filepath.Join(s.dir, "hosts.yaml"))
	sshd := startSSHD(t, hosts, "staging", lines...)
	host := regexp.MustCompile(`(?m)(  staging:\n    address: )".*"(\n(?:    .*\n)*?    host_key: )".*"`)
	text := hosts.read(t)
	if !host.Match(text) {
		t.Fatalf("no staging in %s", text)
	}
	hosts.write(t, host.ReplaceAll(text, fmt.Appendf(nil, `${1}"127.0.0.1:%d"${2}%q`, sshd.Port, sshd.HostKey)))
}

// startSSHD starts an sshd that lets the user of an inventory in.
func startSSHD(t *testing.T, hosts path, name string, lines ...string) *lab.SSHD {
	t.Helper()
	key, err := strconv.Unquote(string(regexp.MustCompile(`identity: (".*")`).FindSubmatch(hosts.read(t))[1]))
	if err != nil {
		t.Fatal(err)
	}
	sshd, err := lab.StartSSHD(t.Context(), name, t.TempDir(), string(path(key+".pub").read(t)), lines...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sshd.Stop() })
	return sshd
}

// The runner reaches both hosts by way of another; staging reaches the backup host without.
func TestADirectResetNeedsNoJumpHostBetweenStagingAndTheBackup(t *testing.T) {
	for forwarding, code := range map[string]int{"yes": 0, "no": 6} { // with "no" nothing works, so it is the way that is taken
		t.Run("AllowTcpForwarding "+forwarding, func(t *testing.T) {
			s := newSpecimen(t)
			t.Cleanup(func() { removeLoaders(t) })
			transfer(t, s.dir, "direct")
			hosts := path(filepath.Join(s.dir, "hosts.yaml"))
			sshd := startSSHD(t, hosts, "bastion", "AllowTcpForwarding "+forwarding)
			like := regexp.MustCompile(`(?m)^  staging:\n    address: .*\n(    user: .*\n)    role: staging\n(    identity: .*\n)`).FindSubmatch(hosts.read(t))
			if like == nil {
				t.Fatalf("no staging in %s", hosts.read(t))
			}
			hosts.substitute(t, "\nhosts:\n", fmt.Sprintf("\nhosts:\n  bastion:\n    address: \"127.0.0.1:%d\"\n%s    role: jump\n%s    host_key: %q\n",
				sshd.Port, like[1], like[2], sshd.HostKey))
			for _, role := range []string{"staging", "backup"} {
				hosts.substitute(t, "    role: "+role+"\n", "    role: "+role+"\n    via: bastion\n")
			}
			out, got := output(mage(s.dir, "staging:reset"))
			if got != code || code == 0 && !strings.Contains(out, "transfer: direct") {
				t.Errorf("exit code %d\n%s", got, out)
			}
		})
	}
}

// impossible are reasons why staging cannot pull the backup itself.
var impossible = []struct {
	name   string
	breaks func(s *specimen, t *testing.T)
	says   string

	refused, relayed string // targets
}{
	{"staging's sshd forwards no agent", func(s *specimen, t *testing.T) { s.otherSSHD(t, "AllowAgentForwarding no") }, `staging: its sshd forwards no agent`, "staging:plan", "staging:reset"},
	{"staging does not reach the backup host", func(s *specimen, t *testing.T) { s.gate(t, func() bool { return true }) }, `from staging: .*backup`, "staging:reset", "staging:plan"},
}

func TestWhereStagingCannotPullTheBackupDirectIsRefusedAndRelayTakenIfTheInventoryHasIt(t *testing.T) {
	for _, c := range impossible {
		t.Run(c.name, func(t *testing.T) {
			s := newSpecimen(t)
			t.Cleanup(func() { removeLoaders(t) })
			databases, before := stagingDatabases(t), staged(t)
			c.breaks(s, t)
			transfer(t, s.dir, "direct")
			s.try(t, try{target: c.refused, code: 6, says: `^transfer: direct is not possible: .*` + c.says})
			checkNothingIsLeft(t, databases)
			if diff := gocmp.Diff(before, staged(t)); diff != "" {
				t.Errorf("staging is not what it was: %s", diff)
			}
			transfer(t, s.dir, "[direct, relay]")
			out, code := output(mage(s.dir, c.relayed))
			if code != 0 || !regexp.MustCompile(`(?m)^warning: transfer: relay, because direct is not possible: .*`+c.says).MatchString(out) {
				t.Errorf("%s: exit code %d\n%s", c.relayed, code, out)
			}
			if c.relayed == "staging:plan" && !regexp.MustCompile(`(?m)^transfer: relay: .*, because .*`+c.says).MatchString(out) {
				t.Errorf("the plan does not say why:\n%s", out)
			}
		})
	}
}

func TestAPlanSaysWhichWayTheRowsWouldTake(t *testing.T) {
	s := newSpecimen(t)
	t.Cleanup(func() { removeLoaders(t) })
	before := staged(t)
	for ways, says := range map[string]string{"relay": "transfer: relay: the rows pass through this machine\n", "[direct, relay]": "transfer: direct: staging pulls the rows from backup, "} {
		transfer(t, s.dir, ways)
		out, code := output(mage(s.dir, "staging:plan"))
		if code != 0 || !strings.Contains(out, "\n"+says) {
			t.Errorf("%s: exit code %d\n%s", ways, code, out)
		}
	}
	if diff := gocmp.Diff(before, staged(t)); diff != "" {
		t.Errorf("staging is not what it was: %s", diff)
	}
}

func TestADirectResetOutlivesALineThatFallsSilentWithoutAWord(t *testing.T) {
	s := newSpecimen(t)
	t.Cleanup(func() { removeLoaders(t) })
	s.withLetters(t, "letters: {keep: [id, body], email: [sender]}")
	s.try(t, try{target: "backup:create", verdict: "sealed"})
	transfer(t, s.dir, "direct")
	g := s.gate(t, nil)
	g.fallSilent(1 << 20)
	got := s.run(t, "staging:reset")
	if !slices.ContainsFunc(got.Warnings, func(w string) bool {
		return strings.HasPrefix(w, "reading from backup broke off and goes on where it was: ") && strings.Contains(w, "backup stopped answering")
	}) || got.ExitCode != 0 {
		t.Errorf("exit code %d after %d bytes, warnings: %q\n%s", got.ExitCode, g.passed(true), got.Warnings, got.text())
	}
}

func TestClassifyAndRollbackWhereRowsGoDirectly(t *testing.T) {
	s := newSpecimen(t)
	t.Cleanup(func() { removeLoaders(t) })
	transfer(t, s.dir, "direct")
	s.timeless(t)
	_, first := s.reset(t, "-backup="+s.id)
	s.foreign(t, "-Fc") // whose table of contents comes with rows
	s.try(t, try{target: "staging:classify -backup=" + foreignID, warns: noManifest})
	if _, second := s.reset(t, "-backup="+s.id); first == "" || second != first {
		t.Errorf("two resets: %s", gocmp.Diff(strings.Split(first, "\n"), strings.Split(second, "\n")))
	}
	s.try(t, try{target: "staging:rollback"})
	if loaders := loaders(); len(loaders) > 0 {
		t.Errorf("loaders run: %v", loaders)
	}
}
