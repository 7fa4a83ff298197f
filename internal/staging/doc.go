// Package staging replaces a staging database by a masked copy of production's backup, and puts the one before
// it back. Every reset is a rehearsal of disaster recovery and leaves a record beside the backup.
//
// The database in use is not touched until its successor is proven: then two names change in one transaction,
// in the very session that holds the lock. Only the backup host and staging are ever connected to; a server
// whose system identifier is production's is refused.
package staging
