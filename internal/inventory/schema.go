package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"rehearsal/internal/source"
)

// schema is hosts.yaml as tables: a function for each section, a row for each key. A key that is left out keeps the
// value set just before its table.
type schema struct {
	*reader
	inv       *Inventory
	dir       string // the folder of the file, absolute
	hosts     []*declared
	databases []*claim
}

// declared is a host with the places that can only be judged once all hosts are known.
type declared struct {
	*Host
	address, via pair
}

// claim is a database with the sections that say which places are its own.
type claim struct {
	*Database
	backups, staging pair
}

// hosts reads hosts.yaml. problems are ready to print; err is about this machine, not about the file.
func hosts(file string, src []byte) (inv *Inventory, problems []string, err error) {
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, nil, err
	}
	s := schema{
		reader: &reader{file: file},
		dir:    dir,
		inv: &Inventory{
			File:      file,
			Hosts:     map[string]*Host{},
			Databases: map[string]*Database{},
			Images:    map[string]*ImageStore{},
		},
	}
	s.section(pair{name: "the inventory", value: s.parse(src)}, []key{
		{"hosts", must, s.allHosts}, // first: the others refer to them
		{"databases", may, s.allDatabases},
		{"images", may, func(p pair) { s.named(p, s.images) }},
	})
	return s.inv, s.messages(), nil
}

func (s *schema) allHosts(p pair) {
	s.named(p, s.host)
	for _, d := range s.hosts {
		into(s.reader, &d.Via, s.hostAs(Jump))(d.via)
	}
	s.refuseLoops()
	s.refuseTwoRoles()
}

func (s *schema) host(p pair) {
	h := &Host{Name: p.name, State: "~/.rehearsal"}
	found := s.section(p, []key{
		{"address", must, into(s.reader, &h.Address, sshAddress)},
		{"user", may, into(s.reader, &h.User, sshUser)},
		{"role", must, into(s.reader, &h.Role, oneOf(Production, Backup, Staging, Jump))},
		{"via", may, func(pair) {}}, // see allHosts
		{"identity", may, into(s.reader, &h.Identity, s.localPath)},
		{"host_key", may, into(s.reader, &h.HostKey, hostKey)},
		{"postgres_bin", may, into(s.reader, &h.PostgresBin, remotePath)},
		{"state", may, into(s.reader, &h.State, remotePath)},
	})
	s.inv.Hosts[h.Name] = h
	s.hosts = append(s.hosts, &declared{h, found["address"], found["via"]})
}

func (s *schema) allDatabases(p pair) {
	s.named(p, s.database)
	s.refuseSharedPlaces()
}

func (s *schema) database(p pair) {
	db := &Database{Name: p.name, Transfer: []Transfer{Relay}}
	s.inv.Databases[db.Name] = db
	found := s.section(p, []key{
		{"production", must, s.server(&db.Production, Production)},
		{"backups", must, s.backups(&db.Backups)},
		{"staging", must, s.server(&db.Staging, Staging)},
		{"transfer", may, s.transfer(&db.Transfer)},
		{"sql", may, into(s.reader, &db.SQL, s.localPath)},
	})
	if _, ok := found["sql"]; !ok {
		var err error
		if db.SQL, err = s.localPath(filepath.Join("sql", db.Name)); err != nil {
			s.fail(p.key, "%v", err)
		}
	}
	s.databases = append(s.databases, &claim{db, found["backups"], found["staging"]})
}

func (s *schema) server(to *Server, role Role) func(pair) {
	return func(p pair) {
		to.Port = 5432
		table := []key{
			{"host", must, into(s.reader, &to.Host, s.hostAs(role))},
			{"socket", may, into(s.reader, &to.Socket, remotePath)},
			{"address", may, into(s.reader, &to.Address, tcpAddress)},
			{"port", may, into(s.reader, &to.Port, port)},
			{"name", must, into(s.reader, &to.Name, identifier)},
			{"user", must, into(s.reader, &to.User, identifier)},
			{"password_env", may, into(s.reader, &to.PasswordEnv, variable)},
			{"data_directory", may, into(s.reader, &to.DataDirectory, remotePath)},
		}
		if role == Production {
			table = append(table,
				key{"system_identifier", may, into(s.reader, &to.SystemIdentifier, systemIdentifier)},
				key{"major_version", may, into(s.reader, &to.MajorVersion, whole(9, 99))})
		} else {
			table = append(table, key{"owner", must, into(s.reader, &to.Owner, identifier)})
		}
		found := s.section(p, table)
		_, socket := found["socket"]
		address, tcp := found["address"]
		switch {
		case socket && tcp:
			s.fail(address.key, "%s has a socket and an address; keep the one that PostgreSQL is to be reached by", p.name)
		case found != nil && !socket && !tcp:
			s.fail(p.key, "%s is missing: socket, or address for TCP", p.name)
		}
	}
}

func (s *schema) backups(to *Backups) func(pair) {
	return func(p pair) {
		to.MaxAge, to.MaxShrink = 26*time.Hour, 0.2
		to.Keep = Keep{Daily: 7, Weekly: 5, Monthly: 12}
		s.section(p, []key{
			{"host", must, into(s.reader, &to.Host, s.hostAs(Backup))},
			{"path", must, into(s.reader, &to.Path, remotePath)},
			{"max_age", may, into(s.reader, &to.MaxAge, duration)},
			{"max_shrink", may, into(s.reader, &to.MaxShrink, share)},
			{"min_rows", may, s.minRows(&to.MinRows)},
			{"keep", may, s.keep(&to.Keep)},
		})
	}
}

// transfer reads one way, or a list of the ways to try in turn.
func (s *schema) transfer(to *[]Transfer) func(pair) {
	return func(p pair) {
		ways := []pair{p}
		if _, several := p.value.(*ast.SequenceNode); several {
			ways = nil
			for _, n := range s.list(p) {
				ways = append(ways, pair{"a way of " + p.name, n, n})
			}
			if len(ways) == 0 {
				s.fail(p.value, "%s is empty", p.name)
			}
		}
		*to = nil
		for _, q := range ways {
			var way Transfer
			into(s.reader, &way, oneOf(Relay, Direct))(q)
			switch {
			case slices.Contains(*to, way) && way != "":
				s.fail(q.value, "%s is here twice", way)
			case slices.Contains(*to, Relay):
				s.fail(q.value, "%s would never be tried: relay in front of it is always possible", way)
			}
			*to = append(*to, way)
		}
	}
}

// minRows reads the floors of tables, under the names that manifests have for them.
func (s *schema) minRows(to *map[string]int64) func(pair) {
	return func(p pair) {
		*to = map[string]int64{}
		pairs, _ := s.pairs(p)
		for _, q := range pairs {
			if _, err := table(q.name); err != nil {
				s.fail(q.key, "%v", err)
			}
			var floor int
			into(s.reader, &floor, whole(1, 1e12))(q)
			(*to)[q.name] = int64(floor)
		}
	}
}

// keep reads how many are kept; a kind that is left out beside another is not kept at all.
func (s *schema) keep(to *Keep) func(pair) {
	return func(p pair) {
		*to = Keep{}
		slots := whole(0, 1e6)
		s.section(p, []key{
			{"daily", may, into(s.reader, &to.Daily, slots)},
			{"weekly", may, into(s.reader, &to.Weekly, slots)},
			{"monthly", may, into(s.reader, &to.Monthly, slots)},
		})
	}
}

func (s *schema) images(p pair) {
	store := &ImageStore{Name: p.name, MaxLag: 26 * time.Hour, Hash: "blake3", Reread: 1. / 30}
	s.inv.Images[store.Name] = store
	s.section(p, []key{
		{"production", must, s.trees(&store.Production, Production)},
		{"backup", must, s.trees(&store.Backup, Backup)},
		{"max_lag", may, into(s.reader, &store.MaxLag, duration)},
		{"read_limit", may, into(s.reader, &store.ReadLimit, rate)},
		{"hash", may, into(s.reader, &store.Hash, oneOf("blake3", "xxh128"))},
		{"reread", may, into(s.reader, &store.Reread, share)},
		{"ignore", may, func(p pair) {
			for _, n := range s.list(p) {
				var pattern string
				into(s.reader, &pattern, glob)(pair{"a pattern", p.key, n})
				store.Ignore = append(store.Ignore, pattern)
			}
		}},
		{"references", may, s.references(&store.References)},
	})
}

// trees reads where one side of an image store lies: one folder, or a list of them.
func (s *schema) trees(to *[]Tree, role Role) func(pair) {
	return func(p pair) {
		places := []pair{p}
		if _, several := p.value.(*ast.SequenceNode); several {
			places = nil
			for _, n := range s.list(p) {
				places = append(places, pair{"a folder of " + p.name, n, n})
			}
			if len(places) == 0 {
				s.fail(p.value, "%s is empty", p.name)
			}
		}
		paths := make([]pair, len(places))
		for i, q := range places {
			var t Tree
			paths[i] = s.section(q, []key{
				{"host", must, into(s.reader, &t.Host, s.hostAs(role))},
				{"path", must, into(s.reader, &t.Path, remotePath)},
			})["path"]
			s.refuseFoldersTwice(t, paths[i], *to, paths[:i])
			*to = append(*to, t)
		}
	}
}

// refuseFoldersTwice reports a folder of one side that is, or shares files with, one of those before it.
func (s *schema) refuseFoldersTwice(t Tree, at pair, before []Tree, paths []pair) {
	for i, other := range before {
		if how := overlap(t, other); how != "" {
			line, _ := s.position(paths[i].key)
			s.fail(at.value, "this folder is %s that on line %d; no file may be on one side twice", how, line)
		}
	}
}

func (s *schema) references(to **References) func(pair) {
	return func(p pair) {
		*to = &References{}
		s.section(p, []key{
			{"database", must, into(s.reader, &(*to).Database, s.databaseCalled)},
			{"sql", must, into(s.reader, &(*to).SQL, s.localPath)},
		})
	}
}

func (s *schema) databaseCalled(name string) (*Database, error) {
	db, ok := s.inv.Databases[name]
	if !ok {
		known := slices.Sorted(maps.Keys(s.inv.Databases))
		return nil, fmt.Errorf("there is no database %q; databases has %s%s", name,
			cmp.Or(strings.Join(known, ", "), "none"), source.DidYouMean(name, known))
	}
	return db, nil
}

// hostAs returns a parser of the names of hosts that have the role.
func (s *schema) hostAs(role Role) func(string) (*Host, error) {
	return func(name string) (*Host, error) {
		h, ok := s.inv.Hosts[name]
		switch {
		case len(s.inv.Hosts) == 0: // which is the problem to mend first
			return nil, nil
		case !ok:
			known := slices.Sorted(maps.Keys(s.inv.Hosts))
			return nil, fmt.Errorf("there is no host %q; hosts has %s%s", name, strings.Join(known, ", "), source.DidYouMean(name, known))
		case h.Role != role && h.Role != "":
			return nil, fmt.Errorf("a host with the role %s is needed, and %s has the role %s; a host has one role", role, name, h.Role)
		}
		return h, nil
	}
}

// refuseLoops reports a chain of jump hosts that comes back to where it began.
func (s *schema) refuseLoops() {
	for _, d := range s.hosts {
		chain := d.Name
		h := d.Via
		for range s.hosts { // a chain that enters a loop further on is that loop's problem
			if h == nil {
				break
			}
			chain += " -> " + h.Name
			if h == d.Host {
				s.fail(d.via.value, "via goes round in a circle: %s", chain)
				d.Via = nil
				break
			}
			h = h.Via
		}
	}
}

// refuseTwoRoles reports a machine that is in the file under two names with different roles. A jump host may be one of
// the others too: it only forwards.
func (s *schema) refuseTwoRoles() {
	for i, b := range s.hosts {
		for _, a := range s.hosts[:i] {
			jump := a.Role == Jump || b.Role == Jump
			known := a.Role != "" && b.Role != ""
			if known && !jump && a.Role != b.Role && sameMachine(a.Host, b.Host) {
				line, _ := s.position(a.address.key)
				s.fail(b.address.at(), "%s (%s) and %s (%s, line %d) are the same machine; a machine has one role",
					b.Name, b.Role, a.Name, a.Role, line)
			}
		}
	}
}

// sameMachine compares addresses without asking DNS or ssh_config. Behind two different jump hosts the same address may
// well be two machines.
func sameMachine(a, b *Host) bool {
	hostA, portA, errA := splitAddress(a.Address)
	hostB, portB, errB := splitAddress(b.Address)
	if errA != nil || errB != nil || portA != portB || a.Via != nil && b.Via != nil && a.Via != b.Via {
		return false
	}
	return strings.EqualFold(strings.TrimSuffix(hostA, "."), strings.TrimSuffix(hostB, "."))
}

// refuseSharedPlaces reports two databases with one folder for their backups, of which each would count, choose and prune
// the other's, or with one database on staging, where the reset of one would replace the other.
func (s *schema) refuseSharedPlaces() {
	for i, b := range s.databases {
		for _, a := range s.databases[:i] {
			if how := overlap(Tree{b.Backups.Host, b.Backups.Path}, Tree{a.Backups.Host, a.Backups.Path}); how != "" {
				line, _ := s.position(a.backups.key)
				s.fail(b.backups.key, "the folder for the backups of %s is %s that of %s (line %d); each database needs a folder of its own",
					b.Name, how, a.Name, line)
			}
			if sameDatabase(b.Staging, a.Staging) {
				line, _ := s.position(a.staging.key)
				s.fail(b.staging.key, "the staging of %s is that of %s, too (line %d); a reset of one would replace the other",
					b.Name, a.Name, line)
			}
		}
	}
}

// overlap says how the folder b lies to the folder a; "" for apart. Whether a path below ~ is one from / nobody knows
// without asking the host.
func overlap(b, a Tree) string {
	if a.Host == nil || b.Host == nil || a.Path == "" || b.Path == "" || !sameMachine(a.Host, b.Host) ||
		strings.HasPrefix(a.Path, "~") && a.Host.User != b.Host.User {
		return ""
	}
	folderB, folderA := path.Clean(b.Path)+"/", path.Clean(a.Path)+"/"
	switch {
	case folderB == folderA:
		return "the same as"
	case strings.HasPrefix(folderB, folderA), folderA == "//":
		return "inside"
	case strings.HasPrefix(folderA, folderB), folderB == "//":
		return "around"
	}
	return ""
}

func sameDatabase(b, a Server) bool {
	return a.Host != nil && b.Host != nil && a.Name != "" && sameMachine(a.Host, b.Host) &&
		path.Clean(a.Socket) == path.Clean(b.Socket) && strings.EqualFold(a.Address, b.Address) && a.Port == b.Port && a.Name == b.Name
}

// localPath resolves a path on this machine: against the folder of the inventory if it exists there, else against the
// working directory.
func (s *schema) localPath(p string) (string, error) {
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		home, err := os.UserHomeDir()
		return filepath.Join(home, rest), err
	}
	if strings.HasPrefix(p, "~") {
		return "", errors.New("of homes only ~/ is known; write the full path")
	}
	if filepath.IsAbs(p) {
		return filepath.Clean(p), nil
	}
	beside := filepath.Join(s.dir, p)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	return filepath.Abs(p)
}

// accounts reads accounts.yaml. problems are ready to print.
func accounts(file string, src []byte) (people []Account, problems []string) {
	r := &reader{file: file}
	lines := map[string]int{}
	for _, n := range r.list(pair{name: "accounts.yaml", value: r.parse(src)}) {
		var a Account
		found := r.section(pair{"an account", n, n}, []key{
			{"email", must, into(r, &a.Email, email)},
			{"name", must, into(r, &a.Name, anything)},
			{"role", must, into(r, &a.Role, oneOf("developer", "tester"))},
		})
		address, folded := found["email"], strings.ToLower(a.Email)
		line, _ := r.position(address.key)
		if first := lines[folded]; first > 0 && folded != "" {
			r.fail(address.value, "%s is here twice; it is on line %d, too", a.Email, first)
		}
		lines[folded] = line
		people = append(people, a)
	}
	return people, r.messages()
}
