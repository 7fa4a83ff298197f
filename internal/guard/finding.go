package guard

import "rehearsal/internal/run"

// Status is how a look ended.
type Status string

// The statuses.
const (
	OK        Status = "ok"
	Warning   Status = "warning"         // worth mending, nothing is wrong yet
	Failed    Status = "failed"          // a backup or a reset would be refused
	Unchecked Status = "could not check" // never success
)

// Finding is one line of what was looked at.
type Finding struct {
	Name   string   `json:"name"` // what was looked at, e.g. "system identifier"
	Host   string   `json:"host"` // the inventory's name
	Status Status   `json:"status"`
	Detail string   `json:"detail"` // what was seen
	Hint   string   `json:"hint"`   // the next step; empty where all is well
	Code   run.Code `json:"-"`      // of a failed one; run.Incomplete of one that could not be checked
}
