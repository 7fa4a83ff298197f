// Package wire is what the runner and the agent on a host say to each other, over one SSH channel.
//
// It promises that whoever reads gets whole messages or an error: a frame that was torn, altered, repeated or lost is
// never a shorter answer. Names are raw bytes. An answer ends with Done or Failed; without either it does not count.
//
// It opens nothing and decides nothing.
package wire
