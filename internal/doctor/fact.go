package doctor

import "sync"

// fact is what was learned of one thing, or why not. The zero fact was never asked for.
type fact[T any] struct {
	is    T
	err   error
	asked bool
}

func (f *fact[T]) learn(is T, err error) { f.is, f.err, f.asked = is, err, true }

func (f *fact[T]) known() bool { return f.asked && f.err == nil }

// together runs all looks at once and returns when they have ended.
func together(looks ...func()) {
	var all sync.WaitGroup
	for _, look := range looks {
		all.Go(look)
	}
	all.Wait()
}
