package tree

import (
	"bytes"
	"fmt"
	"path"
	"strings"
)

// ignore are the patterns of Options.Ignore.
type ignore struct {
	names, paths []pattern
}

// pattern is one of path.Match, with what all that it matches begins and ends with: every name that there is, is asked for
// every pattern, and few begin and end so.
type pattern struct {
	text           string
	prefix, suffix string
}

func newIgnore(patterns []string) (ignore, error) {
	var ig ignore
	for _, text := range patterns {
		if _, err := path.Match(text, ""); err != nil {
			return ig, fmt.Errorf("ignore pattern %q: %w", text, err)
		}
		if p := newPattern(text); strings.Contains(text, "/") {
			ig.paths = append(ig.paths, p)
		} else {
			ig.names = append(ig.names, p)
		}
	}
	return ig, nil
}

// newPattern finds the literal ends of a pattern: what is before its first special character and, where there is no other
// one than stars, what is after its last.
func newPattern(text string) pattern {
	p := pattern{text: text, prefix: text}
	if first := strings.IndexAny(text, `*?[\`); first >= 0 {
		p.prefix = text[:first]
		if !strings.ContainsAny(text, `?[\`) {
			p.suffix = text[strings.LastIndexByte(text, '*')+1:]
		}
	}
	return p
}

func (p *pattern) match(name []byte) bool {
	if !bytes.HasPrefix(name, []byte(p.prefix)) || !bytes.HasSuffix(name, []byte(p.suffix)) {
		return false
	}
	ok, _ := path.Match(p.text, string(name))
	return ok
}

func (ig *ignore) match(folder, name []byte) bool {
	for i := range ig.names {
		if ig.names[i].match(name) {
			return true
		}
	}
	if len(ig.paths) == 0 {
		return false
	}
	whole := AppendPath(nil, folder, name)
	for i := range ig.paths {
		if ig.paths[i].match(whole) {
			return true
		}
	}
	return false
}
