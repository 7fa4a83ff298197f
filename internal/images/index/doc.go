// Package index remembers what the files of a tree held when they were last read.
//
// It is one sorted file, read as a stream beside the walk that it is compared with, and written anew by each run. It
// promises that a torn or rotten part of it is found by its checksums and costs a reading of the files in it, never a
// wrong answer, and that a run that was interrupted, however, loses the last seconds only.
//
// It knows nothing of reading files and decides nothing.
package index
