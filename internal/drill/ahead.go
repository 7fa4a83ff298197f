package drill

import "context"

// task is work on one host that goes on while a step waits for the other.
type task struct {
	done chan struct{}
	err  error
}

// begin starts work that a later step waits for, so that a failure is told by that step. What still runs when the target
// ends is cancelled and waited for, before anything that was cleaned up for it earlier.
func (d *Drill) begin(ctx context.Context, what string, work func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(ctx)
	t := &task{done: make(chan struct{})}
	d.Target.Cleanup("end "+what, func(context.Context) error {
		cancel()
		<-t.done
		return nil
	})
	go func() {
		defer close(t.done)
		t.err = work(ctx)
	}()
	return t
}

// wait returns what the work ended with.
func (t *task) wait() error {
	<-t.done
	return t.err
}
