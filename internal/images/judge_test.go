package images

import (
	"testing"
	"time"

	"rehearsal/internal/images/index"
	"rehearsal/internal/images/picture"
	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
)

func TestTheSideThatIsWrongIsNamedWhereSomethingTells(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	at := times{production: now, backup: now.Add(time.Hour), lag: 26 * time.Hour}
	file := func(hash byte, age time.Duration, change ...func(*wire.Seen)) wire.Seen {
		s := wire.Seen{Entry: index.Entry{
			Meta: tree.Meta{Kind: tree.File, Size: 10, Mtime: now.Add(-age).UnixNano()}, Hash: index.Hash{hash}, Flags: index.Known,
		}}
		for _, c := range change {
			c(&s)
		}
		return s
	}
	is := func(state wire.State) wire.Seen { return wire.Seen{State: state, Text: "why"} }
	damaged := func(s *wire.Seen) { s.Damage = byte(picture.Cut) }
	larger := func(s *wire.Seen) { s.Size++ }
	was := func(hash byte) func(*wire.Seen) {
		return func(s *wire.Seen) { s.Flags |= index.Rotted; s.Was = index.Hash{hash} }
	}
	link := func(s *wire.Seen) { s.Kind = tree.Link }
	const days, hour = 72 * time.Hour, time.Hour
	for name, c := range map[string]struct {
		production, backup wire.Seen
		kind               Kind
		side               Side
	}{
		"the same":                               {file(1, days), file(1, hour), Identical, ""},
		"gone meanwhile":                         {is(wire.Absent), is(wire.Absent), Identical, ""},
		"on production alone":                    {file(1, days), is(wire.Absent), Missing, Backup},
		"on production alone, and young":         {file(1, hour), is(wire.Absent), Pending, Backup},
		"on the backup alone":                    {is(wire.Absent), file(1, days), Extra, Backup},
		"young by the backup's own clock":        {is(wire.Absent), file(1, 24*hour), Pending, Backup},
		"old by the backup's own clock":          {is(wire.Absent), file(1, 25*hour+time.Minute), Extra, Backup},
		"other bytes":                            {file(1, days), file(2, days), Different, Nobody},
		"other bytes, production's young":        {file(1, hour), file(2, days), Pending, Backup},
		"other bytes, both young and of one age": {file(1, hour), file(2, hour), Different, Nobody},
		"other bytes and size, both young":       {file(1, hour, larger), file(2, hour), Pending, Backup},
		"production's has rotted":                {file(1, days, was(2)), file(2, days), Different, Production},
		"the backup's has rotted":                {file(1, days), file(2, days, was(1)), Different, Backup},
		"both have rotted":                       {file(1, days, was(3)), file(2, days, was(3)), Different, Nobody},
		"production's is no image":               {file(1, days, damaged), file(2, days), Damaged, Production},
		"the backup's is no image":               {file(1, days), file(2, days, damaged), Damaged, Backup},
		"neither is an image":                    {file(1, days, damaged), file(2, days, damaged), Damaged, Both},
		"the same is no image":                   {file(1, days, damaged), file(1, days, damaged), Damaged, Both},
		"a link and a file":                      {file(1, days, link), file(1, days), Different, Nobody},
		"other links":                            {file(1, days, link), file(2, days, link), Different, Nobody},
		"unreadable on production":               {is(wire.Unreadable), file(1, days), Unreadable, Production},
		"unreadable on the backup, nothing here": {is(wire.Absent), is(wire.Unreadable), Unreadable, Backup},
		"unreadable on both":                     {is(wire.Unreadable), is(wire.Unreadable), Unreadable, Both},
		"changing on the backup":                 {file(1, days), is(wire.Changing), Changing, Backup},
	} {
		t.Run(name, func(t *testing.T) {
			f := judge([]byte("a.jpg"), c.production, c.backup, at)
			if f.Kind != c.kind || f.Side != c.side {
				t.Errorf("got %q %q (%s), want %q %q", f.Kind, f.Side, f.Why, c.kind, c.side)
			}
			if f.Kind != Identical && f.Why == "" {
				t.Error("it does not say why")
			}
		})
	}
}
