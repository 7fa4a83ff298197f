package main

import (
	"fmt"
	"testing"
	"time"

	"rehearsal/internal/images/content"
	"rehearsal/internal/images/index"
	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
)

var now = time.Unix(1_800_000_000, 0)

const day = 24 * 60 * 60

// remembered is a file of 100 bytes that was read so many days ago.
func remembered(days int, flags index.Flags) *index.Entry {
	return &index.Entry{
		Meta: tree.Meta{Kind: tree.File, Size: 100, Mtime: 1, Ctime: 2, Inode: 3}, Hash: index.Hash{1},
		Read: uint32(now.Unix() - int64(days*day)), Flags: index.Known | flags,
	}
}

func TestWhatIsReadAgain(t *testing.T) {
	totals := index.Totals{Bytes: 3000, Ages: []index.Age{{Read: remembered(3, 0).Read, Bytes: 3000}}}
	same := remembered(3, 0).Meta
	for name, c := range map[string]struct {
		req  wire.ScanRequest
		ran  time.Duration // since a full run began
		is   func(*tree.Meta)
		old  *index.Entry
		read bool
	}{
		"nothing is known of it":               {old: nil, read: true},
		"nothing has changed":                  {old: remembered(2, index.Settled)},
		"it was written when it was read":      {old: remembered(2, 0), read: true},
		"it could not be read":                 {old: &index.Entry{Meta: same, Flags: index.Settled}, read: true},
		"another size":                         {is: func(m *tree.Meta) { m.Size++ }, old: remembered(2, index.Settled), read: true},
		"another mtime":                        {is: func(m *tree.Meta) { m.Mtime++ }, old: remembered(2, index.Settled), read: true},
		"another ctime":                        {is: func(m *tree.Meta) { m.Ctime++ }, old: remembered(2, index.Settled), read: true},
		"another inode":                        {is: func(m *tree.Meta) { m.Inode++ }, old: remembered(2, index.Settled), read: true},
		"it is due":                            {req: wire.ScanRequest{Reread: 1. / 30}, old: remembered(3, index.Settled), read: true},
		"nothing is to be read again":          {old: remembered(3, index.Settled)},
		"everything is":                        {req: wire.ScanRequest{Full: true}, old: remembered(0, index.Settled), read: true},
		"everything, but this run has read it": {req: wire.ScanRequest{Full: true}, ran: 30 * time.Hour, old: remembered(1, index.Settled)},
		"its pixels were not decoded":          {req: wire.ScanRequest{Deep: true}, old: remembered(2, index.Settled), read: true},
		"its pixels were decoded":              {req: wire.ScanRequest{Deep: true}, old: remembered(2, index.Settled|index.Decoded)},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPolicy(c.req, totals, now, now.Add(-c.ran))
			e := &tree.Entry{Name: []byte("a"), Meta: same}
			if c.is != nil {
				c.is(&e.Meta)
			}
			entry, read := p.decide(e, c.old)
			if read != c.read {
				t.Errorf("read is %v", read)
			}
			if !read && (entry.Hash != c.old.Hash || entry.Read != c.old.Read || string(entry.Name) != "a") {
				t.Errorf("it was carried over as %+v", entry)
			}
		})
	}
}

// A month of daily runs with 1/30 reads everything, whatever the order of the names, and what was read longest ago first.
func TestEverythingIsReadInAMonth(t *testing.T) {
	const files = 300
	read := make([]int, files) // on which day
	for today := 1; today <= 30; today++ {
		ages := map[int]int64{}
		for _, d := range read {
			ages[d] += 100
		}
		totals := index.Totals{Bytes: files * 100}
		for d := range today {
			if ages[d] > 0 {
				totals.Ages = append(totals.Ages, index.Age{Read: uint32(d * day), Bytes: ages[d]})
			}
		}
		now := time.Unix(int64(today*day), 0)
		p := newPolicy(wire.ScanRequest{Reread: 1. / 30}, totals, now, now)
		spent := 0
		for i := range files {
			old := remembered(0, index.Settled)
			old.Read = uint32(read[i] * day)
			if _, again := p.decide(&tree.Entry{Name: fmt.Appendf(nil, "%03d", i), Meta: old.Meta}, old); again {
				read[i] = today
				spent++
			}
		}
		if spent != files/30 {
			t.Errorf("day %d: %d files were read", today, spent)
		}
	}
	for i, d := range read {
		if d == 0 {
			t.Errorf("file %d was not read", i)
		}
	}
}

func TestAChangedCtimeWaitsForItsTurn(t *testing.T) {
	p := newPolicy(wire.ScanRequest{}, index.Totals{}, now, now)
	p.touched = 150
	var read []bool
	for range 3 {
		old := remembered(2, index.Settled)
		e := &tree.Entry{Name: []byte("a"), Meta: old.Meta}
		e.Ctime++
		entry, again := p.decide(e, old)
		read = append(read, again)
		if !again && (entry.Ctime != old.Ctime || entry.Flags&postponed == 0) {
			t.Errorf("it would not be asked again: %+v", entry)
		}
	}
	if got := fmt.Sprint(read); got != "[true true false]" {
		t.Errorf("read: %s", got)
	}
}

func TestRotIsRememberedUntilTheBytesAreBack(t *testing.T) {
	p := newPolicy(wire.ScanRequest{}, index.Totals{}, now, now)
	reading := func(old *index.Entry, hash byte, mtime int64) index.Entry {
		var e index.Entry
		p.learn(&e, content.Result{Meta: tree.Meta{Kind: tree.File, Size: 100, Mtime: mtime, Ctime: now.UnixNano()}, Hash: index.Hash{hash}}, expect(old))
		return e
	}
	good := remembered(2, index.Settled)
	bad := reading(good, 2, 1)
	if bad.Flags&index.Rotted == 0 || bad.Was != good.Hash {
		t.Errorf("changed bytes: %+v", bad)
	}
	if again := reading(&bad, 2, 1); again.Flags&index.Rotted == 0 || again.Was != good.Hash {
		t.Errorf("read once more: %+v", again)
	}
	if worse := reading(&bad, 3, 1); worse.Flags&index.Rotted == 0 || worse.Was != good.Hash {
		t.Errorf("and changed again: %+v", worse)
	}
	if back := reading(&bad, 1, 1); back.Flags&index.Rotted != 0 {
		t.Errorf("the bytes are back: %+v", back)
	}
	if written := reading(good, 2, 5); written.Flags&index.Rotted != 0 {
		t.Errorf("written anew: %+v", written)
	}
	if racy := reading(remembered(2, 0), 2, 1); racy.Flags&index.Rotted != 0 {
		t.Errorf("written while it was read before: %+v", racy)
	}
}
