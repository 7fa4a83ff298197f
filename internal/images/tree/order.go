package tree

import "bytes"

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

// ComparePaths orders the paths of two entries as Walk visits them: by folder, then by name.
func ComparePaths(a, b []byte) int {
	folderA, nameA := Split(a)
	folderB, nameB := Split(b)
	if c := Compare(folderA, folderB); c != 0 {
		return c
	}
	return bytes.Compare(nameA, nameB)
}

// Split cuts the path of an entry into its folder, "" for the root, and its name.
func Split(path []byte) (folder, name []byte) {
	i := bytes.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// AppendPath appends the path of an entry to to.
func AppendPath(to, folder, name []byte) []byte {
	if len(folder) > 0 {
		to = append(append(to, folder...), '/')
	}
	return append(to, name...)
}
