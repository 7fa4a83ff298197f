package guard

import (
	"fmt"
	"path"
	"strings"
)

// containers looks for containers that have the data directory, a folder above it or one below it, where they may
// write: each could start a postmaster there. One is the server's own, or a risk; two are one too many.
func (l *look) containers() Finding {
	f := l.finding("containers")
	if l.machine.err != nil {
		return f.unchecked(l.machine.hint(), "docker and podman on %s: %v", f.Host, l.machine.err)
	}
	var running []container
	var seen []string
	for _, e := range l.machine.engines {
		switch {
		case e.trouble != "":
			return f.unchecked(fmt.Sprintf("let the inventory's user run `%s ps` on %s (group docker), or remove it from there", e.name, f.Host),
				"%s does not answer: %s", e.name, e.trouble)
		case e.asleep:
			seen = append(seen, "no docker daemon runs")
		default:
			seen = append(seen, fmt.Sprintf("%s runs %d", e.name, len(e.containers)))
			running = append(running, e.containers...)
		}
	}
	if len(l.machine.engines) == 0 {
		return f.ok("no docker, no podman%s", l.scope())
	}
	own, others := l.mounting(running)
	if ours := l.ours(); own == "" && len(running) > 0 && ours != nil && len(ours.inner) > 1 {
		return f.unchecked(asOwner, "the server runs in a container that none of these is: %s", strings.Join(seen, ", "))
	}
	const hint = "let only the server's own container mount its volume"
	switch n := len(others); {
	case n > 1 || n == 1 && own != "":
		if own != "" {
			others = append([]string{own}, others...)
		}
		return f.failed(hint+", and stop the others", "%d containers may write into the data directory: %s", len(others), strings.Join(others, ", "))
	case n == 1:
		return f.warning(hint, "the container %s may write into the data directory, and the server does not run in it", others[0])
	case own != "":
		return f.ok("%s, the server's own, alone has the data directory", own)
	}
	return f.ok("none has the data directory (%s)%s", strings.Join(seen, ", "), l.scope())
}

// mounting returns the server's own container, if it runs in one, and the others that may write where its data is.
func (l *look) mounting(running []container) (own string, others []string) {
	data := l.id.DataDirectory
	if data == "" {
		data = l.server.Spec.DataDirectory
	}
	ours := l.ours()
	isOwn := func(c container) bool {
		return ours != nil && (c.PID == ours.pid || c.ID != "" && c.ID == ours.container)
	}
	for _, c := range running {
		if isOwn(c) { // there, data is a path inside of it
			own, data = name(c), c.outside(data)
		}
	}
	for _, c := range running {
		if !isOwn(c) && c.reaches(data) {
			others = append(others, name(c))
		}
	}
	return own, others
}

func name(c container) string { return strings.TrimPrefix(c.Name, "/") }

// outside is the path on the host of a path inside of the container; "" where that is of the container's own layer.
func (c container) outside(inside string) string {
	best := mount{}
	for _, m := range c.Mounts {
		if within(inside, m.Destination) && len(m.Destination) > len(best.Destination) {
			best = m
		}
	}
	if best.Destination == "" {
		return ""
	}
	return path.Join(best.Source, strings.TrimPrefix(path.Clean(inside), path.Clean(best.Destination)))
}

func (c container) reaches(data string) bool {
	for _, m := range c.Mounts {
		if m.RW && data != "" && m.Source != "" && (within(data, m.Source) || within(m.Source, data)) {
			return true
		}
	}
	return false
}

// within reports whether file is folder or below it.
func within(file, folder string) bool {
	file, folder = path.Clean(file), path.Clean(folder)
	return file == folder || folder == "/" || strings.HasPrefix(file, folder+"/")
}
