// Package content reads files for their hash and their structure, on a Linux host that has better things to do.
//
// It promises that a hash is that of one state of the file: whatever changed while it was read is read again, and then
// called changing; that the page cache is as it was; that no more than the limit is read in a second, and less while
// others wait for the disk.
//
// It reads regular files and the targets of links, never blocks on anything else that took a file's name, and never
// follows a link. It writes nothing, and what it cannot see (a program that writes through a mapping it made dirty before)
// is left to the next run.
package content
