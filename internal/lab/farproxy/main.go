// Command farproxy is the long line to the lab's backup host. The lab builds and starts it; it serves until it is
// told to end by SIGTERM, and is controlled through a Unix socket: see lab.ProxyControl.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"rehearsal/internal/lab"
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "farproxy:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: farproxy PORT TARGET RTT CONTROL")
	}
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	rtt, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return lab.ServeProxy(ctx, port, args[1], rtt, args[3])
}
