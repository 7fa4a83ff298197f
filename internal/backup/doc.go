// Package backup makes backups that cannot be of the wrong server, empty or torn without an error: the server
// is compared with the inventory before anything is read, rows are counted in the snapshot that is dumped, and
// a backup appears on the backup host only when every byte of it is there, hashed and on disk.
//
// Production is read, never written: a snapshot, pg_dump, and in our own folder there a spool that is removed whatever
// happens, and the dates of the last scans.
package backup
