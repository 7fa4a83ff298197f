package inventory

import "time"

// Inventory is a validated hosts.yaml, with the accounts.yaml beside it.
type Inventory struct {
	File      string // the path it was read from, as given
	Hosts     map[string]*Host
	Databases map[string]*Database
	Images    map[string]*ImageStore
	Accounts  []Account // empty where there is no accounts.yaml
}

// Role is what a host is for. A host has exactly one.
type Role string

// The roles of hosts.
const (
	Production Role = "production"
	Backup     Role = "backup"
	Staging    Role = "staging"
	Jump       Role = "jump"
)

// Host is one machine that is reached over SSH.
type Host struct {
	Name        string
	Address     string // host, host:port, or an alias of ssh_config
	User        string // empty: ssh_config or the local user decides
	Role        Role
	Via         *Host  // the jump host, or nil
	Identity    string // path of a private key file, absolute; empty: agent, then ssh_config's
	HostKey     string // the pinned key, "ssh-ed25519 AAAA…"; empty: known_hosts decides
	PostgresBin string // folder of psql, pg_dump…; empty: the host's PATH
	State       string // folder for our files on that host; "~/" is the remote home
}

// Database is one database with its production, its backups and its staging.
type Database struct {
	Name       string
	Production Server
	Backups    Backups
	Staging    Server
	Transfer   []Transfer // the ways that the rows of a backup may take, the one to try first in front
	SQL        string     // absolute path of the folder with columns.yaml, accounts.sql…; nobody has looked whether it exists
}

// Transfer is a way for the rows of a backup, from the backup host to staging.
type Transfer string

// The ways.
const (
	Relay  Transfer = "relay"  // through the machine that mage runs on
	Direct Transfer = "direct" // a program on staging pulls them from the backup host
)

// Server says where a PostgreSQL database is, as seen from its host.
type Server struct {
	Host             *Host
	Socket           string // folder of the Unix socket; empty where Address is set
	Address          string // TCP address as the host sees it, e.g. 127.0.0.1; empty where Socket is set
	Port             int
	Name             string // of the database
	User             string
	PasswordEnv      string // name of the local environment variable that holds the password; optional
	Owner            string // role that owns the restored database (staging only)
	SystemIdentifier string // expected pg_control_system().system_identifier (production only); optional
	DataDirectory    string // expected data_directory; on staging only used to look at the free disk; optional
	MajorVersion     int    // expected major version of the server (production only); 0: not checked
}

// Backups says where a database's backups lie and what makes one fit.
type Backups struct {
	Host      *Host
	Path      string
	MaxAge    time.Duration    // an older one is stale; 0, which no file can say: not limited
	MaxShrink float64          // 0.2 is 20 %
	MinRows   map[string]int64 // floors: a table, as postgres.Qualify spells it, with fewer rows makes a backup suspicious
	Keep      Keep
}

// Keep is the retention policy: how many slots of each kind.
type Keep struct{ Daily, Weekly, Monthly int }

// ImageStore is images on production and their backup.
type ImageStore struct {
	Name               string
	Production, Backup []Tree // one at least; those of one side lie apart
	MaxLag             time.Duration
	ReadLimit          int64   // bytes per second and host; 0: unlimited
	Hash               string  // blake3 or xxh128
	Reread             float64 // share of the bytes read again in each run
	Ignore             []string
	References         *References // nil: nothing is said to refer to the images
}

// References says which images a database's rows refer to.
type References struct {
	Database *Database
	SQL      string // absolute path of the file with the query; nobody has looked whether it exists
}

// Tree is one folder on one host.
type Tree struct {
	Host *Host
	Path string
}

// Account is a person who is admin on staging.
type Account struct {
	Email string
	Name  string
	Role  string // developer or tester
}
