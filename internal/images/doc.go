// Package images compares the images on production with their backup, and says which side is wrong.
//
// It promises that "identical" is said of what both sides have read, in this run or in an earlier one since when
// nothing about the file has changed; that whatever could not be compared makes the run incomplete; and that a
// difference is looked at twice before it is reported.
//
// It writes into a store only what Repair is certain of, deletes nothing, and never compares the clocks of two hosts.
package images
