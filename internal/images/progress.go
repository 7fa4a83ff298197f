package images

import (
	"fmt"
	"strings"
	"time"

	"rehearsal/internal/run"
)

// follow shows how far the hosts are, until stop is called; then the step has what was read.
func follow(s *run.Step, all []*comparison) (stop func()) {
	started, stopping, stopped := time.Now(), make(chan struct{}), make(chan struct{})
	var shown int64
	show := func() {
		var done, expected, read int64
		rates := ""
		known := true
		for _, c := range all {
			for _, p := range c.peers() {
				n := p.count.Load()
				if n == nil {
					known = false
					continue
				}
				done, expected, read = done+n.Files, expected+n.Expected, read+n.ReadBytes
				known = known && n.Expected > 0
				seconds := max(time.Since(started).Seconds(), 0.001)
				rates += fmt.Sprintf("%s %.0f files/s %s/s  ", p.host.Name(), float64(n.Files)/seconds, run.Bytes(int64(float64(n.ReadBytes)/seconds)))
			}
		}
		s.Add(read - shown)
		shown = read
		if known {
			s.Count(int(done), int(max(expected, done)), "files")
			if left := expected - done; left > 0 && done > 0 && time.Since(started) > 5*time.Second {
				rates += "about " + run.Duration(time.Duration(float64(time.Since(started))*float64(left)/float64(done))) + " left"
			}
		}
		s.Detail("%s", strings.TrimSpace(rates))
	}
	go func() {
		defer close(stopped)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show()
			case <-stopping:
				show()
				return
			}
		}
	}()
	return func() {
		close(stopping)
		<-stopped
	}
}
