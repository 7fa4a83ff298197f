package bench

import (
	"context"
	"os"
	"regexp"
	"runtime"
	"strconv"

	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// machine is what a reader needs to know before comparing these figures with others.
type machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Memory     int64  `json:"memory_bytes"`
	Kernel     string `json:"kernel"`
	PostgreSQL string `json:"postgresql"`
	Settings   string `json:"settings"` // those of staging that decide
}

var (
	modelName = regexp.MustCompile(`(?m)^model name\s*: (.+)$`)
	memTotal  = regexp.MustCompile(`(?m)^MemTotal:\s*(\d+) kB$`)
	osRelease = regexp.MustCompile(`(?m)^(\S+)$`)
)

func look(ctx context.Context, c *lab.Cluster) (m machine, err error) {
	kB, _ := strconv.ParseInt(find("/proc/meminfo", memTotal), 10, 64)
	m = machine{CPU: find("/proc/cpuinfo", modelName), Cores: runtime.NumCPU(), Memory: kB * 1024, Kernel: find("/proc/sys/kernel/osrelease", osRelease)}
	if m.PostgreSQL, err = c.SQL(ctx, "postgres", "show server_version;"); err != nil {
		return m, err
	}
	m.Settings, err = c.SQL(ctx, "postgres", `select string_agg(name || '=' || current_setting(name), ', ' order by name) from pg_settings
		where name in ('fsync', 'full_page_writes', 'maintenance_work_mem', 'max_wal_size', 'shared_buffers', 'synchronous_commit', 'wal_level');`)
	return m, err
}

// find is the first submatch in a file, "unknown" where there is none: not every processor tells its name.
func find(path string, pattern *regexp.Regexp) string {
	text, _ := os.ReadFile(path)
	if m := pattern.FindSubmatch(text); m != nil {
		return string(m[1])
	}
	return "unknown"
}

func (m machine) rows() [][]string {
	return [][]string{
		{"processor", m.CPU + ", " + strconv.Itoa(m.Cores) + " cores, shared by both clusters, all SSH servers and the runner"},
		{"memory", run.Bytes(m.Memory)},
		{"kernel", m.Kernel},
		{"PostgreSQL", m.PostgreSQL},
		{"settings", m.Settings},
	}
}
