package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"path"
	"strconv"
)

// writeFile writes stdin to $3 by way of $2, both in the folder $1; $4 is the number of bytes to come. A
// connection that is lost looks like the end of stdin, so the number is checked before anything is replaced.
// sync takes a file since coreutils 8.24; where it takes none it writes everything, which is slower, not wrong.
const writeFile = `umask 077
mkdir -p -- "$1" || exit
[ ! -d "$3" ] || { echo "$3 is a directory" >&2; exit 1; }
trap 'rm -f -- "$2"' EXIT
trap 'exit 1' HUP INT PIPE TERM
cat >"$2" || exit
[ "$(wc -c <"$2")" -eq "$4" ] || { echo "not all of it arrived" >&2; exit 1; }
sync -- "$2" 2>/dev/null || sync || exit
mv -f -- "$2" "$3" || exit
sync -- "$1" 2>/dev/null || sync`

// WriteFile puts data into a file on the host, mode 0600, making folders, mode 0700, where there are none. The
// file has its old content or all of the new, whatever happens, and once WriteFile returns nil it is on disk.
func (h *Host) WriteFile(ctx context.Context, file string, data []byte) error {
	file = h.Path(file)
	folder := path.Dir(file)
	partial := path.Join(folder, "."+rand.Text()+".partial")
	args := []string{folder, partial, file, strconv.Itoa(len(data))}
	if err := h.Run(ctx, Cmd{Script: writeFile, Args: args, Stdin: bytes.NewReader(data)}); err != nil {
		return fmt.Errorf("writing %s on %s: %w", file, h.spec.Name, err)
	}
	return nil
}
