package host

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAFileIsWrittenUnderAnyName(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	root := t.TempDir()
	for _, name := range []string{"plain", "with space/a b", `it's "quoted"/$HOME`, "-rf/-n", "new\nline/x\n", "*", `back\slash`, "ünïcode"} {
		file := filepath.Join(root, name)
		for _, text := range []string{"first\x00\xff\n", "", "second"} {
			if err := h.WriteFile(t.Context(), file, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if got := read(t, file); got != text {
				t.Errorf("%q holds %q, want %q", name, got, text)
			}
		}
		if info, _ := os.Stat(file); info.Mode() != 0o600 {
			t.Errorf("%q has mode %v", name, info.Mode())
		}
		if folder := filepath.Dir(file); folder != root {
			if info, _ := os.Stat(folder); info.Mode().Perm() != 0o700 {
				t.Errorf("%q has mode %v", folder, info.Mode())
			}
			noPartial(t, folder)
		}
	}
	noPartial(t, root)
}

func noPartial(t *testing.T, folder string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".partial") {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func TestAFileThatCannotBeWrittenLeavesNothing(t *testing.T) {
	t.Parallel()
	h := dial(t, serve(t))
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := h.WriteFile(t.Context(), filepath.Join(root, "folder"), []byte("x"))
	if err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("over a folder: %v", err)
	}
	if err := h.WriteFile(t.Context(), "/dev/null/x", []byte("x")); err == nil {
		t.Error("below a file: no error")
	}
	noPartial(t, root)
}

func TestAnInterruptedWriteLeavesTheOldFile(t *testing.T) {
	t.Parallel()
	spec := serve(t)
	proxy := proxied(t, spec)
	h := dial(t, spec)
	file := filepath.Join(t.TempDir(), "file")
	if err := h.WriteFile(t.Context(), file, []byte("old")); err != nil {
		t.Fatal(err)
	}
	ends := map[string]func(cancel func()){"cut": func(func()) { proxy.Cut() }, "cancelled": func(cancel func()) { cancel() }}
	for name, end := range ends {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		proxy.SetDelay(100 * time.Millisecond) // so that all of it takes half a minute
		written := make(chan error, 1)
		go func() { written <- h.WriteFile(ctx, file, bytes.Repeat([]byte("new"), 100<<20)) }()
		eventually(t, "some of it has arrived", 10*time.Second, func() bool {
			partial, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*.partial"))
			return len(partial) == 1 && size(partial[0]) > 0
		})
		end(cancel)
		if err := <-written; err == nil {
			t.Errorf("%s: no error", name)
		}
		proxy.SetDelay(0)
		eventually(t, name+": the partial file is gone", 5*time.Second, func() bool {
			entries, _ := os.ReadDir(filepath.Dir(file))
			return len(entries) == 1
		})
		if got := read(t, file); got != "old" {
			t.Errorf("%s: the file holds %d bytes", name, len(got))
		}
	}
}

func size(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}
