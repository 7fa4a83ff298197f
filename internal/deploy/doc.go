// Package deploy brings our programs that run on hosts, the agent that looks at images and the loader that pulls backups, to
// a host. It stands for the local Go toolchain that builds them, and for the folder of our files on the other side.
//
// It promises that the path it returns is a program of that host's platform whose bytes are those it read or built here,
// and that the host runs it; and of an Agent that nothing else is ever started in its place. It never believes a file by
// its name, never leaves half of one under a name it would look for, and puts nothing outside our folder.
//
// Of a program it knows that "PROGRAM -version" ends at once, with status 0, and of the agent that it never ends with status
// 126 or 127.
package deploy
