package main

import (
	"time"

	"rehearsal/internal/images/content"
	"rehearsal/internal/images/index"
	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
)

const (
	// gone is the kind of an entry that was there when its folder was listed and is no more.
	gone tree.Kind = 0
	// postponed marks, within a run, an entry of which only the ctime changed, and which was not read for now.
	postponed index.Flags = 1 << 7
	// granularity is how coarse a file system's times may be: NFSv2 and ext3 have whole seconds. A file that was
	// touched so shortly before it was read may have been written after, with the same times: git's racy entries.
	granularity = time.Second
	// always is how many bytes of files whose ctime alone has changed are read again in each run, however small the
	// tree: one such file is what a careful intruder or a bad disk controller leaves. More of them come from chmod -R
	// and hard-link snapshots, and wait for their turn.
	always = 1 << 30
)

// policy decides what is read. It goes by path, and belongs to the goroutine of the walk; learn belongs to nobody.
type policy struct {
	full, deep bool
	now        time.Time
	began      uint32 // when a full run did, which may have been interrupted since
	due        uint32 // what was last read before is read again
	share      int64  // bytes of what was read at due that are left to read again
	touched    int64  // bytes of files with a new ctime alone that are left to read
}

// newPolicy spends the share of the bytes that is to be read again on those that were read longest ago. All that a run
// reads bears one time, so that those times are few; among the files of the last such time that the share suffices
// for, the first by path are read, and have a later time from then on.
func newPolicy(req wire.ScanRequest, totals index.Totals, now, began time.Time) policy {
	budget := int64(req.Reread * float64(totals.Bytes))
	p := policy{full: req.Full, deep: req.Deep, now: now, began: uint32(began.Unix()), share: budget, touched: max(budget, always)}
	for _, age := range totals.Ages {
		p.due = age.Read
		if age.Bytes >= p.share {
			break
		}
		p.share -= age.Bytes
	}
	return p
}

// expectation is what the index remembers of a file that is read: what its bytes were.
type expectation struct {
	index.Entry
	ok bool // the file was older than its last reading, so that equal size and mtime ought to mean equal bytes
}

func expect(old *index.Entry) expectation {
	if old == nil {
		return expectation{}
	}
	const both = index.Known | index.Settled
	e := expectation{*old, old.Kind == tree.File && old.Flags&both == both}
	e.Name = nil
	return e
}

// decide is what the new index says of e if it is not read, and whether it is.
func (p *policy) decide(e *tree.Entry, old *index.Entry) (entry index.Entry, read bool) {
	entry = index.Entry{Name: e.Name, Meta: e.Meta}
	switch e.Kind {
	case tree.File:
	case tree.Link: // its target is as quickly read as not
		return entry, true
	case tree.Unknown:
		return entry, false
	default:
		entry.Flags = index.Known
		return entry, false
	}
	if old == nil || !p.trusts(e, old) {
		return entry, true
	}
	if old.Ctime != e.Ctime || old.Inode != e.Inode {
		if p.full || p.touched > 0 {
			p.touched -= e.Size
			return entry, true
		}
		return carry(e, old, postponed), false // and keeps the old ctime, to be asked again
	}
	if p.full && old.Read >= p.began && old.Read < uint32(p.now.Unix()) {
		return carry(e, old, 0), false
	}
	if p.full || old.Read < p.due {
		return entry, true
	}
	if old.Read == p.due && p.share > 0 {
		p.share -= e.Size
		return entry, true
	}
	return carry(e, old, 0), false
}

// trusts tells whether the index may be asked at all.
func (p *policy) trusts(e *tree.Entry, old *index.Entry) bool {
	const both = index.Known | index.Settled
	return old.Kind == tree.File && old.Size == e.Size && old.Mtime == e.Mtime && old.Flags&both == both &&
		(!p.deep || old.Flags&index.Decoded != 0)
}

func carry(e *tree.Entry, old *index.Entry, flags index.Flags) index.Entry {
	entry := *old
	entry.Name = e.Name
	entry.Flags |= flags
	return entry
}

// learn makes entry say what a reading found.
func (p *policy) learn(entry *index.Entry, found content.Result, old expectation) {
	entry.Meta = found.Meta
	entry.Hash = found.Hash
	entry.Damage = byte(found.Damage)
	entry.Read = uint32(p.now.Unix())
	entry.Flags = index.Known
	if found.Decoded {
		entry.Flags |= index.Decoded
	}
	if max(found.Mtime, found.Ctime) < p.now.Add(-granularity).UnixNano() {
		entry.Flags |= index.Settled
	}
	if found.Size != old.Size || found.Mtime != old.Mtime {
		return
	}
	was := old.Hash
	switch {
	case old.Flags&index.Rotted != 0: // what was found is remembered until the bytes are back
		was = old.Was
	case !old.ok:
		return
	}
	if was != found.Hash {
		entry.Flags |= index.Rotted
		entry.Was = was
	}
}
