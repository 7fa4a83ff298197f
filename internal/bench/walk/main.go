// Command walk is the floor of every comparison of trees: it looks at each file of a folder as the agent does, several
// folders at once, and does nothing with what it sees. It fails where it did not see as many files as it was told to.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"rehearsal/internal/images/tree"
)

func main() {
	if err := walk(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "walk:", err)
		os.Exit(1)
	}
}

func walk(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: walk FOLDER FILES")
	}
	expected, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	root, err := tree.OpenRoot(args[0])
	if err != nil {
		return err
	}
	defer root.Close()
	files := 0
	err = root.Walk(context.Background(), tree.Options{}, func(c *tree.Chunk) error {
		files += len(c.Entries)
		c.Release()
		return nil
	})
	if err == nil && files != expected {
		err = fmt.Errorf("%s has %d files, not %d", args[0], files, expected)
	}
	return err
}
