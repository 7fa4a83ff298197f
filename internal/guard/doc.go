// Package guard looks whether the server that answers is the inventory's production, alone on its data
// directory, and healthy enough to be dumped.
//
// A dump of the wrong, the empty or the doubly served instance ends with exit code 0; nothing but a look at the
// source itself tells. What could not be looked at is a finding of its own and never counts as passed. Nothing is
// changed on production: there are queries, connections that say nothing, and one script that reads.
package guard
