package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// AmcheckSince is the first major version with pg_amcheck and with amcheck's check of heaps.
const AmcheckSince = 14

// Amcheck runs pg_amcheck over relations, one after the other, on the server's host, and tells begun which one
// is being scanned. A nil error means that it came to its end, whatever it found; a relation that it did not
// begin is not in Begun. Where it was cut short, Reports is incomplete: pg_amcheck keeps its reports back in
// stdio's buffer and loses them.
func (s *Server) Amcheck(ctx context.Context, relations []Relation, begun func(Relation)) (*Amchecked, error) {
	cmd, err := s.Command(ctx, AmcheckArgs(s.Spec, relations), map[string]string{
		// A backend does not notice that pg_amcheck was ended, and would go on reading for hours.
		"client_connection_check_interval": "1s",
		"statement_timeout":                "0",
		"lock_timeout":                     "10s", // a migration's lock must not hold up everything else
		"client_encoding":                  "UTF8",
	})
	if err != nil {
		return &Amchecked{}, err
	}
	cmd.Env["LC_ALL"] = "C"
	a := newAmchecked(s.Spec.Name, relations, begun)
	stdout, stderr := &lines{to: a.readReport}, &lines{to: a.readProgress}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err = s.Host.Run(ctx, cmd)
	stdout.flush()
	var exit *host.ExitError
	switch {
	case errors.As(err, &exit) && exit.Status == 2 && len(a.Reports) > 0 && len(a.unread) == 0:
		err = nil // it found something
	case errors.As(err, &exit):
		err = run.Fail(run.Incomplete, "", "pg_amcheck on %s: exit status %d%s", exit.Host, exit.Status, a.complaint())
	case err == nil && len(a.Reports)+len(a.unread) > 0:
		err = run.Fail(run.Incomplete, "", "pg_amcheck on %s reports something and ends as if all were well", s.Host.Name())
	}
	return a, err
}

// AmcheckArgs is pg_amcheck over exactly these relations, without their TOAST tables and indexes unless those
// are in the list too. A quoted pattern stands for itself.
//
// Never --parent-check or --rootdescend: they take a ShareLock on the index and its table, which blocks every
// write; without them it is the AccessShareLock of a SELECT (documentation of amcheck, bt_index_parent_check).
// A relation dropped meanwhile is not an error, hence --no-strict-names.
func AmcheckArgs(spec inventory.Server, relations []Relation) []string {
	args := []string{tool(spec, "pg_amcheck"), "--no-password", "--verbose", "--heapallindexed", "--no-strict-names",
		"--no-dependent-indexes", "--no-dependent-toast"}
	for _, r := range relations {
		option := "--table="
		if r.Index {
			option = "--index="
		}
		args = append(args, option+Ident(r.Schema, r.Name))
	}
	return append(args, Conninfo(spec, spec.Name))
}

// Amchecked is what one run of pg_amcheck said.
type Amchecked struct {
	Begun   []Relation // in its order; where the run was cut short, the last one only began
	Reports []*AmcheckReport

	tell    func(Relation)
	labels  map[string][]Relation // by pg_amcheck's name for them, which quotes nothing: two may share one
	current *AmcheckReport
	unread  []string // lines that begin a report on nothing we asked for
	errors  []string
}

// AmcheckReport is what pg_amcheck reports about one relation.
type AmcheckReport struct {
	Relation Relation
	SQLState string   // of the error that ended its scan; empty where the scan came to its end
	Messages []string // the first few
	Count    int      // of all messages
}

// Corrupt tells a report of corruption from one of a scan that could not be done. Corruption of a heap comes as
// rows of verify_heapam, that of a B-tree as an error of class XX (internal error, data or index corrupted); a
// page or file that cannot be read is of class XX or 58 (system error).
func (r *AmcheckReport) Corrupt() bool {
	return r.SQLState == "" || strings.HasPrefix(r.SQLState, "XX") || strings.HasPrefix(r.SQLState, "58")
}

// Text is the report for people. amcheck's own messages name blocks, offsets and relations, never a value. Any
// other error may come from a function that an index is made of, and quote a row: of it only the SQLSTATE is told.
func (r *AmcheckReport) Text() string {
	if !r.Corrupt() {
		known := map[string]string{"42501": "permission denied", "55P03": "it stayed locked for 10 s", "57014": "cancelled on the server"}
		if text := known[r.SQLState]; text != "" {
			return text
		}
		return "SQLSTATE " + r.SQLState
	}
	text := strings.Join(r.Messages, "; ")
	if more := r.Count - len(r.Messages); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

func newAmchecked(database string, relations []Relation, tell func(Relation)) *Amchecked {
	a := &Amchecked{tell: tell, labels: map[string][]Relation{}}
	for _, r := range relations {
		label := r.kind() + ` "` + database + "." + r.Schema + "." + r.Name + `"`
		a.labels[label] = append(a.labels[label], r)
	}
	return a
}

// readProgress reads a line of stderr.
func (a *Amchecked) readProgress(line string) {
	if label, ok := strings.CutPrefix(line, "pg_amcheck: checking "); ok {
		for _, r := range a.labels[label] {
			a.Begun = append(a.Begun, r)
			a.tell(r)
		}
	}
	if message, ok := strings.CutPrefix(line, "pg_amcheck: error: "); ok {
		a.errors = append(a.errors, message)
	}
}

var (
	reportHead  = regexp.MustCompile(`^((?:heap table|btree index) ".*")(?:, block (\d+))?(?:, offset (\d+))?(?:, attribute (\d+))?:$`)
	reportError = regexp.MustCompile(`^    [^ :]+: +([0-9A-Z]{5}): (.*)$`) // the severity is in the server's language
)

// maxMessages is how many messages about one relation are kept: a heap may have one a row.
const maxMessages = 5

// readReport reads a line of stdout. Only --verbose makes errors carry their SQLSTATE, so a report that has none
// and is not on a heap's block is counted as corruption.
func (a *Amchecked) readReport(line string) {
	if m := reportHead.FindStringSubmatch(line); m != nil {
		if a.current = a.report(m[1]); a.current == nil {
			a.unread = append(a.unread, m[1])
		}
		return
	}
	r := a.current
	switch m := reportError.FindStringSubmatch(line); {
	case r == nil || !strings.HasPrefix(line, "    "):
		return // the query, or an empty line
	case m != nil && r.SQLState == "":
		r.SQLState = m[1]
		r.add(m[2])
	case r.SQLState == "": // else DETAIL, HINT, LOCATION of the error
		r.add(strings.TrimSpace(line))
	}
}

func (r *AmcheckReport) add(message string) {
	r.Count++
	if len(r.Messages) < maxMessages {
		r.Messages = append(r.Messages, message)
	}
}

// report is the report on what pg_amcheck calls label. Where two relations share the label, it is on both.
func (a *Amchecked) report(label string) (found *AmcheckReport) {
	for _, r := range a.labels[label] {
		found = nil
		for _, known := range a.Reports {
			if known.Relation == r {
				found = known
			}
		}
		if found == nil {
			found = &AmcheckReport{Relation: r}
			a.Reports = append(a.Reports, found)
		}
	}
	return found
}

// complaint is why pg_amcheck gave up, as far as it says so.
func (a *Amchecked) complaint() string {
	switch {
	case len(a.errors) > 0:
		return ": " + a.errors[0]
	case len(a.unread) > 0:
		return ": a report that is on none of its relations: " + a.unread[0]
	case len(a.Reports) > 0:
		return ": " + a.Reports[len(a.Reports)-1].Text()
	}
	return ""
}

// lines hands every line written to it on, without its end.
type lines struct {
	to   func(string)
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.to(string(line))
		l.rest = rest
	}
}

func (l *lines) flush() {
	if len(l.rest) > 0 {
		l.to(string(l.rest))
		l.rest = nil
	}
}

// Relation is a heap or a B-tree index: what amcheck can scan.
type Relation struct {
	OID          uint32
	Schema, Name string
	Index        bool
	Table        string // the table it belongs to, as Qualify spells it; a TOAST table belongs to its table
	Catalog      bool   // that table is PostgreSQL's own
	Bytes        int64  // as of its last VACUUM or ANALYZE: pg_relation_size would wait for every lock
}

// Qualified is the relation's name as Qualify spells it. Tables and indexes share one name space.
func (r Relation) Qualified() string { return Qualify(r.Schema, r.Name) }

func (r Relation) kind() string {
	if r.Index {
		return "btree index"
	}
	return "heap table"
}

// String is the relation for people: the words of pg_amcheck, and the name quoted where that is needed.
func (r Relation) String() string {
	text := r.kind() + " " + r.Qualified()
	if r.Schema == "pg_toast" {
		text += " of " + r.Table
	}
	return text
}

// heaps are the tables that amcheck can scan, system catalogs too, and their TOAST tables. Temporary ones belong
// to their sessions, unlogged ones are empty on a standby.
const heaps = `WITH main AS (
  SELECT c.oid, c.reltoastrelid, n.nspname AS schema, c.relname AS name, n.nspname IN ('pg_catalog', 'information_schema') AS catalog
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_am a ON a.oid = c.relam
   WHERE c.relkind IN ('r', 'm') AND a.amname = 'heap' AND c.relpersistence <> 't' AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
), heap AS (
  SELECT oid, oid AS main, schema, name, catalog FROM main
  UNION ALL SELECT t.oid, main.oid, main.schema, main.name, main.catalog FROM main JOIN pg_catalog.pg_class t ON t.oid = main.reltoastrelid
)`

const scannableQuery = heaps + `, relation AS (
  SELECT oid, false AS index, schema, name, catalog FROM heap
  UNION ALL SELECT c.oid, true, heap.schema, heap.name, heap.catalog
    FROM heap JOIN pg_catalog.pg_index i ON i.indrelid = heap.oid JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_am a ON a.oid = c.relam
   WHERE a.amname = 'btree' AND c.relkind = 'i' AND i.indisvalid AND i.indisready AND i.indislive
)
SELECT r.oid, n.nspname::text, c.relname::text, r.index, r.schema::text, r.name::text, r.catalog, greatest(c.relpages, 0)::bigint * current_setting('block_size')::bigint
  FROM relation r JOIN pg_catalog.pg_class c ON c.oid = r.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 ORDER BY r.catalog, r.schema, r.name, r.index, c.relname`

// Relations lists what amcheck can scan in the session's database: a table's heap, its TOAST table and their
// B-tree indexes one after the other, PostgreSQL's own catalogs last.
func Relations(ctx context.Context, conn *pgx.Conn) (relations []Relation, err error) {
	rows, err := conn.Query(ctx, scannableQuery)
	if err != nil {
		return nil, fmt.Errorf("listing the relations: %w", err)
	}
	var r Relation
	var schema, table string
	_, err = pgx.ForEachRow(rows, []any{&r.OID, &r.Schema, &r.Name, &r.Index, &schema, &table, &r.Catalog, &r.Bytes}, func() error {
		r.Table = Qualify(schema, table)
		relations = append(relations, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing the relations: %w", err)
	}
	return relations, nil
}

// Uncovered is a kind of relation that amcheck cannot scan, e.g. "gin index".
type Uncovered struct {
	Kind  string `json:"kind"`
	Count int    `json:"count"`
}

// An invalid index, which a failed CREATE INDEX CONCURRENTLY left behind, is used by nobody, and amcheck refuses it.
const uncoveredQuery = heaps + `
SELECT kind, count(*)::int FROM (
  SELECT CASE WHEN a.amname = 'btree' THEN 'invalid btree index' ELSE a.amname || ' index' END AS kind
    FROM heap JOIN pg_catalog.pg_index i ON i.indrelid = heap.oid JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_am a ON a.oid = c.relam
   WHERE c.relkind = 'i' AND NOT (a.amname = 'btree' AND i.indisvalid AND i.indisready AND i.indislive)
  UNION ALL SELECT a.amname || ' table' FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam
   WHERE c.relkind IN ('r', 'm') AND a.amname <> 'heap'
) k GROUP BY kind ORDER BY kind`

// UncoveredRelations counts what Relations leaves out because amcheck has no check for it.
func UncoveredRelations(ctx context.Context, conn *pgx.Conn) ([]Uncovered, error) {
	kinds, err := collect[Uncovered](ctx, conn, uncoveredQuery)
	if err != nil {
		return nil, fmt.Errorf("listing what amcheck cannot scan: %w", err)
	}
	return kinds, nil
}

// The functions that pg_amcheck calls, one for heaps, one for B-trees; CREATE EXTENSION revokes them from PUBLIC,
// and whoever may execute them needs no right to the tables.
var amcheckFunctions = []string{"bt_index_check(regclass, boolean)", "verify_heapam(regclass, boolean, boolean, text, bigint, bigint)"}

// AmcheckReady returns the version of the extension amcheck in the session's database, or fails with
// run.Incomplete and the SQL for a superuser where it is missing, too old, or not ours to use.
func (s *Server) AmcheckReady(ctx context.Context, conn *pgx.Conn) (version string, err error) {
	where := fmt.Sprintf("database %q on %s", s.Spec.Name, s.Host.Name())
	hint := "as superuser in " + where + ": "
	var schema string
	var usage bool
	var known, granted []bool
	err = conn.QueryRow(ctx, `SELECT e.extversion, quote_ident(n.nspname), has_schema_privilege(n.oid, 'USAGE'),
		array_agg(p.oid IS NOT NULL ORDER BY f.i), array_agg(coalesce(has_function_privilege(p.oid, 'EXECUTE'), false) ORDER BY f.i)
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace CROSS JOIN unnest($1::text[]) WITH ORDINALITY f(name, i)
		LEFT JOIN pg_proc p ON p.oid = to_regprocedure(quote_ident(n.nspname) || '.' || f.name)
		WHERE e.extname = 'amcheck' GROUP BY e.oid, e.extversion, n.oid, n.nspname`, amcheckFunctions).Scan(&version, &schema, &usage, &known, &granted)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", run.Fail(run.Incomplete, hint+"CREATE EXTENSION amcheck; "+s.grantExecute("", amcheckFunctions), "the extension amcheck is missing in %s", where)
	}
	if err != nil {
		return "", fmt.Errorf("looking for the extension amcheck in %s: %w", where, err)
	}
	var statements, missing []string
	if !usage {
		statements = append(statements, "GRANT USAGE ON SCHEMA "+schema+" TO "+Ident(s.Spec.User))
	}
	for i, f := range amcheckFunctions {
		if !known[i] {
			return "", run.Fail(run.Incomplete, hint+"ALTER EXTENSION amcheck UPDATE; "+s.grantExecute(schema+".", amcheckFunctions),
				"the extension amcheck in %s is of version %s, which has no %s", where, version, f)
		}
		if !granted[i] {
			missing = append(missing, f)
		}
	}
	if len(missing) > 0 {
		statements = append(statements, s.grantExecute(schema+".", missing))
	}
	if len(statements) > 0 {
		return "", run.Fail(run.Incomplete, hint+strings.Join(statements, "; "), "the role %s may not use the extension amcheck in %s", s.Spec.User, where)
	}
	return version, nil
}

func (s *Server) grantExecute(schema string, functions []string) string {
	return "GRANT EXECUTE ON FUNCTION " + schema + strings.Join(functions, ", "+schema) + " TO " + Ident(s.Spec.User)
}
