package bench

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// seed fills production, update is how a contender masks; the rest is what a team edits for one database.
//
//go:embed sql
var files embed.FS

// database is the name of the database on both sides, and of everything that belongs to it.
const database = "bench"

// arena is where the contenders meet: a lab, one backup in it, and a staging cluster that each finds as the one before
// did.
type arena struct {
	lab    *lab.Lab
	dir    string // ours, within the lab's
	binary string
	dump   string // the folder that pg_dump made
	bytes  int64  // in it
	config string // with which OpenSSH knows the lab's hosts

	distance time.Duration // round trip to the backup host where it is far away
	near     bool          // the backup host is near now; see place
}

// bytesPerRow is about what a row costs on disk at the worst: on production, in the dump, its spool and copies, twice on
// staging while it is masked by UPDATE, and in both WALs.
const bytesPerRow = 1500

// build makes the arena; it is gone when the target ends.
func build(ctx context.Context, t *run.Target, o Options) (*arena, error) {
	o.Dir = filepath.Join(o.Dir, "bench")
	a := &arena{dir: filepath.Join(o.Dir, "bench"), binary: o.Binary, distance: o.Distance}
	return a, t.Steps(ctx,
		run.Named("lab", func(ctx context.Context, s *run.Step) error { return a.up(ctx, t, s, o) }),
		run.Named("seed", func(ctx context.Context, s *run.Step) error { return a.seed(ctx, s, o.Rows) }),
		run.Named("back up", a.backUp),
	)
}

func (a *arena) up(ctx context.Context, t *run.Target, s *run.Step, o Options) error {
	if err := room("/tmp", "-rows", o.Rows, bytesPerRow); err != nil { // where the lab's hosts live
		return err
	}
	l, err := lab.Open(o.Dir)
	if err == nil { // a run that was killed left it
		err = errors.Join(os.RemoveAll(a.dir), l.Down(ctx))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if a.lab, err = lab.Up(ctx, lab.Options{Dir: o.Dir, Orders: 200}, func(what string) { s.Detail("%s", what) }); err != nil {
		return err
	}
	t.Cleanup("the lab in "+o.Dir, func(ctx context.Context) error {
		return errors.Join(os.RemoveAll(a.dir), a.lab.Down(ctx))
	})
	return a.writeInventories(ctx)
}

const databases = `
databases:
  bench:
    production: {host: production, socket: %q, port: %d, name: bench, user: backup_reader,
      system_identifier: %q, data_directory: %q}
    backups: {host: backup, path: %q, max_age: 26h}
    staging: {host: staging, socket: %q, port: %d, name: bench, user: rehearsal, owner: shop, data_directory: %q}
    sql: sql
`

// writeInventories writes one for each way of the rows and each place of the backup host, with the lab's hosts and the
// benchmark's database.
func (a *arena) writeInventories(ctx context.Context) error {
	if err := os.CopyFS(a.dir, files); err != nil {
		return fmt.Errorf("copying the benchmark's SQL: %w", err)
	}
	text, err := os.ReadFile(a.lab.Inventory())
	if err != nil {
		return err
	}
	hosts, _, found := strings.Cut(string(text), "\ndatabases:")
	if !found {
		return fmt.Errorf("the lab's inventory names no databases")
	}
	production, staging, backups := a.lab.Production, a.lab.Staging, a.lab.Path("backup", database)
	system, err := production.SQL(ctx, "postgres", "select system_identifier from pg_control_system();")
	if err != nil {
		return err
	}
	own := fmt.Sprintf(databases, production.Socket, production.Port, system, production.Data, backups, staging.Socket, staging.Port, staging.Data)
	errs := []error{os.Mkdir(backups, 0o700)}
	for _, transfer := range []inventory.Transfer{inventory.Relay, inventory.Direct} {
		ours := fmt.Sprintf("%s    transfer: %s\n", own, transfer)
		errs = append(errs, os.WriteFile(a.inventoryOf(false, transfer), []byte(hosts+ours), 0o600),
			os.WriteFile(a.inventoryOf(true, transfer), []byte(a.withoutProxy(hosts)+ours), 0o600))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	written, err := inventory.Load(a.inventoryOf(false, inventory.Relay))
	if err != nil {
		return err
	}
	a.config, err = writeSSH(a.dir, slices.Collect(maps.Values(written.Hosts))...)
	return err
}

// withoutProxy has the backup host's sshd reached itself: the proxy that can make a line long costs more of the processors
// than that, where there is no line.
func (a *arena) withoutProxy(hosts string) string {
	return strings.ReplaceAll(hosts, fmt.Sprintf(":%d\"", a.lab.FarPort), fmt.Sprintf(":%d\"", a.lab.SSHDOf("backup").Port))
}

// inventory is the one for the place where the backup host is now.
func (a *arena) inventory(transfer inventory.Transfer) string { return a.inventoryOf(a.near, transfer) }

func (a *arena) inventoryOf(near bool, transfer inventory.Transfer) string {
	place := "far"
	if near {
		place = "near"
	}
	return filepath.Join(a.dir, fmt.Sprintf("%s-%s.yaml", place, transfer))
}

// update is the script that masks by UPDATE.
func (a *arena) update() string { return filepath.Join(a.dir, "sql", "update.sql") }

func (a *arena) seed(ctx context.Context, s *run.Step, rows int) error {
	script, err := files.ReadFile("sql/seed.sql")
	if err != nil {
		return err
	}
	c := a.lab.Production
	if _, err := c.SQL(ctx, "postgres", "create database bench owner shop;"); err != nil {
		return err
	}
	if _, err := c.SQL(ctx, database, fmt.Sprintf("\\set rows %d\n%s", rows, script)); err != nil {
		return err
	}
	size, err := databaseBytes(ctx, c)
	s.Detail("%d rows, a database of %s", rows, run.Bytes(size))
	return err
}

// backUp makes the one backup that every contender restores.
func (a *arena) backUp(ctx context.Context, s *run.Step) error {
	result, _, err := product(ctx, a.binary, a.inventory(inventory.Relay), "backup:create")
	if err != nil {
		return err
	}
	a.dump = a.lab.Path("backup", database, result.Backup, "dump")
	entries, err := os.ReadDir(a.dump)
	for _, e := range entries {
		info, statErr := e.Info()
		if statErr != nil {
			return statErr
		}
		a.bytes += info.Size()
	}
	s.Detail("a dump of %s", run.Bytes(a.bytes))
	return err
}

// tool runs one of PostgreSQL's programs against the staging database, as its owner.
func (a *arena) tool(ctx context.Context, name string, args ...string) (usage, error) {
	c := a.lab.Staging
	args = append([]string{"-h", c.Socket, "-p", strconv.Itoa(c.Port), "-U", "shop", "-d", database}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(c.Bin, name), args...)
	cmd.Env = environ()
	_, u, err := finish(cmd)
	return u, err
}

// clear drops what a contender left on staging, and makes an empty database for those that expect one. After the
// checkpoint every contender finds clean buffers and a WAL that is as far from the next checkpoint.
func (a *arena) clear(ctx context.Context, empty bool) error {
	var sql strings.Builder
	for _, suffix := range []string{"", "_previous", "_incoming", "_discarded"} {
		fmt.Fprintf(&sql, "drop database if exists %s%s with (force);\n", database, suffix)
	}
	if empty {
		sql.WriteString("create database bench owner shop;\n")
	}
	_, err := a.lab.Staging.SQL(ctx, "postgres", "set client_min_messages = error;\n"+sql.String()+"checkpoint;\n")
	return err
}

// settle has what the contender before has written lie on the disk, and the dump in memory, which some kernels take away.
func (a *arena) settle(ctx context.Context) error {
	syscall.Sync()
	return warm(ctx, a.dump)
}
