// Package sql holds the example of what a team edits, one folder per database. The lab copies it from here.
package sql

import "embed"

// Files is the folder shop: columns.yaml, accounts.sql, neutralize.sql, events.sql and checks/*.sql.
//
//go:embed all:shop
var Files embed.FS
