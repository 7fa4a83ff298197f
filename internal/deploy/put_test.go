package deploy

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// far is a host behind a real sshd, whose folder for our files is state.
type far struct {
	*host.Host
	spec  *inventory.Host
	sshd  *lab.SSHD
	state string
}

// dial starts a host with these variables. Its HOME is empty: nobody's start files have a say in its PATH.
func dial(t testing.TB, state string, variables ...string) *far {
	t.Helper()
	variables = append(variables, "HOME="+t.TempDir())
	sshd, spec, err := lab.StartHost(t.Context(), inventory.Host{Name: "vault", Role: inventory.Backup, State: state}, t.TempDir(),
		"LogLevel VERBOSE", "SetEnv "+strings.Join(variables, " "))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sshd.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &far{connect(t, spec), spec, sshd, state}
}

func connect(t testing.TB, spec *inventory.Host) *host.Host {
	t.Helper()
	h, err := host.Dial(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// commands is how many the host has run, as its sshd's log says.
func (f *far) commands(t *testing.T) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(f.sshd.Dir, "sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(log, []byte("Starting session: "))
}

// files are the names in the host's state folder.
func (f *far) files(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(f.state)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// beside puts a program beside this test's own, where a compiled magefile has its agent.
func beside(t *testing.T, text string) {
	t.Helper()
	for _, arch := range platforms {
		file, err := agent.besideUs(arch)
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, text)
		t.Cleanup(func() { os.Remove(file) })
	}
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// fine is a program that keeps the agent's one promise.
const fine = "#!/bin/sh\nexit 0\n"

func put(t *testing.T, f *far) string {
	t.Helper()
	at, err := Put(t.Context(), f.Host)
	if err != nil {
		t.Fatalf("%v\nnext: %s", err, run.HintOf(err))
	}
	return at
}

// wantRefusal checks that the host is what is wrong, and that the message and the hint say each of the texts.
func wantRefusal(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if run.CodeOf(err) != run.Unreachable {
		t.Errorf("%v: exit code %d, want %d", err, run.CodeOf(err), run.Unreachable)
	}
	all := err.Error() + "\n" + run.HintOf(err)
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("%s\nwant it to say %q", all, text)
		}
	}
}

func TestTheAgentIsBuiltAndPutThereByTwoCommandsAndFoundAgainByOne(t *testing.T) {
	module(t)
	f := dial(t, filepath.Join(t.TempDir(), "our state"))
	before := f.commands(t)
	at := put(t, f)
	if n := f.commands(t) - before; n != 2 {
		t.Errorf("%d commands to put it there, want 2", n)
	}
	p, err := agent.read(at)
	if err != nil {
		t.Fatal(err)
	}
	if at != f.State(p.file()) || !slices.Equal(f.files(t), []string{p.file()}) {
		t.Errorf("it is at %s, with the sha256 %s, among %q", at, p.sum, f.files(t))
	}
	info, err := os.Stat(at)
	if err != nil || info.Mode() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if out, err := exec.CommandContext(t.Context(), at, "-version").CombinedOutput(); err != nil || string(out) != "agent 1\n" {
		t.Errorf("it says %q, %v", out, err)
	}
	before = f.commands(t)
	if again := put(t, f); again != at {
		t.Errorf("then it is at %s, before at %s", again, at)
	}
	if n := f.commands(t) - before; n != 1 {
		t.Errorf("%d commands to find it again, want 1", n)
	}
	if now, err := os.Stat(at); err != nil || !os.SameFile(info, now) {
		t.Errorf("the file was replaced: %v", err)
	}
}

func TestAnAgentThatIsNotWhatItsNameSaysIsReplaced(t *testing.T) {
	beside(t, fine)
	f := dial(t, t.TempDir())
	at := put(t, f)
	for what, text := range map[string]string{
		"other bytes":    strings.Replace(fine, "0", "9", 1),
		"cut short":      fine[:len(fine)-5],
		"empty":          "",
		"bytes appended": fine + "\n",
	} {
		write(t, at, text)
		if put(t, f); !holds(at, fine) {
			t.Errorf("%s: not replaced", what)
		}
	}
	if err := os.Chmod(at, 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, f)
	if info, err := os.Stat(at); err != nil || info.Mode() != 0o700 {
		t.Errorf("one that is no program: not replaced: %v", err)
	}
}

func holds(file, text string) bool {
	got, err := os.ReadFile(file)
	return err == nil && string(got) == text
}

func TestAnotherProgramUnderTheAgentsNameIsNotRun(t *testing.T) {
	beside(t, fine)
	f := dial(t, t.TempDir())
	trap := filepath.Join(t.TempDir(), "trap")
	write(t, filepath.Join(f.state, "agent-0123456789abcdef"), "#!/bin/sh\ntouch "+trap)
	put(t, f)
	if _, err := os.Stat(trap); err == nil {
		t.Error("it was run")
	}
}

func TestAFolderInThePlaceOfTheAgentIsAnError(t *testing.T) {
	beside(t, fine)
	f := dial(t, t.TempDir())
	at := put(t, f)
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Put(t.Context(), f.Host)
	wantRefusal(t, err, at+" is a directory")
}

func TestAnAgentIsBelievedByItsWholeSha256(t *testing.T) {
	p := &program{source: agent, data: []byte(fine), sum: sumOf(fine)}
	for sum, want := range map[string]bool{p.sum: true, "-": true, p.sum[:63] + "x": false, p.sum[:16]: false} {
		there := &remote{programs: []lying{{"agent-0", p.sum, len(fine)}, {p.file(), sum, len(fine)}}}
		if there.has(p) != want {
			t.Errorf("%s: believed is %v", sum, !want)
		}
	}
}

// tools makes a folder with these tools of this machine alone.
func tools(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		real, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(real, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAHostWithoutGzipAndSha256sumGetsTheAgentToo(t *testing.T) {
	beside(t, fine)
	f := dial(t, t.TempDir(), "PATH="+tools(t, "sh", "uname", "wc", "mkdir", "cat", "chmod", "mv", "rm", "sleep"))
	before := f.commands(t)
	at := put(t, f)
	put(t, f)
	if n := f.commands(t) - before; n != 3 || !holds(at, fine) {
		t.Errorf("%d commands to put it there and to find it again, want 3", n)
	}
	write(t, at, fine[:len(fine)-2])
	if put(t, f); !holds(at, fine) {
		t.Error("one that was cut short was believed")
	}
}

func TestOnlyPlatformsThatTheAgentIsBuiltForAreTaken(t *testing.T) {
	beside(t, fine)
	for platform, refused := range map[string]bool{"Linux riscv64": true, "Darwin arm64": true, "Linux aarch64": false} {
		bin := t.TempDir()
		write(t, filepath.Join(bin, "uname"), "#!/bin/sh\n[ \"$*\" = -sm ] && echo "+platform+"\n")
		f := dial(t, t.TempDir(), fmt.Sprintf("PATH=%s:%s", bin, os.Getenv("PATH")))
		_, err := Put(t.Context(), f.Host)
		if refused {
			wantRefusal(t, err, "vault", strconv.Quote(platform), "x86_64 or aarch64")
		} else if err != nil {
			t.Errorf("%s: %v", platform, err)
		}
	}
}

func TestAStateFolderThatCannotBeMadeIsTheHostsFault(t *testing.T) {
	beside(t, fine)
	_, err := Put(t.Context(), dial(t, "/dev/null/rehearsal").Host)
	wantRefusal(t, err, "putting the agent there, in /dev/null/rehearsal on vault", "Not a directory", "`state` of vault in the inventory")
}

func TestAnAgentThatDoesNotRunIsNotLeftThere(t *testing.T) {
	beside(t, "#!/bin/sh\necho bad instruction >&2; exit 3\n")
	f := dial(t, t.TempDir())
	_, err := Put(t.Context(), f.Host)
	wantRefusal(t, err, "does not run on vault", "bad instruction", "status 3")
	if left := f.files(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// mount puts a tmpfs onto a new folder.
func mount(t *testing.T, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("this root may not mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.Background(), "umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return dir
}

func TestANoexecStateFolderIsSaidToBeOne(t *testing.T) {
	beside(t, fine)
	f := dial(t, mount(t, "noexec"))
	for range 2 {
		_, err := Put(t.Context(), f.Host)
		wantRefusal(t, err, "vault does not run programs from "+f.state, "Permission denied", "`state` of vault", "without noexec")
		if left := f.files(t); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
}

func TestAStateFolderThatBecameNoexecIsNoticed(t *testing.T) {
	beside(t, fine)
	f := dial(t, mount(t, "exec"))
	put(t, f)
	if out, err := exec.CommandContext(t.Context(), "mount", "-o", "remount,noexec", f.state).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, err := Put(t.Context(), f.Host)
	wantRefusal(t, err, "without noexec")
}

func TestAFullDiskIsSaidToBeFull(t *testing.T) {
	beside(t, fine+strings.Repeat("# long\n", 100_000))
	for _, path := range []string{os.Getenv("PATH"), tools(t, "sh", "uname", "wc", "mkdir", "cat", "chmod", "mv", "rm", "sleep")} {
		f := dial(t, mount(t, "size=64k"), "PATH="+path)
		_, err := Put(t.Context(), f.Host)
		wantRefusal(t, err, "vault has no room for the agent in "+f.state, "make room")
		if left := f.files(t); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
}

func TestHalfOfAnAgentIsNeverInstalled(t *testing.T) {
	f := dial(t, t.TempDir())
	good := &program{source: agent, data: []byte(fine), sum: sumOf(fine)}
	other := packed([]byte(strings.Replace(fine, "0", "1", 1)))
	for what, c := range map[string]struct {
		packing string
		data    []byte
		says    string
	}{
		"half of it":        {"plain", good.data[:len(good.data)/2], "not all of it arrived"},
		"nothing":           {"plain", nil, "not all of it arrived"},
		"half of it packed": {"gzip", packed(good.data)[:20], "unexpected end of file"},
		"other bytes":       {"gzip", other, "it arrived as another file"},
	} {
		at, partial := f.State(good.file()), f.State(".agent-x.partial")
		err := f.Run(t.Context(), host.Cmd{Script: install, Stdin: bytes.NewReader(c.data),
			Args: []string{f.state, partial, at, strconv.Itoa(len(good.data)), good.sum, c.packing}})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
		if left := f.files(t); len(left) > 0 {
			t.Errorf("%s: left: %q", what, left)
		}
	}
}

func TestAgentsOfOtherVersionsGoOnceTheyAreADayOld(t *testing.T) {
	beside(t, fine)
	f := dial(t, t.TempDir())
	for name, age := range map[string]time.Duration{
		"agent-old": 49 * time.Hour, ".agent-old.partial": 49 * time.Hour, "agent-young": time.Hour,
		".agent-young.partial": 0, "locks": 49 * time.Hour, "agent-folder/agent-old": 49 * time.Hour,
	} {
		file, then := filepath.Join(f.state, name), time.Now().Add(-age)
		write(t, file, name)
		if err := os.Chtimes(file, then, then); err != nil {
			t.Fatal(err)
		}
	}
	at := put(t, f)
	want := []string{".agent-young.partial", filepath.Base(at), "agent-folder", "agent-young", "locks"}
	if got := f.files(t); !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(f.state, "agent-folder", "agent-old")); err != nil {
		t.Error(err)
	}
}

func TestTwoRunsMayPutTheSameAgentAtOnce(t *testing.T) {
	beside(t, fine)
	f := dial(t, t.TempDir())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if at, err := Put(t.Context(), f.Host); err != nil || !holds(at, fine) {
				t.Errorf("%s: %v", at, err)
			}
		})
	}
	all.Wait()
	if left := f.files(t); len(left) != 1 {
		t.Errorf("left: %q", left)
	}
}

func TestALineThatDropsLeavesNothing(t *testing.T) {
	// Noise does not pack: more is to come than the window of the channel lets through in one round trip.
	beside(t, fine+noise(4<<20))
	f := dial(t, t.TempDir())
	proxy := delayed(t, f, 200*time.Millisecond)
	h := connect(t, f.spec)
	done := make(chan error)
	go func() {
		_, err := Put(t.Context(), h)
		done <- err
	}()
	for end := time.Now().Add(10 * time.Second); len(f.files(t)) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	proxy.Cut()
	wantRefusal(t, <-done, "vault")
	for end := time.Now().Add(5 * time.Second); len(f.files(t)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("left: %q", f.files(t))
		}
	}
}

// delayed moves the host away by one round trip time.
func delayed(t testing.TB, f *far, rtt time.Duration) *lab.Proxy {
	t.Helper()
	proxy, err := lab.NewProxy(f.spec.Address, rtt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	f.spec.Address = proxy.Addr()
	return proxy
}

// BenchmarkPut is a host at 150 ms, with an agent of a usual size that was built before.
func BenchmarkPut(b *testing.B) {
	module(b)
	for _, there := range []bool{false, true} {
		b.Run(fmt.Sprintf("there=%v", there), func(b *testing.B) {
			f := dial(b, b.TempDir())
			delayed(b, f, 150*time.Millisecond)
			h := connect(b, f.spec)
			for b.Loop() {
				at, err := Put(b.Context(), h)
				if err != nil {
					b.Fatal(err)
				}
				if !there {
					os.Remove(at)
				}
			}
		})
	}
}
