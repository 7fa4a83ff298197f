package restore

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
)

// programs makes a PATH of a shell's own programs, and of what else is in extra: a script, or "" for this machine's.
func programs(t *testing.T, extra map[string]string) string {
	dir := t.TempDir()
	names := []string{"sh", "gzip", "cat", "sleep", "kill", "ps", "rm", "mkdir", "setsid", "env", "id", "uname"}
	for name, script := range extra {
		if script == "" {
			names = append(names, name)
		} else if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		if file, err := exec.LookPath(name); err == nil {
			if err := os.Symlink(file, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestGzipIsUnpackedByZstdWhereThatWasBuiltWithZlib(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write([]byte("1\tAnna\n"))
	w.Close()
	for name, c := range map[string]struct {
		extra map[string]string
		want  string
	}{
		"without zstd":      {nil, "gzip -dc"},
		"zstd without zlib": {map[string]string{"zstd": "#!/bin/sh\necho 'zstd: /*stdin*\\: gzip file cannot be uncompressed (zstd compiled without HAVE_ZLIB) -- ignored' >&2\nexit 1\n"}, "gzip -dc"},
		"zstd":              {map[string]string{"zstd": ""}, "zstd -dc"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath("zstd"); err != nil && c.want == "zstd -dc" {
				t.Skip("zstd is not installed")
			}
			t.Setenv("PATH", programs(t, c.extra))
			local, err := host.Local(&inventory.Host{Name: "staging"})
			if err != nil {
				t.Fatal(err)
			}
			defer local.Close()
			r := &Restore{Staging: &postgres.Server{Host: local}, Backup: &archive.Backup{Manifest: &archive.Manifest{Files: []archive.File{
				{Name: "dump/1.dat.gz", Bytes: smallBytes + 1}, {Name: "dump/2.dat", Bytes: 1 << 30},
			}}}, toc: &archive.TOC{Entries: []archive.Entry{{Desc: "TABLE DATA", File: "1.dat"}, {Desc: "TABLE DATA", File: "2.dat"}}}}
			if err := r.unpackable(t.Context()); err != nil {
				t.Fatal(err)
			}
			file := r.Backup.Manifest.Files[0]
			if got := r.unpacker(file); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if got := r.unpacker(r.Backup.Manifest.Files[1]); got != "" {
				t.Errorf("what is not packed is unpacked by %q", got)
			}
			var rows bytes.Buffer
			cmd := host.Cmd{Script: r.unpacker(file), Stdin: bytes.NewReader(packed.Bytes()), Stdout: &rows}
			if err := local.Run(context.Background(), cmd); err != nil || rows.String() != "1\tAnna\n" {
				t.Errorf("%q, %v", rows.String(), err)
			}
			cmd.Stdin = bytes.NewReader(packed.Bytes()[:packed.Len()-3])
			if err := local.Run(context.Background(), cmd); err == nil {
				t.Error("a file that was cut off is as good as a whole one")
			}
		})
	}
}
