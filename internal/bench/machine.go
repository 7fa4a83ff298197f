package bench

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"rehearsal/internal/run"
)

// machine is what a reader needs to know before comparing these figures with others.
type machine struct {
	CPU      string    `json:"cpu"`
	Cores    int       `json:"cores"`
	Memory   int64     `json:"memory_bytes"`
	Kernel   string    `json:"kernel"`
	Programs []program `json:"programs"`
}

// program is one that takes part.
type program struct {
	Name    string `json:"name"`
	Version string `json:"version"` // with the settings that decide
}

var (
	modelName = regexp.MustCompile(`(?m)^model name\s*: (.+)$`)
	memTotal  = regexp.MustCompile(`(?m)^MemTotal:\s*(\d+) kB$`)
	osRelease = regexp.MustCompile(`(?m)^(\S+)$`)
	vmHWM     = regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`)
)

func look(programs ...program) machine {
	kB, _ := strconv.ParseInt(find("/proc/meminfo", memTotal), 10, 64)
	return machine{
		CPU: find("/proc/cpuinfo", modelName), Cores: runtime.NumCPU(), Memory: kB * 1024,
		Kernel: find("/proc/sys/kernel/osrelease", osRelease), Programs: programs,
	}
}

// find is the first submatch in a file, "unknown" where there is none: not every processor tells its name.
func find(path string, pattern *regexp.Regexp) string {
	text, _ := os.ReadFile(path)
	if m := pattern.FindSubmatch(text); m != nil {
		return string(m[1])
	}
	return "unknown"
}

func (m machine) String() string {
	words := []string{fmt.Sprintf("%s with %d cores, %s and Linux %s", m.CPU, m.Cores, run.Bytes(m.Memory), m.Kernel)}
	for _, p := range m.Programs {
		words = append(words, p.Name+" "+p.Version)
	}
	return strings.Join(words, "; ")
}
