// Package host is one machine over SSH, or the one we are on: commands, streams, files and sockets as that machine sees them.
//
// It promises that what it started ends: a command dies with its context, and, where it has no stdin of its
// own, with the connection too. Whoever stops answering is noticed within 45 seconds. A host key is believed
// because the inventory pins it or known_hosts has it; there is no switch to believe any.
//
// It never puts a secret into a command line, never lets a shell interpret an argument, and needs nothing on
// the host but sshd and a POSIX sh with its tools. A key that it lends to a command signs logins to the one host that it
// is lent for: that host has to sign first. It is the only importer of goph and of golang.org/x/crypto/ssh.
package host
