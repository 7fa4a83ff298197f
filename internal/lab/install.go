package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/term"

	"rehearsal/internal/run"
)

// Missing names the Debian packages of what the lab needs and this machine lacks; none means Up can begin.
func Missing() []string {
	var packages []string
	if _, err := findSSHD(); err != nil {
		packages = append(packages, "openssh-server") // brings ssh-keygen with it
	}
	if _, err := postgresBin(); err != nil {
		packages = append(packages, "postgresql") // initdb, and by postgresql-client pg_dump and psql
	}
	if _, err := exec.LookPath("ps"); err != nil {
		packages = append(packages, "procps") // ps: without it nothing would be known to be ours, and killed
	}
	return packages
}

// Install installs packages by apt-get, as root or through sudo, and says on out what it runs before it does.
// Where neither is possible it changes nothing and fails with run.Usage and the command to run as the hint.
func Install(ctx context.Context, packages []string, out io.Writer) error {
	hint := installHint(packages)
	if _, err := exec.LookPath("apt-get"); err != nil {
		return run.Fail(run.Usage, "on Debian and Ubuntu that is: "+hint,
			"%s must be installed by hand: there is no apt-get here", strings.Join(packages, " and "))
	}
	sudo, ok := becomeRoot(ctx)
	if !ok {
		return run.Fail(run.Usage, hint, "%s must be installed by root: there is neither sudo without a password nor a terminal to ask for one",
			strings.Join(packages, " and "))
	}
	commands := installCommands(sudo, packages)
	fmt.Fprintln(out, "installing what the lab needs (Debian may start these services on its own; the lab does not use them):")
	for _, args := range commands {
		fmt.Fprintln(out, "  "+strings.Join(args, " "))
	}
	for _, args := range commands {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("running %s: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}

// becomeRoot returns what stands before a command so that root runs it: nothing, or sudo where it works
// without a password or can ask a person for one.
func becomeRoot(ctx context.Context) (sudo []string, ok bool) {
	if os.Geteuid() == 0 {
		return nil, true
	}
	if _, err := exec.LookPath("sudo"); err != nil {
		return nil, false
	}
	if exec.CommandContext(ctx, "sudo", "-n", "true").Run() == nil {
		return []string{"sudo"}, true
	}
	return []string{"sudo"}, term.IsTerminal(int(os.Stdin.Fd()))
}

func installCommands(sudo, packages []string) [][]string {
	apt := append(sudo[:len(sudo):len(sudo)], "env", "DEBIAN_FRONTEND=noninteractive", "apt-get")
	return [][]string{
		append(apt[:len(apt):len(apt)], "update"),
		append(append(apt[:len(apt):len(apt)], "install", "-y"), packages...),
	}
}

// installHint is the same for a person to type.
func installHint(packages []string) string {
	sudo := ""
	if os.Geteuid() != 0 {
		sudo = "sudo "
	}
	return sudo + "apt-get update && " + sudo + "apt-get install -y " + strings.Join(packages, " ")
}
