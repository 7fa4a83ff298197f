package guard

import (
	"fmt"
	"path"
	"strings"

	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// another is the next step wherever the server is not the inventory's.
const another = "another server answers at production's socket or port: find out which, before anything else"

// Identity compares the server that answers with the inventory. A server that the inventory does not identify
// fails too: nothing is trusted on first use, and the hint is the lines to write into the inventory.
func Identity(expected inventory.Server, id postgres.Identity) []Finding {
	return []Finding{
		systemIdentifier(expected, id),
		dataDirectory(expected, id),
		majorVersion(expected, id),
	}
}

func systemIdentifier(expected inventory.Server, id postgres.Identity) Finding {
	f := Finding{Name: "system identifier", Host: expected.Host.Name}
	switch {
	case expected.SystemIdentifier == "":
		return f.failed(binding(expected, id), "the inventory does not say which server production is; the one on %s has system identifier %s", f.Host, id.SystemIdentifier)
	case id.SystemIdentifier != expected.SystemIdentifier:
		return f.failed(another, "the server on %s has system identifier %s, the inventory's production has %s", f.Host, id.SystemIdentifier, expected.SystemIdentifier)
	}
	return f.ok("%s", id.SystemIdentifier)
}

func dataDirectory(expected inventory.Server, id postgres.Identity) Finding {
	f := Finding{Name: "data directory", Host: expected.Host.Name}
	switch {
	case id.DataDirectory == "":
		return f.unchecked(monitor(expected), "the role %s may not see data_directory on %s", expected.User, f.Host)
	case expected.DataDirectory == "":
		return f.failed(binding(expected, id), "the inventory does not say where production works; the server on %s works in %s", f.Host, id.DataDirectory)
	case path.Clean(id.DataDirectory) != path.Clean(expected.DataDirectory):
		return f.failed(another, "the server on %s works in %s, the inventory's production in %s", f.Host, id.DataDirectory, expected.DataDirectory)
	}
	return f.ok("%s", id.DataDirectory)
}

func majorVersion(expected inventory.Server, id postgres.Identity) Finding {
	f := Finding{Name: "major version", Host: expected.Host.Name}
	if expected.MajorVersion != 0 && id.Major != expected.MajorVersion {
		return f.failed(fmt.Sprintf("if production was upgraded, write into the inventory: major_version: %d", id.Major),
			"the server on %s is PostgreSQL %d, the inventory's production %d", f.Host, id.Major, expected.MajorVersion)
	}
	return f.ok("%s", id.ServerVersion)
}

// binding is what the inventory lacks, ready to paste.
func binding(expected inventory.Server, id postgres.Identity) string {
	var lines []string
	if expected.SystemIdentifier == "" {
		lines = append(lines, fmt.Sprintf("system_identifier: %q", id.SystemIdentifier))
	}
	if expected.DataDirectory == "" && id.DataDirectory != "" {
		lines = append(lines, fmt.Sprintf("data_directory: %q", id.DataDirectory))
	}
	return "if it is production's, write into the inventory: " + strings.Join(lines, ", ")
}

func monitor(s inventory.Server) string {
	return "as superuser: GRANT pg_monitor TO " + postgres.Ident(s.User)
}

func (f Finding) ok(format string, args ...any) Finding {
	f.Status, f.Detail = OK, fmt.Sprintf(format, args...)
	return f
}

func (f Finding) warning(hint, format string, args ...any) Finding {
	f.Status, f.Hint, f.Detail = Warning, hint, fmt.Sprintf(format, args...)
	return f
}

func (f Finding) failed(hint, format string, args ...any) Finding {
	f.Status, f.Code, f.Hint, f.Detail = Failed, run.Unfit, hint, fmt.Sprintf(format, args...)
	return f
}

func (f Finding) unchecked(hint, format string, args ...any) Finding {
	f.Status, f.Code, f.Hint, f.Detail = Unchecked, run.Incomplete, hint, fmt.Sprintf(format, args...)
	return f
}
