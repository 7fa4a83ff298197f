// Package mask decides what happens to every column of a backup, and makes the SQL that does it.
//
// Rules is a parsed columns.yaml. Plan holds it against a schema: every column of every table is settled
// exactly once, or everything that is not is refused together, each with the line to write. From a Plan come
// the triggers that mask rows between the wire and the heap, and the queries that prove afterwards that no
// row escaped them; both are made from the same Verb, so they cannot drift apart.
//
// The package touches no database, and the key of the pseudonyms is in none of its SQL. Nothing it makes
// ever puts a value of a row into an error.
package mask
