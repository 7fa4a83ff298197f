package run

// Progress is how far a step is, for one whose work another process does: JSON with a meaning of its own.
type Progress struct {
	Bytes    int64  `json:"bytes"`
	Expected int64  `json:"expected,omitempty"`
	Count    string `json:"count,omitempty"`
}

// Unseen makes a step of no target: nothing is printed of it.
func Unseen() *Step { return newStep("") }

// Progress is what the step has been told so far, but its Detail.
func (s *Step) Progress() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Progress{s.bytes.Load(), s.expected.Load(), s.count}
}

// Follow has the step show the progress of another, in place of its own.
func (s *Step) Follow(p Progress) {
	s.bytes.Store(p.Bytes)
	s.expected.Store(p.Expected)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count = p.Count
}
