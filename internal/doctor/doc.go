// Package doctor looks at everything that a backup and a reset need, on every host at once, and says for each thing
// whether it is well, with the next step where it is not.
//
// It changes nothing, takes no lock and leaves no file. First it asks, everywhere at the same time; then it judges what
// was answered, without any network. What it could not look at is a line of its own and never counts as well. It says
// whether a backup and a reset would be let begin; that a backup comes back, only a reset proves.
package doctor
