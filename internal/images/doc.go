// Package images compares the images on production with their backup, and says which side is wrong.
//
// It promises that "identical" is said of what both sides have read, in this run or in an earlier one since when
// nothing about the file has changed; that whatever could not be compared makes the run incomplete; and that a
// difference is looked at twice before it is reported.
//
// It never writes into a store, and never compares the clocks of two hosts.
package images
