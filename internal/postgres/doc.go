// Package postgres is one PostgreSQL server, reached through the SSH connection of its host.
//
// Queries go by pgx over a tunnel to the server's Unix socket (peer authentication, no open port) or to
// the TCP address as the host sees it; pg_dump, pg_restore and psql run on the host itself, so that their
// version is the server's. Every context stops its query on the server, not only here. Command lines are
// built by pure functions and run by package host. Identifiers are always quoted; the PG* variables of the
// environment are never read. Nothing here asks for a superuser: what only one could do fails and says so.
package postgres
