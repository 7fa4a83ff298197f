package archive

// DumpBytes is how much disk the next dump takes, judged by this one: its size and a fifth.
func (m *Manifest) DumpBytes() int64 { return withFifth(m.Bytes()) }

// RestoreBytes is how much disk a restore of the backup takes: the size of the source, bloat and all, and a fifth for
// WAL and sorting. A manifest that does not know that size counts each byte of the dump, compressed as it is, six times.
func (m *Manifest) RestoreBytes() int64 {
	if m.DatabaseBytes == 0 {
		return withFifth(6 * m.Bytes())
	}
	return withFifth(m.DatabaseBytes)
}

func withFifth(bytes int64) int64 { return bytes + bytes/5 }
