package images

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// stores is a store on two real hosts, with the same odd files on both.
type stores struct {
	*inventory.ImageStore
	production, backup string
}

// TestMain gives all tests one cache for the agent, which is built once, beside Go's own.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		cache, err := os.MkdirTemp("", "images")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(cache)
		builds, err := exec.Command("go", "env", "GOCACHE").Output()
		if err != nil {
			panic(err)
		}
		os.Setenv("GOCACHE", strings.TrimSpace(string(builds)))
		os.Setenv("XDG_CACHE_HOME", cache)
		os.Setenv("REHEARSAL_FORMAT", "json")
		return m.Run()
	}())
}

var old = time.Date(2024, 3, 1, 9, 0, 0, 0, time.UTC)

// store numbers the stores: each has a list of paths of its own.
var store atomic.Int32

func twoHosts(t *testing.T) *stores {
	t.Helper()
	s := &stores{production: t.TempDir(), backup: t.TempDir()}
	tree := func(role inventory.Role, path string) []inventory.Tree {
		sshd, spec, err := lab.StartHost(t.Context(), inventory.Host{Name: string(role), Role: role, State: t.TempDir()}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := sshd.Stop(); err != nil {
				t.Error(err)
			}
		})
		return []inventory.Tree{{Host: spec, Path: path}}
	}
	s.ImageStore = &inventory.ImageStore{Name: fmt.Sprintf("uploads%d", store.Add(1)), MaxLag: 26 * time.Hour, Hash: "blake3", Reread: 1. / 30, Ignore: []string{"*.tmp"},
		Production: tree(inventory.Production, s.production), Backup: tree(inventory.Backup, s.backup)}
	for i, name := range []string{"a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "folder/f.jpg", "folder/deep/er/g.jpg", "folder two/h.jpg",
		"odd\nline.jpg", "odd\xff.jpg", strings.Repeat("n", 251) + ".jpg", "-rf", "empty.txt"} {
		data := drawn(t, i)
		if filepath.Ext(name) != ".jpg" {
			data = nil
		}
		s.write(t, s.production, name, data)
		s.write(t, s.backup, name, data)
	}
	time.Sleep(1100 * time.Millisecond) // until then a file counts as being written
	return s
}

func drawn(t *testing.T, i int) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 64, 64))
	for j := range img.Pix {
		img.Pix[j] = byte(j * (i + 3))
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, img, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (s *stores) write(t *testing.T, root, name string, data []byte) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
}

// alter changes a byte in the middle of a file and nothing that stat tells but the ctime.
func (s *stores) alter(t *testing.T, root, name string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)*2/3] ^= 1
	s.write(t, root, name, data)
}

// verify runs images:verify, and returns what it found as lines, the fields of its JSON object, and its exit code.
func (s *stores) verify(t *testing.T, o Options) (found []string, fields map[string]any, code run.Code) {
	t.Helper()
	_ = run.Main(t.Context(), "images:verify", func(ctx context.Context, target *run.Target) error {
		all, err := compare(ctx, target, []*inventory.ImageStore{s.ImageStore}, o)
		if err == nil {
			err = report(target, all)
			found = readList(t, all[0].found.list.path)
		}
		if err != nil {
			t.Log(err)
		}
		fields, code = target.Report(), run.CodeOf(err)
		return nil
	})
	return found, fields, code
}

// readList returns the lines of a list of paths: kind, side and path.
func readList(t *testing.T, list string) (found []string) {
	t.Helper()
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(line, "\t")
		found = append(found, fields[0]+" "+fields[1]+" "+fields[6])
	}
	return found
}

func wantCode(t *testing.T, got, want run.Code) {
	t.Helper()
	if got != want {
		t.Errorf("the exit code is %d, want %d", got, want)
	}
}

func wantField(t *testing.T, fields map[string]any, key string, want int) {
	t.Helper()
	if got := fmt.Sprint(fields[key]); got != fmt.Sprint(want) {
		t.Errorf("%s is %s, want %d", key, got, want)
	}
}

func wantFound(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
}

func TestAnIdenticalTreeWithOddNamesIsReadOnce(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	found, fields, code := s.verify(t, Options{})
	wantFound(t, found)
	wantCode(t, code, run.Done)
	wantField(t, fields, "files", 13)
	wantField(t, fields, "identical", 13)
	first := fmt.Sprint(fields["read_bytes"])
	if total := fmt.Sprint(fields["bytes"]); first == "0" || total == "0" {
		t.Errorf("the first run read %s bytes of %s", first, total)
	}
	_, fields, code = s.verify(t, Options{})
	wantCode(t, code, run.Done)
	if again := fmt.Sprint(fields["read_bytes"]); len(again) >= len(first) {
		t.Errorf("the second run read %s bytes, the first %s", again, first)
	}
	_, fields, _ = s.verify(t, Options{Full: true})
	if all := fmt.Sprint(fields["read_bytes"]); all != first {
		t.Errorf("a full run read %s bytes, the first %s", all, first)
	}
}

func TestEveryKindOfDiscrepancyIsFoundOnItsSide(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	if _, _, code := s.verify(t, Options{}); code != run.Done {
		t.Fatal("the trees are not identical at first")
	}
	remove := func(root, name string) {
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	remove(s.backup, "folder/deep/er/g.jpg")
	remove(s.production, "odd\nline.jpg")
	s.alter(t, s.backup, "a.jpg")
	s.alter(t, s.production, "odd\xff.jpg")
	s.write(t, s.backup, "b.jpg", drawn(t, 1)[:200])
	s.write(t, s.production, "c.jpg", drawn(t, 2)[:200])
	s.write(t, s.backup, "c.jpg", drawn(t, 2)[:200])
	s.write(t, s.production, "d.jpg", drawn(t, 20))
	s.write(t, s.production, "ignored.tmp", nil)
	if err := os.WriteFile(filepath.Join(s.production, "fresh.jpg"), drawn(t, 3), 0o644); err != nil {
		t.Fatal(err)
	}
	remove(s.backup, "e.jpg")
	if err := os.Symlink("a.jpg", filepath.Join(s.backup, "e.jpg")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`missing backup "folder/deep/er/g.jpg"`, `extra backup "odd\nline.jpg"`,
		`different backup "a.jpg"`, `different production "odd\xff.jpg"`,
		`damaged backup "b.jpg"`, `damaged both "c.jpg"`, `different unknown "d.jpg"`,
		`pending backup "fresh.jpg"`, `different unknown "e.jpg"`,
	}
	for _, o := range []Options{{}, {}, {Full: true}} { // what was found is not forgotten
		found, fields, code := s.verify(t, o)
		wantFound(t, found, want...)
		wantCode(t, code, run.Differ)
		wantField(t, fields, "pending", 1)
		wantField(t, fields, "identical", 5)
	}
}

func TestAnEmptyProductionIsRefused(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	s.ImageStore.Production[0].Path = t.TempDir()
	_, _, code := s.verify(t, Options{})
	wantCode(t, code, run.Unfit)
	s.ImageStore.Production[0].Path = filepath.Join(s.production, "nowhere")
	_, _, code = s.verify(t, Options{})
	wantCode(t, code, run.Unfit)
	s.ImageStore.Production[0].Path = filepath.Join(s.production, "a.jpg")
	_, _, code = s.verify(t, Options{})
	wantCode(t, code, run.Usage)
}

func TestWhatCannotBeReadIsNeverEqual(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything")
	}
	t.Parallel()
	s := twoHosts(t)
	for _, root := range []string{s.production, s.backup} {
		if err := os.Chmod(filepath.Join(root, "a.jpg"), 0); err != nil {
			t.Fatal(err)
		}
	}
	found, fields, code := s.verify(t, Options{})
	wantFound(t, found, `unreadable both "a.jpg"`)
	wantCode(t, code, run.Incomplete)
	wantField(t, fields, "unchecked", 1)
}

// agents are the pids of the agents that run from the state folder of a host.
func agents(t *testing.T, host *inventory.Host) (pids []int) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, exe := range processes {
		if program, err := os.Readlink(exe); err == nil && strings.HasPrefix(program, host.State) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(exe))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func TestAnAgentThatIsKilledIsGoneOnWith(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	for i := range 300 {
		data := bytes.Repeat([]byte{byte(i)}, 50_000)
		s.write(t, s.production, fmt.Sprintf("many/%d/%d.dat", i/10, i), data)
		s.write(t, s.backup, fmt.Sprintf("many/%d/%d.dat", i/10, i), data)
	}
	s.ReadLimit = 10e6 // 1.5 s
	killed := make(chan int, 1)
	go func() {
		defer close(killed)
		for t.Context().Err() == nil {
			time.Sleep(20 * time.Millisecond)
			if s.scanning(t) {
				pid := agents(t, s.Production[0].Host)[0]
				_ = syscall.Kill(pid, syscall.SIGKILL)
				killed <- pid
				return
			}
		}
	}()
	found, fields, code := s.verify(t, Options{Full: true})
	if <-killed == 0 {
		t.Fatal("no agent ran")
	}
	wantFound(t, found)
	wantCode(t, code, run.Done)
	wantField(t, fields, "identical", 313)
	if warnings := fmt.Sprint(fields["warnings"]); !strings.Contains(warnings, "going on in") {
		t.Errorf("the warnings are %s", warnings)
	}
	for _, tr := range []inventory.Tree{s.Production[0], s.Backup[0]} {
		if pids := agents(t, tr.Host); len(pids) > 0 {
			t.Errorf("agents that still run on %s: %v", tr.Host.Name, pids)
		}
	}
}

// scanning tells whether production's agent has begun its index, which it locks before.
func (s *stores) scanning(t *testing.T) bool {
	t.Helper()
	begun, err := filepath.Glob(filepath.Join(s.Production[0].Host.State, "images", "*", "index.partial"))
	if err != nil {
		t.Fatal(err)
	}
	return len(begun) > 0 && len(agents(t, s.Production[0].Host)) > 0
}

func TestTwoRunsAtOnceAreRefused(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	s.write(t, s.production, "large.dat", make([]byte, 20e6))
	s.write(t, s.backup, "large.dat", make([]byte, 20e6))
	s.ReadLimit = 10e6
	first := make(chan run.Code)
	go func() {
		_, _, code := s.verify(t, Options{})
		first <- code
	}()
	for !s.scanning(t) {
		time.Sleep(20 * time.Millisecond)
	}
	_, _, code := s.verify(t, Options{})
	wantCode(t, code, run.Locked)
	wantCode(t, <-first, run.Done)
}

// The files of one folder lie on two trees, and a name on both of them.
func TestAStoreMayBeSpreadOverSeveralFolders(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	second := t.TempDir()
	if err := os.MkdirAll(filepath.Join(second, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	move := func(name string) {
		if err := os.Rename(filepath.Join(s.production, name), filepath.Join(second, name)); err != nil {
			t.Fatal(err)
		}
	}
	move("a.jpg")
	move("folder/f.jpg")
	s.Production = append(s.Production, inventory.Tree{Host: s.Production[0].Host, Path: second})
	found, fields, code := s.verify(t, Options{})
	wantFound(t, found)
	wantCode(t, code, run.Done)
	wantField(t, fields, "identical", 13)

	s.write(t, second, "b.jpg", drawn(t, 30))
	if err := os.Remove(filepath.Join(s.backup, "folder/f.jpg")); err != nil {
		t.Fatal(err)
	}
	found, _, code = s.verify(t, Options{})
	wantFound(t, found, `unreadable production "b.jpg"`, `missing backup "folder/f.jpg"`)
	wantCode(t, code, run.Differ)
}

func TestADeepRunReadsWhatWasNeverDecodedOnce(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	bad := drawn(t, 4) // whole for whoever looks at its markers alone
	bad = append(bad[:len(bad)*2/3:len(bad)*2/3], 0xff, 0xd9)
	s.write(t, s.production, "e.jpg", bad)
	s.write(t, s.backup, "e.jpg", bad)
	time.Sleep(1100 * time.Millisecond)
	found, first, code := s.verify(t, Options{})
	wantFound(t, found)
	wantCode(t, code, run.Done)
	for range 2 {
		found, _, code = s.verify(t, Options{Deep: true})
		wantFound(t, found, `damaged both "e.jpg"`)
		wantCode(t, code, run.Differ)
	}
	_, deep, _ := s.verify(t, Options{Deep: true})
	if a, b := fmt.Sprint(deep["read_bytes"]), fmt.Sprint(first["read_bytes"]); len(a) >= len(b) {
		t.Errorf("the third deep run read %s bytes, the first run %s", a, b)
	}
}

// repair runs images:repair and returns its JSON object's fields and its exit code.
func (s *stores) repair(t *testing.T, dryRun bool) (fields map[string]any, code run.Code) {
	t.Helper()
	_ = run.Main(t.Context(), "images:repair", func(ctx context.Context, target *run.Target) error {
		err := Repair(ctx, target, []*inventory.ImageStore{s.ImageStore}, dryRun)
		if err != nil {
			t.Log(err)
		}
		fields, code = target.Report(), run.CodeOf(err)
		return nil
	})
	return fields, code
}

func (s *stores) read(t *testing.T, root, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRepairCopiesWhatIsCertainAndLeavesTheRest(t *testing.T) {
	t.Parallel()
	s := twoHosts(t)
	if _, _, code := s.verify(t, Options{}); code != run.Done {
		t.Fatal("the trees are not identical at first")
	}
	whole := map[string][]byte{}
	for _, name := range []string{"a.jpg", "b.jpg", "c.jpg", "folder/deep/er/g.jpg", "odd\xff.jpg", "d.jpg"} {
		whole[name] = s.read(t, s.production, name)
	}
	if err := os.RemoveAll(filepath.Join(s.backup, "folder")); err != nil {
		t.Fatal(err)
	}
	s.alter(t, s.backup, "a.jpg")
	s.alter(t, s.production, "odd\xff.jpg")
	s.write(t, s.backup, "b.jpg", whole["b.jpg"][:200])
	s.write(t, s.production, "c.jpg", whole["c.jpg"][:200])
	s.write(t, s.production, "d.jpg", drawn(t, 20)) // nothing tells
	s.write(t, s.backup, "extra.jpg", drawn(t, 21))
	rotted := s.read(t, s.backup, "a.jpg")

	fields, code := s.repair(t, true)
	wantCode(t, code, run.Done)
	if n := len(fields["copies"].([]any)); n != 6 {
		t.Errorf("the plan copies %d: %v", n, fields["copies"])
	}
	if got := s.read(t, s.backup, "a.jpg"); !bytes.Equal(got, rotted) {
		t.Error("a dry run changed the backup")
	}

	fields, code = s.repair(t, false)
	wantCode(t, code, run.Differ)
	if n := len(fields["left"].([]any)); n != 2 {
		t.Errorf("%d are left: %v", n, fields["left"])
	}
	delete(whole, "d.jpg")
	for name, want := range whole {
		for _, root := range []string{s.production, s.backup} {
			if got := s.read(t, root, name); !bytes.Equal(got, want) {
				t.Errorf("%q in %s is not mended", name, root)
			}
			if st, err := os.Stat(filepath.Join(root, name)); err != nil || !st.ModTime().Equal(old) || st.Mode().Perm() != 0o644 {
				t.Errorf("%q in %s: %v, %v", name, root, st, err)
			}
		}
	}
	kept, err := filepath.Glob(filepath.Join(s.Backup[0].Host.State, "replaced", "*", s.Name, "a.jpg"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept: %v, %v", kept, err)
	}
	if got := s.read(t, "", kept[0]); !bytes.Equal(got, rotted) {
		t.Error("what was replaced is not what is kept")
	}
	found, _, _ := s.verify(t, Options{Full: true})
	wantFound(t, found, `different unknown "d.jpg"`, `extra backup "extra.jpg"`)
	for _, root := range []string{s.production, s.backup} {
		if drafts, _ := filepath.Glob(filepath.Join(root, ".rehearsal-*")); len(drafts) > 0 {
			t.Errorf("left behind: %v", drafts)
		}
	}
	if _, code = s.repair(t, false); code != run.Differ {
		t.Errorf("a second repair ends with %d", code)
	}
}
