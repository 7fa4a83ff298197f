// Package drill is one rehearsal of a backup on the staging cluster: what a reset, its plan and a verification have
// in common. It reads what lies on this machine, connects to the backup host and to staging (never to production),
// chooses the backup, takes the lock, refuses a target that is production or cannot be restored to, tries the team's
// queries, and writes down beside the backup what came of it. Once it is logged in it asks both hosts at once; what is
// wrong is told by the step that it belongs to, in the order of the steps.
package drill
