// Package canary proves, without looking at the rules, that no real value is on staging. While a backup streams by, a
// Sampler keeps some real values of every masked column, the canaries; a Scanner then searches the text of the finished
// database for them, and for whatever looks like an e-mail address, a card or an IBAN. A mask that was forgotten, or a
// copy of a value where no mask looks, shows up as a Finding.
//
// Where the canaries may not be on the machine that reads, a Sieve of theirs is, and the Scanner judges what passes it.
//
// Both also count rows and take a fingerprint of the columns that are kept: what was to stay as it is, did.
//
// The package reads bytes and knows neither network nor database. Values are in its memory only, at most 300 for each
// column: no error, Finding or %v ever shows one.
package canary
