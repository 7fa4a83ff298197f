// Package restore turns a backup into a new database beside the one in use: rehearsed empty, streamed, masked
// in flight, counted, proven.
//
// The whole schema is restored empty first, so that everything that can refuse a restore (a column without a
// rule, a missing role or extension, a verb that a unique index forbids) refuses before one row is read. Rows
// are masked between the wire and the heap, on this machine or by triggers; raw data never lands on staging.
// Nothing here touches the database in use, and whatever ends a restore early, the new database is dropped.
package restore
