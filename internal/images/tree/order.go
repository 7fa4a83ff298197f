package tree

// Compare orders the paths of two folders as Walk visits them: component by component, each bytewise, a folder before
// what lies in it. So "a" comes before "a/b", and "a/b" before "a b", although '/' is the greater byte.
func Compare(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		if below(a[i]) < below(b[i]) {
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

// below puts the end of a component before any byte of a longer one: 0 is in no name.
func below(c byte) byte {
	if c == '/' {
		return 0
	}
	return c
}
