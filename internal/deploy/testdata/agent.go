// A program that keeps the agent's one promise, for a module that tests make.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "-version" {
		fmt.Println("agent 1")
		return
	}
	os.Exit(2)
}
