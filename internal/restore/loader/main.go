// Command loader is what Rehearsal puts on staging's host where the rows of a backup are not to pass through the machine
// that runs mage: it pulls them from the backup host, masks and loads them, and searches what came of them, as the runner
// asks over stdin, and answers on stdout. Where they do pass there, it reads what came of them, so that this need not.
//
// It promises what a restore promises: raw data lands nowhere on staging. It logs in to the backup host by an agent that
// is lent to it, and knows no key; it writes no file but those of psql's pipes; and it ends, with all that it has started,
// when stdin does or nobody is heard there.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"rehearsal/internal/restore"
	"rehearsal/internal/run"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "-version" {
		fmt.Println("rehearsal-loader", restore.Version)
		return
	}
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "this is Rehearsal's loader; `mage staging:reset` talks to it over stdin and stdout")
		os.Exit(2)
	}
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) // what is in memory here, and in psql's, must not land on a disk
	run.Economise()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a runner that is gone must not end us before what we have started has ended
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	defer cancel()
	if err := restore.Serve(ctx, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
