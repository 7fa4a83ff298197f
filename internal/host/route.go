package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"

	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// route is how to reach a host and who it has to be: the inventory's word first, then that of OpenSSH's own
// configuration.
type route struct {
	name         string // of the host in the inventory
	alias        string // the address as the inventory has it, without a port
	host, port   string
	user         string
	hostKeyAlias string   // the name in known_hosts, where it is another than host
	knownHosts   []string // files
	identities   []string // private key files
	onlyThose    bool     // IdentitiesOnly: the agent's other keys are not offered
	agent        string   // path of the agent's socket; empty: none
	jumps        []string // ProxyJump, in the order of travel
	direct       bool     // no jump host
}

func (r *route) address() string { return net.JoinHostPort(r.host, r.port) }

func (r *route) String() string { return r.user + "@" + r.address() }

// resolve asks `ssh -G` what an address means, so that every alias means what it means to ssh. Without an ssh
// program the address is taken as it is.
func resolve(ctx context.Context, spec *inventory.Host) (*route, error) {
	r := &route{name: spec.Name, alias: spec.Address}
	if host, port, err := net.SplitHostPort(spec.Address); err == nil {
		r.alias, r.port = host, port
	}
	// ssh would take it for an option.
	if r.alias == "" || strings.HasPrefix(r.alias, "-") {
		return nil, run.Fail(run.Unreachable, fmt.Sprintf("set hosts.%s.address in the inventory", spec.Name), "%s has no usable address: %q", spec.Name, spec.Address)
	}
	config, err := openSSHConfig(ctx, r, spec.User)
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("finding out who runs this: %w", err)
	}
	r.apply(config, me)
	r.direct = spec.Via == nil && len(r.jumps) == 0
	if command := config.last("proxycommand"); command != "" && command != "none" && spec.Via == nil {
		return nil, run.Fail(run.Unreachable, fmt.Sprintf(`name the jump host as "via" of %s in the inventory, or as ProxyJump in ssh_config`, spec.Name),
			"%s is reached by a ProxyCommand, which is not supported: %s", spec.Name, command)
	}
	return r, nil
}

// via is the machine to go through: the inventory's, else the last of ProxyJump, which is behind those before it.
func (r *route) via(spec *inventory.Host) *inventory.Host {
	via := spec.Via
	if via != nil {
		return via
	}
	for _, jump := range r.jumps {
		hop := &inventory.Host{Name: jump, Address: strings.TrimSuffix(strings.TrimPrefix(jump, "ssh://"), "/"), Role: inventory.Jump, Via: via}
		if at := strings.LastIndex(hop.Address, "@"); at >= 0 {
			hop.User, hop.Address = hop.Address[:at], hop.Address[at+1:]
		}
		via = hop
	}
	return via
}

// sshConfig is what `ssh -G` prints: keywords in lower case, each with its values.
type sshConfig map[string][]string

func (c sshConfig) last(keyword string) string {
	if values := c[keyword]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

func openSSHConfig(ctx context.Context, r *route, asUser string) (sshConfig, error) {
	args := []string{"-G", "-T"}
	if r.port != "" {
		args = append(args, "-p", r.port)
	}
	if asUser != "" {
		args = append(args, "-l", asUser)
	}
	command := exec.CommandContext(ctx, "ssh", append(args, "--", r.alias)...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return literalConfig(r, asUser), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("resolving the address of %s: %w", r.name, ctx.Err())
	case err != nil:
		return nil, run.Fail(run.Unreachable, "mend what `ssh -G "+r.alias+"` complains about", "resolving the address of %s with ssh -G: %w: %s", r.name, err, strings.TrimSpace(stderr.String()))
	}
	config := sshConfig{}
	for line := range strings.Lines(string(out)) {
		keyword, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		config[keyword] = append(config[keyword], value)
	}
	return config, nil
}

// literalConfig holds OpenSSH's defaults (ssh_config(5)) for an address that no configuration knows.
func literalConfig(r *route, asUser string) sshConfig {
	config := sshConfig{
		"hostname":             {r.alias},
		"userknownhostsfile":   {"~/.ssh/known_hosts ~/.ssh/known_hosts2"},
		"globalknownhostsfile": {"/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"},
		"identityfile":         {"~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519"},
		"identitiesonly":       {"no"},
	}
	if r.port != "" {
		config["port"] = []string{r.port}
	}
	if asUser != "" {
		config["user"] = []string{asUser}
	}
	return config
}

func (r *route) apply(config sshConfig, me *user.User) {
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	r.host = or(config.last("hostname"), r.alias)
	r.port = or(config.last("port"), "22")
	r.user = or(config.last("user"), me.Username)
	r.hostKeyAlias = config.last("hostkeyalias")
	r.onlyThose = config.last("identitiesonly") == "yes"
	r.agent = r.agentSocket(config.last("identityagent"), me)
	for _, files := range []string{config.last("userknownhostsfile"), config.last("globalknownhostsfile")} {
		for _, file := range strings.Fields(files) {
			if _, err := os.Stat(r.expand(file, me)); err == nil {
				r.knownHosts = append(r.knownHosts, r.expand(file, me))
			}
		}
	}
	for _, file := range config["identityfile"] {
		if file != "none" {
			r.identities = append(r.identities, r.expand(file, me))
		}
	}
	if jumps := config.last("proxyjump"); jumps != "" && jumps != "none" {
		r.jumps = strings.Split(jumps, ",")
	}
}

// agentSocket reads IdentityAgent, see ssh_config(5).
func (r *route) agentSocket(value string, me *user.User) string {
	switch {
	case value == "none":
		return ""
	case value == "", value == "SSH_AUTH_SOCK":
		return os.Getenv("SSH_AUTH_SOCK")
	case strings.HasPrefix(value, "$"):
		return os.Getenv(strings.Trim(value, "${}"))
	}
	return r.expand(value, me)
}

// expand does what ssh does to file names after -G has printed them: "~/" and the tokens of ssh_config(5).
func (r *route) expand(file string, me *user.User) string {
	if rest, ok := strings.CutPrefix(file, "~/"); ok {
		file = filepath.Join(me.HomeDir, rest)
	}
	return strings.NewReplacer("%%", "%", "%d", me.HomeDir, "%h", r.host, "%n", r.alias, "%p", r.port,
		"%r", r.user, "%u", me.Username, "%i", me.Uid).Replace(file)
}
