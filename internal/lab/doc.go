// Package lab is three real hosts on this machine, for the demo, the tests and the benchmarks: three OpenSSH servers
// (production, backup, staging), two PostgreSQL servers with a seeded shop on production, a tree of images with
// its backup, and a proxy that moves the backup host as far away as one likes.
//
// Up makes them, Down leaves no process and no file; several labs may be up at once. It works as root and as an
// ordinary user, and nothing of it is reachable from another machine. The hosts share one machine and one user,
// so their folders keep them apart, not permissions. It never touches a server, a database or a key that it has
// not made itself, and signals no process but those that name its folder in their command line and what they started.
package lab
