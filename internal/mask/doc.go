// Package mask decides what happens to every column of a backup, and does it.
//
// Rules is a parsed columns.yaml. Plan holds it against a schema: every column of every table is settled
// exactly once, or everything that is not is refused together, each with the line to write. From a Plan come
// the Masker that masks rows while they stream by, the triggers for what it leaves to the server, and the Prover
// and the queries that prove afterwards that no row escaped them; all are made from the same Verb.
//
// The package touches no database, and the key of the pseudonyms is in none of its SQL. Nothing it makes
// ever puts a value of a row into an error.
package mask
