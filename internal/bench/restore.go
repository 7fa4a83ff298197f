package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/lab"
	"rehearsal/internal/run"
)

// contender is one way to fill staging from the backup.
type contender struct {
	trial string // where the backup host is meanwhile
	name  string
	what  string // a sentence for who reads the report
	empty bool   // it expects an empty database, which is made before its time begins
	fill  func(ctx context.Context, a *arena) (sample, error)
}

func (c contender) String() string { return at(c.trial, c.name) }

// The trials.
const (
	near = "" // on the same machine
	far  = "far away"
	torn = "far away, cut ten times"
)

// at names what is measured in a trial.
func at(trial, what string) string {
	if trial == near {
		return what
	}
	return trial + ": " + what
}

// The figures of the contenders, by the names that tables and JSON have for them.
const (
	plain       = "pg_restore -j2"
	updated     = "pg_restore -j2, then UPDATE"
	masked      = "staging:reset"
	maskedLoad  = "staging:reset, masked load and post-data"
	maskedProof = "staging:reset, with proof"
	maskedWhole = "staging:reset, whole target"
	direct      = "staging:reset, transfer: direct"
	directLoad  = "staging:reset, transfer: direct, masked load and post-data"
	directProof = "staging:reset, transfer: direct, with proof"
	directWhole = "staging:reset, transfer: direct, whole target"
	scripted    = "sftp twice, pg_restore -j1, then UPDATE"
	fetched     = "sftp, then pg_restore -j2"
)

var contenders = []contender{
	{near, plain, "restores the dump's folder from this disk, raw: no network, no mask, no check. The floor.", true, restorePlainly},
	{near, masked, "reads the same files over SSH, checks every one's sha256, masks in flight, counts, proves, swaps.", false, resetStaging},
	{near, direct, "does the same by a program on staging's host, which pulls the files itself: no row passes through the runner.", false, resetDirectly},
	{near, updated, "restores raw data, then masks the same columns by one UPDATE a table, as teams do it. Dead rows and WAL keep the raw values.", true, restoreAndUpdate},
	{far, masked, "is the same reset with the backup host far away.", false, resetStaging},
	{far, direct, "is far from the backup host on staging and in the runner.", false, resetDirectly},
	{far, scripted, "fetches the dump's folder to this machine, puts it to staging's host, and restores and masks it there over ssh, as the scripts of teams do " +
		"it today; with OpenSSH's sftp instead of Fabric's, which is not measured. Dead rows and WAL keep the raw values, and two disks the raw dump.", true, script(scripted, twoHops)},
	{far, fetched, "fetches the folder to where it is restored, raw.", true, script(fetched, oneHop)},
	{torn, masked, "is a reset that loses every connection to the backup host ten times, each time another part of the dump has come.", false, resetCut},
}

// figures are all that is timed, in the order of the report.
var figures = []string{
	plain, maskedLoad, maskedProof, maskedWhole, directLoad, directProof, directWhole, updated,
	at(far, maskedLoad), at(far, maskedProof), at(far, maskedWhole), at(far, directLoad), at(far, directProof), at(far, directWhole),
	at(far, scripted), at(far, fetched),
	at(torn, maskedWhole),
}

var restoreRatios = []ratio{
	{of: maskedLoad, to: plain, most: 1.25},
	{of: maskedProof, to: plain, most: 1.5},
	{of: directLoad, to: plain},
	{of: directProof, to: plain},
	{of: updated, to: plain},
	{of: maskedLoad, to: updated},
	{of: maskedProof, to: updated},
	{of: at(far, scripted), to: at(far, maskedProof), least: 4},
	{of: at(far, scripted), to: at(far, directProof), least: 4},
	{of: at(far, scripted), to: at(far, maskedWhole)},
	{of: at(far, fetched), to: at(far, maskedProof), least: 2},
	{of: at(far, fetched), to: at(far, directProof), least: 2},
	{of: at(far, maskedProof), to: plain, most: 1.4},
	{of: at(far, directProof), to: plain, most: 1.4},
	{of: at(torn, maskedWhole), to: at(far, maskedWhole), most: 1.2},
}

// runnerGoal is what the memory of a reset's runner is to stay below, wherever the backup host is.
const runnerGoal = 150_000_000

// measureRestore has every contender fill staging from one backup of o.Rows rows.
func measureRestore(ctx context.Context, t *run.Target, o Options) (*part, error) {
	a, err := build(ctx, t, o)
	if err != nil {
		return nil, err
	}
	p := &part{command: fmt.Sprintf("mage bench -only=restore -rows=%d -rounds=%d -write", o.Rows, o.Rounds), began: time.Now(), samples: samples{}}
	if p.machine, err = lookAtDatabase(ctx, a.lab.Staging); err != nil {
		return nil, err
	}
	if err := a.warmUp(ctx, t); err != nil {
		return nil, err
	}
	err = inTurn(contenders, o.Rounds, func(round int, c contender) error {
		s, err := a.measure(ctx, t, fmt.Sprintf("round %d of %d: %s", round+1, o.Rounds, c), c)
		p.samples[c.String()] = append(p.samples[c.String()], s)
		return err
	})
	if err != nil {
		return nil, err
	}
	restored(p, o)
	return p, nil
}

// warmUp has two contenders run without being measured. The first restore of a cluster takes a quarter longer: it makes the
// files of the WAL, which later ones use again. The first reset of its kind builds the loader.
func (a *arena) warmUp(ctx context.Context, t *run.Target) error {
	for _, c := range contenders {
		if c.trial != near || c.name != plain && c.name != direct {
			continue
		}
		if _, err := a.measure(ctx, t, "warm up: "+c.String(), c); err != nil {
			return err
		}
	}
	return nil
}

func restorePlainly(ctx context.Context, a *arena) (sample, error) {
	u, err := a.tool(ctx, "pg_restore", "-j2", "--no-owner", "--exit-on-error", a.dump)
	return sample{seconds: map[string]float64{plain: u.wall.Seconds()}, client: u.cpu}, err
}

func restoreAndUpdate(ctx context.Context, a *arena) (sample, error) {
	restore, err := a.tool(ctx, "pg_restore", "-j2", "--no-owner", "--exit-on-error", a.dump)
	if err != nil {
		return sample{}, err
	}
	update, err := a.tool(ctx, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", a.update())
	return sample{seconds: map[string]float64{updated: (restore.wall + update.wall).Seconds()}, client: restore.cpu + update.cpu}, err
}

func resetStaging(ctx context.Context, a *arena) (sample, error) {
	return resetWith(ctx, a, inventory.Relay, maskedLoad, maskedProof, maskedWhole)
}

func resetDirectly(ctx context.Context, a *arena) (sample, error) {
	return resetWith(ctx, a, inventory.Direct, directLoad, directProof, directWhole)
}

// resetWith measures a reset whose rows take that way; the names are those of its figures.
func resetWith(ctx context.Context, a *arena, transfer inventory.Transfer, loadName, proofName, wholeName string) (sample, error) {
	r, u, err := product(ctx, a.binary, a.inventory(transfer), "staging:reset")
	if err != nil {
		return sample{}, err
	}
	load, proof, err := phases(r.Steps)
	s := sample{client: u.cpu, rss: u.rss, steps: r.Steps}
	s.seconds = map[string]float64{loadName: load, proofName: load + proof, wholeName: u.wall.Seconds()}
	return s, err
}

// The steps of a reset that do what pg_restore does, and those that belong to neither load nor proof: before it to find
// out whether it can work, after it to make the copy a staging. What is left over proves, also what is not known here:
// so no step escapes the comparison by a new name.
var (
	loading = []string{"empty tables", "load and mask", "sequences", "indexes and constraints"}
	neither = []string{"connect", "choose the backup", "check staging", "rehearse the schema", "try the queries",
		"grants and statistics", "accounts", "neutralize", "checks", "newest events", "swap", "record the rehearsal"}
)

// phases sums up the seconds of a reset's steps. A step of loading that is missing is an error: the rest would look
// fast.
func phases(steps []step) (load, proof float64, err error) {
	missing, proofs := slices.Clone(loading), 0
	for _, s := range steps {
		switch {
		case slices.Contains(loading, s.Name):
			load += s.Seconds
			missing = slices.DeleteFunc(missing, func(name string) bool { return name == s.Name })
		case !slices.Contains(neither, s.Name):
			proof += s.Seconds
			proofs++
		}
	}
	if len(missing) > 0 || proofs == 0 {
		return 0, 0, run.Fail(run.Incomplete, "restore.go lists the steps", "staging:reset reports %d steps of proof, and no step %q", proofs, missing)
	}
	return load, proof, nil
}

// measure runs a contender once.
func (a *arena) measure(ctx context.Context, t *run.Target, name string, c contender) (s sample, err error) {
	err = t.Step(ctx, name, func(ctx context.Context, step *run.Step) error {
		if err := errors.Join(a.place(c.trial), a.clear(ctx, c.empty), a.settle(ctx)); err != nil {
			return err
		}
		before, err := a.read(ctx)
		if err != nil {
			return err
		}
		if s, err = c.fill(ctx, a); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
		after, err := a.read(ctx)
		if err != nil {
			return err
		}
		s.spend(before, after)
		if s.size, err = databaseBytes(ctx, a.lab.Staging); err != nil {
			return err
		}
		s.tried(c.trial)
		step.Detail("%s", s.summary(c.String()))
		return a.clear(ctx, false)
	})
	return s, err
}

// read reads the meters.
func (a *arena) read(ctx context.Context) (r reading, err error) {
	text, err := a.lab.Staging.SQL(ctx, "postgres", "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn;")
	if err != nil {
		return r, err
	}
	wal, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return r, fmt.Errorf("asking for the WAL's end: %w", err)
	}
	postmaster, err := postmasterPID(a.lab.Staging)
	if err != nil {
		return r, err
	}
	if r, err = readProcessors(postmaster, append(pids(a.lab.SSH), a.lab.FarPID)); err != nil {
		return r, err
	}
	r.wal = wal
	r.line, err = a.passed()
	return r, err
}

func postmasterPID(c *lab.Cluster) (int, error) {
	text, err := os.ReadFile(filepath.Join(c.Data, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(strings.TrimSpace(first))
}

func databaseBytes(ctx context.Context, c *lab.Cluster) (int64, error) {
	text, err := c.SQL(ctx, database, "select pg_database_size(current_database());")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}
