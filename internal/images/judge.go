package images

import (
	"fmt"
	"time"

	"rehearsal/internal/images/index"
	"rehearsal/internal/images/picture"
	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
	"rehearsal/internal/run"
)

// Kind is what is the matter with a path.
type Kind string

// The kinds. Those up to Dangling are discrepancies; the next two could not be compared; the last two are notes.
const (
	Identical    Kind = ""
	Missing      Kind = "missing"   // on the backup
	Extra        Kind = "extra"     // on the backup only
	Different    Kind = "different" // bytes, or what they are
	Damaged      Kind = "damaged"   // it is no whole image
	Dangling     Kind = "dangling"  // a row of the database refers to it, and production has no such file
	Unreadable   Kind = "unreadable"
	Changing     Kind = "changing"
	Pending      Kind = "pending"      // so young that the backup may follow yet
	Unreferenced Kind = "unreferenced" // no row of the database refers to it
)

// kinds are those of a finding, as they are printed.
var kinds = []Kind{Missing, Extra, Different, Damaged, Dangling, Unreadable, Changing, Pending, Unreferenced}

// Discrepancy tells whether it is one.
func (k Kind) Discrepancy() bool {
	return k == Missing || k == Extra || k == Different || k == Damaged || k == Dangling
}

// Unchecked tells whether nothing is known.
func (k Kind) Unchecked() bool { return k == Unreadable || k == Changing }

// Side is where something is wrong.
type Side string

// The sides.
const (
	Production Side = "production"
	Backup     Side = "backup"
	Both       Side = "both"
	Nobody     Side = "unknown" // one of them is wrong, and nothing tells which
)

// Finding is a path that is not identical on both sides.
type Finding struct {
	Path               []byte
	Kind               Kind
	Side               Side
	Why                string
	Production, Backup wire.Seen

	counted bool // production's walk has met it
}

// absent is what a side knows of a path that it does not have.
var absent = wire.Seen{State: wire.Absent}

// times are what judging by age needs: each side's clock is asked about its own files alone.
type times struct {
	production, backup time.Time // now, there
	lag                time.Duration
}

func young(s wire.Seen, now time.Time, lag time.Duration) bool {
	return s.State != wire.Absent && now.Sub(time.Unix(0, s.Mtime)) < lag
}

// same tells whether two entries are known to hold the same.
func same(a, b wire.Seen) bool {
	const known = index.Known
	return a.State == wire.Present && b.State == wire.Present && a.Kind == b.Kind && a.Size == b.Size &&
		a.Flags&known != 0 && b.Flags&known != 0 && a.Hash == b.Hash
}

// judge says what is the matter with a path that both sides have looked at, and which side is wrong if anything tells.
func judge(path []byte, p, b wire.Seen, at times) Finding {
	f := Finding{Path: path, Production: p, Backup: b}
	if f.unchecked() {
		return f
	}
	switch {
	case p.State == wire.Absent && b.State == wire.Absent: // gone meanwhile
	case b.State == wire.Absent:
		f.Kind, f.Side, f.Why = Missing, Backup, "production alone has it"
		if young(p, at.production, at.lag) {
			f.Kind = Pending
		}
	case p.State == wire.Absent:
		f.Kind, f.Side, f.Why = Extra, Backup, "the backup alone has it"
		if young(b, at.backup, at.lag) {
			f.Kind = Pending
		}
	case p.Kind != b.Kind:
		f.Kind, f.Side, f.Why = Different, Nobody, fmt.Sprintf("%s on production, %s on the backup", kindName(p.Kind), kindName(b.Kind))
	case same(p, b):
		if p.Damage != 0 {
			f.Kind, f.Side, f.Why = Damaged, Both, "the same bytes on both sides: "+picture.Damage(p.Damage).String()
		}
	default:
		f.bytes(at)
	}
	return f
}

// unchecked judges what could not be looked at.
func (f *Finding) unchecked() bool {
	for _, one := range []struct {
		state wire.State
		kind  Kind
	}{{wire.Unreadable, Unreadable}, {wire.Changing, Changing}} {
		p, b := f.Production.State == one.state, f.Backup.State == one.state
		if !p && !b {
			continue
		}
		f.Kind, f.Side, f.Why = one.kind, Both, f.Production.Text
		if !p {
			f.Side, f.Why = Backup, f.Backup.Text
		} else if !b {
			f.Side = Production
		}
		return true
	}
	return false
}

// bytes judges two files, or two links, with different bytes.
func (f *Finding) bytes(at times) {
	p, b := f.Production, f.Backup
	alike := p.Size == b.Size && p.Mtime/int64(time.Second) == b.Mtime/int64(time.Second)
	rottedP, rottedB := p.Flags&index.Rotted != 0, b.Flags&index.Rotted != 0
	f.Kind, f.Side = Different, Nobody
	switch {
	case young(p, at.production, at.lag) && !alike:
		f.Kind, f.Side, f.Why = Pending, Backup, "changed on production since"
	case p.Damage != 0 && b.Damage != 0:
		f.Kind, f.Side = Damaged, Both
		f.Why = fmt.Sprintf("on production %v, on the backup %v", picture.Damage(p.Damage), picture.Damage(b.Damage))
	case p.Damage != 0:
		f.Kind, f.Side, f.Why = Damaged, Production, picture.Damage(p.Damage).String()
	case b.Damage != 0:
		f.Kind, f.Side, f.Why = Damaged, Backup, picture.Damage(b.Damage).String()
	case rottedP && !rottedB:
		f.Side, f.Why = Production, rotted(p, b)
	case rottedB && !rottedP:
		f.Side, f.Why = Backup, rotted(b, p)
	case rottedP:
		f.Why = "the bytes changed on both sides while size and mtime did not"
	case p.Kind == tree.Link:
		f.Why = "the links lead elsewhere"
	case p.Size != b.Size:
		f.Why = fmt.Sprintf("%s on production, %s on the backup", run.Bytes(p.Size), run.Bytes(b.Size))
	default:
		f.Why = "equal size, other bytes; neither side remembers others"
	}
}

func rotted(bad, other wire.Seen) string {
	why := "the bytes changed while size and mtime did not"
	if bad.Was == other.Hash {
		why += "; the other side has them as they were"
	}
	return why
}

func kindName(k tree.Kind) string {
	switch k {
	case tree.File:
		return "a file"
	case tree.Link:
		return "a symbolic link"
	case tree.Pipe:
		return "a pipe"
	case tree.Socket:
		return "a socket"
	case tree.Device:
		return "a device"
	}
	return "something else"
}
