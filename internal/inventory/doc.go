// Package inventory reads hosts.yaml, which says what is where and which role each machine plays, and the accounts.yaml
// beside it, which says who is admin on staging.
//
// It promises that an Inventory it returns is whole: every name leads to something, every host has one role, every key
// was understood, and no value is anything but the characters in the file. Where that does not hold it returns every
// problem it found at once, each with file, line, column, the source line and a caret.
//
// It never touches the network, and of the local disk only these two files and the question which of two folders exists.
package inventory
