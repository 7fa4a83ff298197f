package lab

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"

	"rehearsal/internal/inventory"
)

// StartHost starts an OpenSSH server below dir that lets whoever runs it in by a key of its own, and completes spec to
// what an inventory says of that host. The name and role are the caller's, and so is Stop. extra are lines of
// sshd_config.
func StartHost(ctx context.Context, spec inventory.Host, dir string, extra ...string) (*SSHD, *inventory.Host, error) {
	if err := makeFolder(dir, 0o755); err != nil {
		return nil, nil, err
	}
	spec.Identity = filepath.Join(dir, "key")
	if err := makeHostKey(ctx, spec.Identity, "ed25519"); err != nil {
		return nil, nil, err
	}
	authorized, err := os.ReadFile(spec.Identity + ".pub")
	if err != nil {
		return nil, nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, nil, err
	}
	s, err := StartSSHD(ctx, spec.Name, filepath.Join(dir, "sshd"), string(authorized), extra...)
	if err != nil {
		return nil, nil, err
	}
	spec.Address, spec.User, spec.HostKey = fmt.Sprintf("127.0.0.1:%d", s.Port), me.Username, s.HostKey
	return s, &spec, nil
}
