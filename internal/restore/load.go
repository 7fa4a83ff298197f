package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"rehearsal/internal/archive"
	"rehearsal/internal/host"
	"rehearsal/internal/mask"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// streams is how many tables are loaded at once: enough to hide the round trips of small tables, few enough
// for a small staging machine.
const streams = 4

// Load builds the empty tables, fills them from the backup with every row masked before it reaches the heap,
// and sets the sequences. Every file's sha256 is checked as it passes; tables that the rules truncate are not
// read at all.
func (r *Restore) Load(ctx context.Context) error {
	err := r.Target.Step(ctx, "empty tables", func(ctx context.Context, s *run.Step) error {
		if err := r.Staging.Create(ctx, r.Session, r.Database, r.Staging.Spec.Owner, r.toc.DatabaseOptions()); err != nil {
			return err
		}
		if err := r.schema(ctx, "--section=pre-data"); err != nil {
			return err
		}
		return r.execute(ctx, func(t mask.Table) string { return r.byTrigger(t).Trigger() })
	})
	if err != nil {
		return err
	}
	err = r.Target.Step(ctx, "load and mask", r.loadRows)
	if err != nil {
		return err
	}
	return r.Target.Step(ctx, "sequences", func(ctx context.Context, s *run.Step) error {
		if err := r.loadSequences(ctx); err != nil {
			return err
		}
		return r.execute(ctx, func(t mask.Table) string { return r.byTrigger(t).DropTrigger() })
	})
}

// inFlight says whether rows are masked on this machine as far as they can be: not those of a file that only pg_restore
// can take apart, on staging.
func (r *Restore) inFlight() bool { return r.toc.Kind != archive.Custom && r.utf8() }

// utf8 says whether the dump's text is UTF-8, which is all that this machine reads.
func (r *Restore) utf8() bool {
	return slices.Contains(r.toc.Session(), "SET client_encoding = 'UTF8';")
}

// byTrigger is the table with those masked columns that a trigger masks.
func (r *Restore) byTrigger(t mask.Table) mask.Table {
	if r.inFlight() {
		t, _ = t.InFlight()
	}
	return t
}

// execute runs one statement for each table, as the owner, all in one transaction.
func (r *Restore) execute(ctx context.Context, statement func(mask.Table) string) error {
	conn, err := r.Staging.Connect(ctx, r.Database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var sql strings.Builder
	fmt.Fprintf(&sql, "SET ROLE %s;\n", postgres.Ident(r.Staging.Spec.Owner))
	for _, t := range r.Plan.Tables {
		if s := statement(t); s != "" {
			sql.WriteString(s + "\n")
		}
	}
	if _, err := conn.Exec(ctx, sql.String()); err != nil {
		return run.Fail(run.Unclean, "an expression under sql in columns.yaml may not fit its column", "preparing the masks in %s: %w", r.Database, err)
	}
	return nil
}

// stream is one file on its way to staging.
type stream struct {
	file  archive.File
	what  string // for messages: the table, or the archive
	entry archive.Entry
	fault run.Code // of rows that do not load: the mask's where there is one, else the backup's
}

// maskedWeight is how much longer a byte of a masked table takes than one that passes.
const maskedWeight = 3

// wanted lists the tables to load, those first that take longest, so that none of them is the last to start.
func (r *Restore) wanted() (streams []stream, bytes int64) {
	for _, e := range r.toc.Data() {
		name := postgres.Qualify(e.Namespace, e.Tag)
		file, _ := r.dataFile(e)
		fault := run.Unfit
		if len(r.planned[name].Masked) > 0 {
			fault = run.Unclean
		}
		if !r.planned[name].Truncate {
			streams = append(streams, stream{entry: e, file: file, what: name, fault: fault})
			bytes += file.Bytes
		}
	}
	weight := func(s stream) int64 {
		if len(r.planned[s.what].Masked) > 0 {
			return maskedWeight * s.file.Bytes
		}
		return s.file.Bytes
	}
	slices.SortStableFunc(streams, func(a, b stream) int { return cmp.Compare(weight(b), weight(a)) })
	return streams, bytes
}

// Loaded names the files that Load reads, as the manifest does; it hashes them as they pass.
func (r *Restore) Loaded() (names []string) {
	streams, _ := r.wanted()
	for _, s := range streams {
		names = append(names, s.file.Name)
	}
	return append(names, "dump/toc.dat")
}

func (r *Restore) loadTables(ctx context.Context, s *run.Step) error {
	tables, bytes := r.wanted()
	s.Expect(bytes)
	s.Count(0, len(tables), "tables")
	var loaded atomic.Int64
	all := len(tables)
	done := func() { s.Count(int(loaded.Add(1)), all, "tables") }
	small := slices.DeleteFunc(slices.Clone(tables), func(t stream) bool { return !isSmall(t) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(streams)
	for _, t := range slices.DeleteFunc(tables, isSmall) {
		g.Go(func() error {
			err := r.loadTable(ctx, t, s.Add)
			if err == nil {
				done()
			}
			return err
		})
	}
	g.Go(func() error { return r.loadSmall(ctx, small, s.Add, done) })
	return g.Wait()
}

// feed runs on staging for one file: $1 a file that says that unpacking failed, $2 the command that unpacks, empty where
// the rows are not packed, $3 whether what psql could not load is to be read to its end to tell whether that failed, $4
// psql's last argument, $5 that of a second psql which reads the same stream, or empty, then psql's command line. The bytes
// go from pipe to pipe and never lie on disk. (pg_restore can read them from a FIFO in place of the dump's file up to
// PostgreSQL 15.18; that of 15.20 refuses what is not a regular file.) The last cat takes what follows the end of the data,
// so that nobody writes into a closed pipe; the pipe ends when the whole left side has.
const feed = `
failed=$1 unpack=$2 patient=$3 last=$4 other=$5
shift 5
rm -f "$failed" "$failed.pipe"
load() {
	"$@"
	status=$?
	[ $status = 0 ] || [ "$patient" ] || return $status
	cat >/dev/null
	[ ! -e "$failed" ] || return 74
	return $status
}
unpacked() { eval "${unpack:-cat}" || : >"$failed"; }
if [ ! "$unpack$other" ]; then
	load "$@" "$last"
	exit
fi
if [ ! "$other" ]; then
	unpacked | load "$@" "$last"
	exit
fi
mkfifo -m 600 "$failed.pipe" || exit
"$@" "$other" <"$failed.pipe" &
unpacked | tee "$failed.pipe" | load "$@" "$last"
status=$?
wait $!
second=$?
[ $status != 0 ] || status=$second
exit $status`

// patient is feed's $3: of a backup made by others no hash tells whether the file or a mask is at fault.
func (r *Restore) patient() string {
	if r.Backup.Kind == archive.Ours {
		return ""
	}
	return "patient"
}

// notUnpacked is feed's exit status where the file could not be unpacked (EX_IOERR of sysexits.h).
const notUnpacked = 74

// unpackers are the programs that unpack the files of a dump, by suffix.
var unpackers = map[string]string{".gz": "gzip", ".zst": "zstd", ".lz4": "lz4"}

// unpackable refuses a backup whose files staging has no program for. gzip is where the others of POSIX are.
func (r *Restore) unpackable(ctx context.Context) error {
	for _, suffix := range []string{".zst", ".lz4"} {
		if !r.holds(func(f archive.File) bool { return path.Ext(f.Name) == suffix }) {
			continue
		}
		there, err := r.succeeds(ctx, host.Cmd{Script: `command -v "$1" >/dev/null`, Args: []string{unpackers[suffix]}})
		if err != nil {
			return err
		}
		if !there {
			return noUnpacker(unpackers[suffix], r.Backup.ID, r.Staging.Host.Name())
		}
	}
	if !r.holds(func(f archive.File) bool { return path.Ext(f.Name) == ".gz" && f.Bytes > smallBytes }) {
		return nil
	}
	var err error
	r.zlib, err = r.succeeds(ctx, host.Cmd{Script: zstdUnpacksGzip})
	return err
}

// zstdUnpacksGzip succeeds where zstd(1) is there and was built with zlib, as by Debian: then it unpacks gzip in half of
// gzip(1)'s time.
const zstdUnpacksGzip = `gzip -c </dev/null | zstd -dc >/dev/null 2>&1`

// unpacker is the command that unpacks a file on staging; it is empty where the rows are not packed.
func (r *Restore) unpacker(f archive.File) string {
	program, packed := unpackers[path.Ext(f.Name)]
	switch {
	case !packed:
		return ""
	case program == "gzip" && r.zlib:
		program = "zstd"
	}
	return program + " -dc"
}

// holds says whether one of the files with rows is such a one.
func (r *Restore) holds(such func(archive.File) bool) bool {
	return slices.ContainsFunc(r.toc.Data(), func(e archive.Entry) bool { f, _ := r.dataFile(e); return such(f) })
}

// succeeds says whether a command on staging exits with 0.
func (r *Restore) succeeds(ctx context.Context, cmd host.Cmd) (bool, error) {
	err := r.Staging.Host.Run(ctx, cmd)
	var exit *host.ExitError
	if errors.As(err, &exit) {
		return false, nil
	}
	return err == nil, err
}

func noUnpacker(program, backup, where string) error {
	return run.Fail(run.Unreachable, fmt.Sprintf("install %s on %s", program, where), "the rows of backup %s are packed by %s, which is not on %s", backup, program, where)
}

// splitBytes is the size of a packed file from which on a table that a trigger masks is loaded by two sessions, each of
// which takes every other row: a session masks on one core, and most of the time of a load is masking then. Reading the
// rows twice costs a microsecond a row; masking one costs ten.
const splitBytes = 4 << 20

// loadTable streams the file of one table into psql on staging: masked here and unpacked, or packed.
func (r *Restore) loadTable(ctx context.Context, t stream, progress func(int64)) error {
	session, statement, other := r.toc.Session(), t.entry.Copy, ""
	if len(r.byTrigger(r.planned[t.what]).Masked) > 0 && t.file.Bytes >= splitBytes {
		session = append(session, "CREATE TEMPORARY SEQUENCE rehearsal_row CACHE 1000")
		statement, other = half(t.entry.Copy, 0), "--command="+half(t.entry.Copy, 1)
	}
	args := postgres.CopyArgs(r.Staging.Spec, r.Database, session, statement)
	if other == "" && t.entry.Direct() {
		args = postgres.FreezeArgs(r.Staging.Spec, r.Database, session, statement, postgres.Ident(t.entry.Namespace, t.entry.Tag))
	}
	cmd, err := r.Staging.Command(ctx, args[:len(args)-1], r.Key.Settings())
	if err != nil {
		return err
	}
	through, unpacked, err := r.tableWay(t)
	if err != nil {
		return err
	}
	unpack := ""
	if !unpacked {
		unpack = r.unpacker(t.file)
	}
	failed := fmt.Sprintf("%s/%d.failed", r.dir, t.entry.ID)
	cmd.Script, cmd.Args = feed, append([]string{failed, unpack, r.patient(), args[len(args)-1], other}, cmd.Args...)
	return r.load(ctx, t, cmd, through, progress)
}

// half is a COPY that takes the even or the odd rows of a stream, by rest. WHERE is evaluated before the row's triggers
// (CopyFrom in PostgreSQL's copyfrom.c); it came with version 12.
func half(copyFrom string, rest int) string {
	statement := strings.TrimRight(strings.TrimSpace(copyFrom), ";")
	return fmt.Sprintf("%s WHERE pg_catalog.nextval('pg_temp.rehearsal_row') %% 2 = %d", statement, rest)
}

// loadArchive streams a whole file of pg_dump -Fc through pg_restore into psql on staging: one table after the other, as
// they lie in it. Rows of tables that the rules truncate pass through pg_restore's memory and no further.
func (r *Restore) loadArchive(ctx context.Context, s *run.Step) error {
	fault := run.Unfit
	if slices.ContainsFunc(r.Plan.Tables, func(t mask.Table) bool { return len(t.Masked) > 0 }) {
		fault = run.Unclean
	}
	entries := slices.DeleteFunc(r.toc.Data(), func(e archive.Entry) bool { return r.planned[postgres.Qualify(e.Namespace, e.Tag)].Truncate })
	list := r.dir + "/data.list"
	if err := r.Staging.Host.WriteFile(ctx, list, []byte(archive.List(entries))); err != nil {
		return err
	}
	args := postgres.LoadArgs(r.Staging.Spec, r.Database)
	cmd, err := r.Staging.Command(ctx, args[:len(args)-1], r.Key.Settings())
	if err != nil {
		return err
	}
	cmd.Script, cmd.Args = feed, append([]string{r.dir + "/archive.failed", r.readArchive(list), r.patient(), args[len(args)-1], ""}, cmd.Args...)
	file := r.Backup.Manifest.Files[0]
	s.Expect(file.Bytes)
	through, err := r.archiveWay()
	if err != nil {
		return err
	}
	return r.load(ctx, stream{file: file, what: "the archive", fault: fault}, cmd, through, s.Add)
}

// readArchive is the command that reads an archive from stdin and writes the rows of the entries in list as SQL.
func (r *Restore) readArchive(list string) string {
	return host.Quote(r.Staging.Tool("pg_restore"), "--data-only", "--use-list="+list, "--file=-")
}

// load streams one file from the backup host into a command on staging. Where both ends fail, the backup's damage is
// the cause and the other the consequence, so a failed load still reads the file to its end.
func (r *Restore) load(ctx context.Context, t stream, cmd host.Cmd, through way, progress func(int64)) error {
	pr, pw := io.Pipe()
	cmd.Stdin = pr
	loadCtx, stop := context.WithCancel(ctx)
	defer stop()
	copyCtx, stopCopy := context.WithCancel(ctx)
	defer stopCopy()
	copied := make(chan error, 1)
	go func() {
		err := r.copyThrough(copyCtx, &untilClosed{w: pw}, through, t.file.Name, progress)
		if err != nil {
			stop() // before the end of the stream is seen: what arrived must not count as a table
		}
		pw.CloseWithError(err)
		copied <- err
	}()
	loadErr := r.Staging.Host.Run(loadCtx, cmd)
	pr.CloseWithError(errLoadEnded)
	if loadCtx.Err() == nil && stagingsFault(loadErr) {
		stopCopy() // nothing to look for in the file
		<-copied
		return loadError(t, loadErr)
	}
	if err := <-copied; err != nil {
		return err
	}
	if loadErr != nil {
		return loadError(t, loadErr)
	}
	return nil
}

var errLoadEnded = errors.New("the load has ended")

// untilClosed writes to w until its reader is gone, and to nowhere from then on.
type untilClosed struct {
	w    io.Writer
	gone bool
}

func (u *untilClosed) Write(p []byte) (int, error) {
	if !u.gone {
		n, err := u.w.Write(p)
		if !errors.Is(err, errLoadEnded) {
			return n, err
		}
		u.gone = true
	}
	return len(p), nil
}

// loadSequences sets the sequences; the TOC itself holds their values.
func (r *Restore) loadSequences(ctx context.Context) error {
	sequences := r.toc.Sequences()
	if len(sequences) == 0 {
		return nil
	}
	list := r.dir + "/sequences.list"
	if err := r.Staging.Host.WriteFile(ctx, list, []byte(archive.List(sequences))); err != nil {
		return err
	}
	return r.pgRestore(ctx, "--section=data", "--use-list="+list)
}

// restoreError keeps the errors of pg_restore about objects, which hold no rows, with the statement they are about.
func restoreError(what string, err error) error {
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("pg_restore %s: %w", what, err)
	}
	code, hint := run.Unfit, ""
	if what == postData {
		code = run.Unclean // what cannot be built over loaded rows leaves the masks unproven
	}
	for _, k := range known {
		if k.stderr.MatchString(exit.Stderr) {
			hint = fmt.Sprintf(k.hint, exit.Host)
			if k.code != 0 {
				code = k.code
			}
			break
		}
	}
	return run.Fail(code, hint, "pg_restore %s on %s: %s", what, exit.Host, errorLines(exit.Stderr))
}

// known are failures of pg_restore whose next step is known; %s is the host. Without a code it is the step's.
var known = []struct {
	stderr *regexp.Regexp
	code   run.Code
	hint   string
}{
	{regexp.MustCompile("unsupported version"), 0, "pg_restore on %s is older than the pg_dump that made the backup: install the newer client and name its folder in postgres_bin"},
	{regexp.MustCompile("must be superuser|permission denied to create extension"), run.Unreachable,
		"only a superuser may create this: on %s add `trusted = true` to the extension's .control file, or leave it out of production's database"},
	{regexp.MustCompile("is not available"), run.Unreachable, "install that extension's package on %s"},
	{regexp.MustCompile(`role ".*" does not exist`), run.Unreachable, "create that role on %s: CREATE ROLE … NOLOGIN"},
	{regexp.MustCompile("could not create unique index"), 0, "a mask made two values equal, or the backup's own rows are; the index above says where (%s is as it was)"},
	{regexp.MustCompile("No space left on device|could not extend file"), run.Unreachable, "make room on %s"},
	{regexp.MustCompile("connection to server .* failed|server closed the connection|terminating connection"), run.Unreachable, "is PostgreSQL on %s up? Its log says more"},
}

// loadError says why rows of a table could not be loaded, without any of them: all that psql tells is a SQLSTATE.
func loadError(t stream, err error) error {
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("loading %s: %w", t.what, err)
	}
	if exit.Status == notUnpacked {
		return run.Fail(run.Unfit, "is the program that unpacks it there, gzip as a rule? Then the file is cut short or damaged", "loading %s on %s: its file could not be unpacked", t.what, exit.Host)
	}
	m := sqlstate.FindStringSubmatch(exit.Stderr)
	if m == nil {
		return run.Fail(run.Unreachable, "is PostgreSQL on "+exit.Host+" up, and are psql and gzip there?",
			"loading %s on %s: it failed without a SQLSTATE (exit status %d)", t.what, exit.Host, exit.Status)
	}
	what := "SQLSTATE " + m[1]
	for _, s := range states {
		if strings.HasPrefix(m[1], s.prefix) {
			what += ": " + s.meaning
			if s.hint != "" {
				return run.Fail(run.Unreachable, fmt.Sprintf(s.hint, exit.Host), "loading %s on %s: %s", t.what, exit.Host, what)
			}
			break
		}
	}
	hint := "does the mask in columns.yaml fit its column? The message is left out: it quotes rows of production"
	if t.fault == run.Unfit {
		hint = "the message is left out: it quotes rows of production; pg_restore of the backup by hand shows it"
	}
	return run.Fail(t.fault, hint, "loading %s on %s: %s", t.what, exit.Host, what)
}

// stagingsFault says whether a load failed for a reason that no byte of the backup can be.
func stagingsFault(err error) bool {
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		return err != nil
	}
	m := sqlstate.FindStringSubmatch(exit.Stderr)
	return m != nil && slices.ContainsFunc(states, func(s state) bool { return s.hint != "" && strings.HasPrefix(m[1], s.prefix) })
}

// sqlstate is all that psql prints of an error with VERBOSITY=sqlstate; with --file it says where.
var sqlstate = regexp.MustCompile(`(?m)^(?:psql:<stdin>:[0-9]+: )?(?:ERROR|FATAL|PANIC):  ([0-9A-Z]{5})$`)

type state struct{ prefix, meaning, hint string }

// states are the SQLSTATEs that a load meets (PostgreSQL's errcodes.txt). Those with a hint are staging's fault; %s is
// the host.
var states = []state{
	{"23502", "a value is missing where the column is NOT NULL", ""},
	{"23514", "a check constraint is violated", ""},
	{"22001", "a value is too long for its column", ""},
	{"22P02", "a value does not fit its type", ""},
	{"22021", "a byte sequence is not valid in the encoding", ""},
	{"P0001", "a function raised an error", ""},
	{"53100", "the disk is full", "make room on %s"},
	{"53", "resources run short", "PostgreSQL's log on %s says which"},
	{"57", "the server ended the session", "is PostgreSQL on %s up? Its log says more"},
	{"08", "the connection was lost", "is PostgreSQL on %s up? Its log says more"},
}

// harmless are the lines that pg_restore, or the shell that starts it, may print without anything being wrong with what
// was restored. Everything else is a failure: nobody reads warnings of a job that exits with 0.
var harmless = []*regexp.Regexp{
	regexp.MustCompile(`^\s*$`),
	// The database's collation version is looked at by itself.
	regexp.MustCompile(`^(WARNING|DETAIL|HINT):  (database ".*" has a collation version mismatch|The database was created using collation version .*|` +
		`Rebuild all objects in this database that use the default collation .*)`),
	// A locale that sshd was given and the host does not have.
	regexp.MustCompile(`: warning: setlocale: LC_[A-Z]+: cannot change locale`),
}

// unknownLines returns the lines that are not known to be harmless.
func unknownLines(stderr string) []string {
	return slices.DeleteFunc(strings.Split(strings.TrimSuffix(stderr, "\n"), "\n"), func(line string) bool {
		return slices.ContainsFunc(harmless, func(re *regexp.Regexp) bool { return re.MatchString(line) })
	})
}

// errorLines keeps pg_restore's lines about errors and the commands they are about.
func errorLines(stderr string) string {
	var kept []string
	for _, line := range strings.Split(stderr, "\n") {
		if strings.Contains(line, "error:") || strings.HasPrefix(line, "Command was:") {
			kept = append(kept, strings.TrimPrefix(line, "pg_restore: "))
		}
	}
	if len(kept) == 0 {
		return "it failed without a message"
	}
	return strings.Join(kept, "\n")
}
