package images

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rehearsal/internal/run"
)

// The list is for rsync --from0 --files-from, which takes a name that begins with # or ; for a comment.
func TestRsyncBringsWhatTheListNames(t *testing.T) {
	rsync, err := exec.LookPath("rsync")
	if err != nil {
		t.Skip("rsync is not installed")
	}
	t.Parallel()
	s := twoHosts(t)
	odd := []string{"#hash.jpg", ";semicolon.jpg", "-dash.jpg", "--delete", "new\nline\n.jpg", "bad\xff\xfe.jpg", " blank .jpg", "tab\t.jpg",
		"*.jpg", "[a-b]?.jpg", "$(reboot).jpg", "back\\slash.jpg", "#folder/#file", ";folder/a", "..odd/...", "\u202etxt.gpj", "%41\"'.jpg", "./dot"[2:]}
	for i := range 300 - len(odd) {
		odd = append(odd, fmt.Sprintf("of many/%d/%d.jpg", i%7, i))
	}
	for i, name := range odd {
		s.write(t, s.production, name, fmt.Appendf(nil, "%d", i))
	}
	found, fields, code := s.verify(t, Options{})
	wantCode(t, code, run.Differ)
	if len(found) != 300 || len(fields["discrepancies"].([]any)) != 300 {
		t.Fatalf("%d were found: %q", len(found), found)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	names := filepath.Join(cache, "rehearsal", "images", s.Name+".paths0")
	if list, err := os.ReadFile(names); err != nil || bytes.Count(list, []byte{0}) != 300 || list[len(list)-1] != 0 {
		t.Errorf("%d names in the list, %v", bytes.Count(list, []byte{0}), err)
	}
	if lines, err := os.ReadFile(strings.TrimSuffix(names, ".paths0")); err != nil || bytes.Count(lines, []byte("\n")) != 300 {
		t.Errorf("%d lines in the list, %v", bytes.Count(lines, []byte("\n")), err)
	}
	out, err := exec.Command(rsync, "-t", "--from0", "--files-from="+names, s.production+"/", s.backup+"/").CombinedOutput()
	if err != nil {
		t.Errorf("rsync: %v: %s", err, out)
	}
	for _, name := range odd {
		if _, err := os.Stat(filepath.Join(s.backup, name)); err != nil {
			t.Error(err)
		}
	}
	found, _, _ = s.verify(t, Options{})
	for _, one := range found {
		if !strings.HasPrefix(one, "damaged both") { // they are no images
			t.Error(one)
		}
	}
}
