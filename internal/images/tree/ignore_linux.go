package tree

import (
	"fmt"
	"path"
	"strings"
)

// ignore are the patterns of Options.Ignore.
type ignore struct {
	names, paths []string
}

func newIgnore(patterns []string) (ignore, error) {
	var ig ignore
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return ig, fmt.Errorf("ignore pattern %q: %w", p, err)
		}
		if strings.Contains(p, "/") {
			ig.paths = append(ig.paths, p)
		} else {
			ig.names = append(ig.names, p)
		}
	}
	return ig, nil
}

func (ig *ignore) match(folder, name []byte) bool {
	for _, p := range ig.names {
		if ok, _ := path.Match(p, string(name)); ok {
			return true
		}
	}
	if len(ig.paths) == 0 {
		return false
	}
	whole := string(AppendPath(nil, folder, name))
	for _, p := range ig.paths {
		if ok, _ := path.Match(p, whole); ok {
			return true
		}
	}
	return false
}
