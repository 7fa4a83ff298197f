package index

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func resume(t testing.TB, dir string, want bool) {
	t.Helper()
	resumed, err := Resume(dir, header)
	if err != nil || resumed != want {
		t.Fatalf("resumed %v, want %v; %v", resumed, want, err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil || len(names) != 0 {
		t.Fatalf("left behind: %q %v", names, err)
	}
}

func TestNothingIsResumedWhereNothingWasInterrupted(t *testing.T) {
	dir := t.TempDir()
	resume(t, dir, false)
	all := ordinaries(0, 500, 7)
	sealed(t, dir, all)
	resume(t, dir, false)
	same(t, rest(opened(t, dir)), all)
}

func TestResumeTakesTheNewUpToTheInterruptionAndTheOldAfterIt(t *testing.T) {
	for _, n := range []int{0, 1, 99, 100, 101, 1500, 3000} {
		dir := t.TempDir()
		sealed(t, dir, ordinaries(0, 3000, 7))
		interrupted(t, dir, ordinaries(0, n, 9))
		resume(t, dir, n > 0)
		r := opened(t, dir)
		same(t, rest(r), slices.Concat(ordinaries(0, n, 9), ordinaries(n, 3000, 7)))
		if totals, whole := r.Totals(); !whole || totals.Entries != 3000 {
			t.Errorf("interrupted after %d: %v %v", n, totals, whole)
		}
	}
}

func TestResumeForgetsWhatTheNewRunNoLongerFound(t *testing.T) {
	dir := t.TempDir()
	sealed(t, dir, ordinaries(0, 1000, 7))
	found := slices.Concat(ordinaries(0, 10, 9), ordinaries(700, 750, 9))
	interrupted(t, dir, found)
	resume(t, dir, true)
	same(t, rest(opened(t, dir)), slices.Concat(found, ordinaries(750, 1000, 7)))
}

func TestAFirstRunIsResumedWithoutTotals(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []int{500, 800} { // the second time there is an index, of a part
		interrupted(t, dir, ordinaries(0, n, uint32(n)))
		resume(t, dir, true)
		r := opened(t, dir)
		same(t, rest(r), ordinaries(0, n, uint32(n)))
		if totals, whole := r.Totals(); whole {
			t.Errorf("totals of a part: %v", totals)
		}
	}
}

func TestTwoInterruptionsInARowKeepBothReadings(t *testing.T) {
	dir := t.TempDir()
	sealed(t, dir, ordinaries(0, 3000, 7))
	interrupted(t, dir, ordinaries(0, 2000, 8))
	resume(t, dir, true)
	interrupted(t, dir, ordinaries(0, 1000, 9))
	resume(t, dir, true)
	same(t, rest(opened(t, dir)), slices.Concat(ordinaries(0, 1000, 9), ordinaries(1000, 2000, 8), ordinaries(2000, 3000, 7)))
}

func TestCreateDoesNotOverwriteWhatAnInterruptedRunKnew(t *testing.T) {
	dir := t.TempDir()
	interrupted(t, dir, ordinaries(0, 100, 7))
	if _, err := Create(dir, header); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("%v", err)
	}
	resume(t, dir, true)
	same(t, rest(opened(t, dir)), ordinaries(0, 100, 7))
}

func TestAnInterruptedRunOverSomethingElseIsForgotten(t *testing.T) {
	dir := t.TempDir()
	old := ordinaries(0, 100, 7)
	sealed(t, dir, old)
	part := filepath.Join(dir, partialName)
	w, err := Create(dir, Header{header.Root, "xxh128"})
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, ordinaries(0, 50, 9))
	w.Close()
	resume(t, dir, false)
	for _, rubbish := range []string{"", "rubbish", strings.Repeat("\x00", 1000)} {
		if err := os.WriteFile(part, []byte(rubbish), 0o600); err != nil {
			t.Fatal(err)
		}
		resume(t, dir, false)
	}
	same(t, rest(opened(t, dir)), old)
}

func TestAnIndexOfSomethingElseGivesNothingToResume(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir, Header{header.Root, "xxh128"})
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, ordinaries(0, 1000, 7))
	if _, err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	interrupted(t, dir, ordinaries(0, 100, 9))
	resume(t, dir, true)
	same(t, rest(opened(t, dir)), ordinaries(0, 100, 9))
}

func TestAPartIsResumedWhereverItWasCut(t *testing.T) {
	old := ordinaries(0, 120, 7)
	all, file := blocks(t, 5)
	for at := 0; at < len(file); at += 11 {
		dir := t.TempDir()
		sealed(t, dir, old)
		if err := os.WriteFile(filepath.Join(dir, partialName), file[:at], 0o600); err != nil {
			t.Fatal(err)
		}
		n := max(0, honest(t, file[:at], all))
		resume(t, dir, n > 0)
		same(t, rest(opened(t, dir)), slices.Concat(all[:n], old[n:]))
	}
}

func TestResumeInterruptedAtAnyStepIsDoneAgain(t *testing.T) {
	old, part := ordinaries(0, 3000, 7), ordinaries(0, 1000, 9)
	want := slices.Concat(part, old[1000:])
	made := t.TempDir() // what Resume makes
	sealed(t, made, want)
	done := read(t, filepath.Join(made, sealedName))
	for _, step := range []struct {
		what    string
		index   []filed
		resumed []byte
	}{
		{"before it began", old, nil},
		{"having begun", old, []byte{}},
		{"in the new header", old, done[:20]},
		{"half way", old, done[:len(done)/2]},
		{"before the new name", old, done},
		{"after an earlier one that was longer", old, slices.Concat(done, done)},
		{"after the new name", want, nil},
	} {
		t.Run(step.what, func(t *testing.T) {
			dir := t.TempDir()
			sealed(t, dir, step.index)
			interrupted(t, dir, part)
			if step.resumed != nil {
				if err := os.WriteFile(filepath.Join(dir, resumedName), step.resumed, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			resume(t, dir, true)
			r := opened(t, dir)
			same(t, rest(r), want)
			if _, whole := r.Totals(); !whole {
				t.Error("no totals")
			}
		})
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestMain is also the program that the tests below kill: it indexes, or resumes, in a folder that it is given.
func TestMain(m *testing.M) {
	if dir := os.Getenv("INDEX_TEST_WRITE"); dir != "" {
		write(dir)
	}
	if dir := os.Getenv("INDEX_TEST_RESUME"); dir != "" {
		_, err := Resume(dir, header)
		fmt.Println(err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const many = 60000

// write indexes without end, and says how much it has synced.
func write(dir string) {
	w, err := Create(dir, header)
	for i := 0; i < many && err == nil; i++ {
		e := ordinary(i, 9)
		err = errors.Join(w.Folder([]byte(e.Folder)), w.Add(&e.Entry))
		if i%1500 == 0 && err == nil {
			err = w.Sync()
			fmt.Println(i + 1)
		}
	}
	if err == nil {
		_, err = w.Seal()
	}
	fmt.Println("end", err)
	os.Exit(0)
}

// killed runs this program with the variable until it has said as many lines and some time more, then kills it. It
// returns the last line it said.
func killed(t *testing.T, variable string, lines int, after time.Duration) (last string) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), variable)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(out)
	for n := 0; ; n++ {
		if n == lines {
			time.AfterFunc(after, func() { c.Process.Kill() })
		}
		if !s.Scan() {
			break
		}
		last = s.Text()
	}
	c.Process.Kill()
	c.Wait()
	return last
}

func TestAKilledRunLosesOnlyWhatWasNotSynced(t *testing.T) {
	old := ordinaries(0, many, 7)
	dir := t.TempDir()
	sealed(t, dir, old)
	saved := 0 // of the run before, which was killed too
	for range 6 {
		last := killed(t, "INDEX_TEST_WRITE="+dir, rand.IntN(many/1500), time.Duration(rand.IntN(3000))*time.Microsecond)
		synced, _ := strconv.Atoi(last)
		if _, err := Resume(dir, header); err != nil {
			t.Fatal(err)
		}
		n := 0
		for i, e := range rest(opened(t, dir)) {
			if e.Read == 9 {
				n++
			}
			if i == 0 || i == n {
				same(t, []filed{e}, []filed{ordinary(i, e.Read)})
			} else if e.Inode != old[i].Inode || e.Hash != ordinary(i, e.Read).Hash {
				t.Fatalf("entry %d is %v", i, e)
			}
			if i == many-1 {
				saved = max(saved, synced)
			}
		}
		if saved < synced || n < saved {
			t.Fatalf("%d were synced, %d are left", saved, n)
		}
	}
}

func TestAKilledResumeLosesNothing(t *testing.T) {
	dir := t.TempDir()
	old, part := ordinaries(0, many, 7), ordinaries(0, many/2, 9)
	sealed(t, dir, old)
	for range 25 {
		if _, err := os.Stat(filepath.Join(dir, partialName)); err != nil { // the last one came to its end
			interrupted(t, dir, part)
		}
		killed(t, "INDEX_TEST_RESUME="+dir, 0, time.Duration(rand.IntN(40000))*time.Microsecond)
	}
	if _, err := Resume(dir, header); err != nil {
		t.Fatal(err)
	}
	same(t, rest(opened(t, dir)), slices.Concat(part, old[many/2:]))
}
