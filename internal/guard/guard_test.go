package guard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

func TestOnlyTheServerOfTheInventoryPasses(t *testing.T) {
	expected := inventory.Server{Host: &inventory.Host{Name: "production"}, User: "backup_reader", SystemIdentifier: "1", DataDirectory: "/data", MajorVersion: 15}
	id := func(system, directory string, major int) postgres.Identity {
		return postgres.Identity{SystemIdentifier: system, DataDirectory: directory, Major: major, ServerVersion: fmt.Sprintf("%d.1", major)}
	}
	unknown := inventory.Server{Host: expected.Host, User: "backup_reader"}
	for name, c := range map[string]struct {
		expected inventory.Server
		id       postgres.Identity
		want     []string
	}{
		"the same":          {expected, id("1", "/data/", 15), nil},
		"another cluster":   {expected, id("2", "/data", 15), []string{"system identifier=failed: has system identifier 2, the inventory's production has 1"}},
		"another directory": {expected, id("1", "/copy", 15), []string{"data directory=failed: works in /copy, the inventory's production in /data"}},
		"another version":   {expected, id("1", "/data", 16), []string{"major version=failed: major_version: 16"}},
		"no directory":      {expected, id("1", "", 15), []string{`data directory=could not check: GRANT pg_monitor TO "backup_reader"`}},
		"an unknown production": {unknown, id("1", "/data", 15), []string{
			`system identifier=failed: write into the inventory: system_identifier: "1", data_directory: "/data"`, `data directory=failed: data_directory: "/data"`}},
		"an unknown production that shows little": {unknown, id("1", "", 15), []string{`system identifier=failed: system_identifier: "1"`, "data directory=could not check"}},
	} {
		t.Run(name, func(t *testing.T) { want(t, Identity(c.expected, c.id), c.want...) })
	}
}

// beside is a look at a host where a server with one session of ours runs, in the output of the script.
func beside(output string) *look {
	spec := inventory.Server{Host: &inventory.Host{Name: "production"}, User: "backup_reader"}
	l := &look{server: &postgres.Server{Spec: spec}, id: postgres.Identity{DataDirectory: "/pg"},
		health: postgres.Health{Backend: 20, Session: "backup_reader postgres"}}
	l.machine = parse(output)
	return l
}

const (
	session   = "namespace\t0\tpid:[4026531836]\nchild\t20\t10 postgres: backup_reader postgres [local] idle\n"
	plain     = session + "postmaster\t10\t/bin/postgres -D /pg \n" // what else is known follows
	contained = "child\t900\t800 postgres: main: backup_reader postgres 172.17.0.1(4) idle\nNSpid\t900\t900\t20\npostmaster\t800\tpostgres \nNSpid\t800\t800\t1\ncontainer\t800\t"
	id1       = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	id2       = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestOtherPostmastersAreToldFromTwins(t *testing.T) {
	for name, c := range map[string]struct{ output, want string }{
		"alone":                                  {plain + "NSpid\t10\t10\n", ""},
		"another cluster, seen":                  {plain + "directory\t10\t8:1\npostmaster\t11\tpostgres\ndirectory\t11\t8:2\nNSpid\t11\t11\t1\n", ""},
		"a twin, seen":                           {plain + "directory\t10\t8:1\npostmaster\t11\tpostgres\ndirectory\t11\t8:1\ncontainer\t11\t" + id1 + "\n", "processes=failed: process 10 and process 11 in container aaaaaaaaaaaa"},
		"another cluster by its command line":    {plain + "NSpid\t10\t10\npostmaster\t11\tpostgres -D /other -p 1\nNSpid\t11\t11\n", ""},
		"the same folder by its command line":    {plain + "NSpid\t10\t10\npostmaster\t11\tpostgres -D /pg/ -p 1\nNSpid\t11\t11\n", "processes=failed: process 11"},
		"a container whose folder does not show": {plain + "NSpid\t10\t10\npostmaster\t11\tpostgres -D /data\nNSpid\t11\t11\t1\n", "processes=could not check: process 11 in a container"},
		"a relative folder":                      {plain + "NSpid\t10\t10\npostmaster\t11\tpostgres -D data\nNSpid\t11\t11\n", "processes=could not check: process 11"},
		"a relative folder of another user":      {plain + "NSpid\t10\t10\nUid\t10\t101\t101\t101\t101\npostmaster\t11\tpostgres -D data\nNSpid\t11\t11\nUid\t11\t1001\t1001\t1001\t1001\n", ""},
		"a container of another user":            {plain + "NSpid\t10\t10\nUid\t10\t101\npostmaster\t11\tpostgres\nNSpid\t11\t11\t1\nUid\t11\t999\n", "processes=could not check: process 11 in a container"},
		"no session of ours":                     {"postmaster\t10\tpostgres -D /pg\n", "processes=could not check: our own session"},
		"no /proc":                               {"blind\t0\t-\n", "processes=could not check: /proc"},
		"in a container, alone":                  {contained + id1 + "\n", ""},
	} {
		t.Run(name, func(t *testing.T) { want(t, []Finding{beside(c.output).processes()}, some(c.want)...) })
	}
}

func some(expected string) []string {
	if expected == "" {
		return nil
	}
	return []string{expected}
}

func TestThePostmasterPIDOfAnotherStartIsFound(t *testing.T) {
	answers := time.Unix(1000, 500_000_000)
	for name, c := range map[string]struct {
		file string
		want string
	}{
		"its own":            {"10\n/pg\n1000\n5432\n/run\n", ""},
		"a slow start":       {"10\n/pg\n996\n5432\n/run\n", ""},
		"a later start":      {"10\n/pg\n1001\n5432\n/run\n", "postmaster.pid=failed: a second postmaster has started"},
		"a much earlier one": {"10\n/pg\n900\n5432\n/run\n", "postmaster.pid=failed: a second postmaster has started"},
		"another port":       {"10\n/pg\n1000\n5433\n/run\n", "postmaster.pid=failed: on port 5433"},
		"half written":       {"10\n/pg\n", "postmaster.pid=could not check: try again"},
		"nothing to read":    {"", "postmaster.pid=could not check: GRANT EXECUTE"},
	} {
		t.Run(name, func(t *testing.T) {
			l := beside(plain)
			l.pidSQL, l.id.StartedAt, l.health.Port = c.file, answers, 5432
			want(t, []Finding{l.postmasterPID()}, some(c.want)...)
		})
	}
}

func TestContainersThatMayWriteIntoTheDataDirectoryAreCounted(t *testing.T) {
	running := func(name, id string, pid int, source, destination string, rw bool) string {
		return fmt.Sprintf("running\t0\t{\"ID\":%q,\"Name\":\"/%s\",\"PID\":%d,\"Mounts\":[{\"Type\":\"volume\",\"Source\":%q,\"Destination\":%q,\"RW\":%t}]}\n", id, name, pid, source, destination, rw)
	}
	docker := "engine\t0\tdocker\n"
	inside := contained + id1 + "\n" + docker + running("db", id1, 1, "/vol/pg", "/pg", true)
	for name, c := range map[string]struct{ output, want string }{
		"none there":                      {plain, ""},
		"no daemon":                       {plain + docker + "asleep\t0\t-\n", "containers=ok: no docker daemon runs"},
		"nothing runs":                    {plain + docker, "containers=ok: docker runs 0"},
		"no permission":                   {plain + docker + "trouble\t0\tpermission denied\n", "containers=could not check: permission denied"},
		"no answer we know":               {plain + docker + "running\t0\toops\n", "containers=could not check: oops"},
		"another volume":                  {plain + docker + running("web", id1, 30, "/srv/web", "/www", true), ""},
		"a folder with a like name":       {plain + docker + running("web", id1, 30, "/pg2", "/www", true), ""},
		"the whole disk, to read":         {plain + docker + running("exporter", id1, 30, "/", "/host", false), ""},
		"one that mounts it":              {plain + docker + running("db", id1, 30, "/pg", "/data", true), "containers=warning: db may write"},
		"one that mounts a folder in it":  {plain + docker + running("wal", id1, 30, "/pg/pg_wal", "/wal", true), "containers=warning: wal may write"},
		"one that mounts a folder above":  {plain + docker + running("all", id1, 30, "/", "/host", true), "containers=warning: all may write"},
		"two that mount it":               {plain + docker + running("db", id1, 30, "/pg", "/data", true) + running("db_2", id2, 31, "/pg", "/data", true), "containers=failed: 2 containers may write into the data directory: db, db_2"},
		"the server's own":                {inside, "containers=ok: db, the server's own"},
		"the server's own and another":    {inside + running("db_2", id2, 31, "/vol", "/data", true), "containers=failed: db, db_2"},
		"the server's own and a like one": {inside + running("db_2", id2, 31, "/pg", "/pg", true), "containers=ok: db, the server's own"},
		"the server's own is not listed":  {contained + id1 + "\n" + docker + running("db_2", id2, 31, "/pg", "/pg", true), "containers=could not check: the server runs in a container"},
	} {
		t.Run(name, func(t *testing.T) { want(t, []Finding{beside(c.output).containers()}, some(c.want)...) })
	}
}

func TestAListenAddressIsWhereOneConnects(t *testing.T) {
	for listen, want := range map[string]string{"*": "127.0.0.1 ::1", "localhost,10.0.0.1": "10.0.0.1 127.0.0.1 ::1", "0.0.0.0": "127.0.0.1", "::,127.0.0.1": "127.0.0.1 ::1", "": ""} {
		var words []string
		if listen != "" {
			words = strings.Split(listen, ",")
		}
		if got := strings.Join(addresses(words), " "); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}

func TestEveryFindingThatIsNotWellHasACodeOfItsStatus(t *testing.T) {
	f := Finding{}
	if f.failed("", "x").Code != run.Unfit || f.unchecked("", "x").Code != run.Incomplete || f.warning("", "x").Code != run.Done || f.ok("x").Code != run.Done {
		t.Error("wrong codes")
	}
}
