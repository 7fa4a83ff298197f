// Package run is the life of one target: everything between Mage calling it and its exit code. It stands
// for the person at the terminal, the pipe or the timer that started us, and for the signals they send.
//
// It promises that a target ends once, with a result on stdout and a code from Codes, and that what was
// registered with Cleanup is undone first, whether the target succeeds, fails, panics or is interrupted.
// It never goes on silently: a step that runs long says so, and what could not be cleaned up is named.
//
// It knows nothing of hosts, databases or backups, and imports nothing of ours.
package run
