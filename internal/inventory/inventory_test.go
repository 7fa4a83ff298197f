package inventory

import (
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rehearsal/internal/run"
)

var update = flag.Bool("update", false, "write what Load says now to testdata/bad/*.txt")

// minimal is the least that is an inventory of everything.
const minimal = `hosts:
  prod:  {address: db1.example.com, role: production}
  vault: {address: vault.example.net, role: backup}
  stage: {address: staging.example.com, role: staging}
databases:
  shop:
    production: {host: prod, socket: /run/postgresql, name: shop, user: reader}
    backups:    {host: vault, path: /srv/backups/shop}
    staging:    {host: stage, address: 127.0.0.1, name: shop, user: rehearsal, owner: shop}
images:
  uploads:
    production: {host: prod, path: /srv/uploads}
    backup:     {host: vault, path: /srv/backups/uploads}
`

// place puts files into the folder inventory of a new working directory.
func place(t testing.TB, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "inventory"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, "inventory", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

func load(t testing.TB, hosts string) (*Inventory, error) {
	t.Helper()
	place(t, map[string]string{"hosts.yaml": hosts})
	return Load("inventory/hosts.yaml")
}

func mustLoad(t testing.TB, hosts string) *Inventory {
	t.Helper()
	inv, err := load(t, hosts)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// wantRefusal checks that err has the code for a wrong inventory and says each of the texts.
func wantRefusal(t testing.TB, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one that says %q", texts)
	}
	var e *run.Error
	if !errors.As(err, &e) || e.Code != run.Usage {
		t.Errorf("%v: not a *run.Error with the code Usage", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error:\n%v\nwant it to say %q", err, text)
		}
	}
}

func TestEveryBadFileIsRefusedWithEveryProblemAndItsPlace(t *testing.T) {
	folder, err := filepath.Abs("testdata/bad")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files in %s: %v", len(files), folder, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in := map[string]string{"hosts.yaml": string(src)}
			if strings.HasPrefix(name, "accounts-") {
				in = map[string]string{"hosts.yaml": minimal, "accounts.yaml": string(src)}
			}
			place(t, in)
			_, err = Load("inventory/hosts.yaml")
			wantRefusal(t, err)
			if run.HintOf(err) == "" {
				t.Error("no hint")
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", err.Error()+"\n")
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestProblemsOfBothFilesAreReportedTogether(t *testing.T) {
	place(t, map[string]string{
		"hosts.yaml":    strings.Replace(minimal, "role: staging", "role: stage", 1),
		"accounts.yaml": "- {email: ada@example.com, name: Ada, role: boss}\n",
	})
	_, err := Load("inventory/hosts.yaml")
	wantRefusal(t, err, "inventory/hosts.yaml:4:47: role: ", "inventory/accounts.yaml:1:45: role: ")
}

func example(t *testing.T, name string) string {
	t.Helper()
	src, err := os.ReadFile(filepath.Join("..", "..", "inventory", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(src)
}

func TestTheExampleIsAnInventory(t *testing.T) {
	place(t, map[string]string{"hosts.yaml": example(t, "hosts.example.yaml"), "accounts.yaml": example(t, "accounts.example.yaml")})
	got, err := Load("inventory/hosts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sql, err := filepath.Abs("sql/shop")
	if err != nil {
		t.Fatal(err)
	}
	production := &Host{Name: "production", Address: "db1.example.com", User: "deploy", Role: Production, State: "~/.rehearsal"}
	backup := &Host{Name: "backup", Address: "vault.example.net:2222", User: "vault", Role: Backup, State: "~/.rehearsal"}
	bastion := &Host{Name: "bastion", Address: "bastion.example.com", User: "deploy", Role: Jump, State: "~/.rehearsal"}
	staging := &Host{Name: "staging", Address: "staging.example.com", User: "deploy", Role: Staging, Via: bastion, State: "~/.rehearsal"}
	want := &Inventory{
		File:  "inventory/hosts.yaml",
		Hosts: map[string]*Host{"production": production, "backup": backup, "staging": staging, "bastion": bastion},
		Databases: map[string]*Database{"shop": {
			Name: "shop",
			Production: Server{
				Host: production, Socket: "/var/run/postgresql", Port: 5432, Name: "shop", User: "backup_reader",
				SystemIdentifier: "7301234567890123456", DataDirectory: "/var/lib/postgresql/15/main", MajorVersion: 15,
			},
			Backups: Backups{
				Host: backup, Path: "/srv/backups/shop", MaxAge: 26 * time.Hour, MaxShrink: 0.2,
				MinRows: map[string]int64{"public.customers": 1000, `"Billing Dept"."Invoice #"`: 100},
				Keep:    Keep{Daily: 7, Weekly: 5, Monthly: 12},
			},
			Staging:  Server{Host: staging, Socket: "/var/run/postgresql", Port: 5432, Name: "shop", User: "rehearsal", Owner: "shop"},
			Transfer: []Transfer{Relay}, SQL: sql,
		}},
		Images: map[string]*ImageStore{"uploads": {
			Name: "uploads", Production: []Tree{{production, "/srv/shop/uploads"}}, Backup: []Tree{{backup, "/srv/backups/uploads"}},
			MaxLag: 26 * time.Hour, ReadLimit: 200e6, Hash: "blake3", Reread: 1. / 30, Ignore: []string{"*.tmp"},
		}},
		Accounts: []Account{
			{"ada@example.com", "Ada Lovelace", "developer"},
			{"grace@example.com", "Grace Hopper", "tester"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got:\n%+v\nwant:\n%+v", got, want)
	}
}

// optional matches a key in the example that is commented out.
var optional = regexp.MustCompile(`(?m)^( *)#([a-z_]+:)`)

// uncommented is the example with all its keys, with PostgreSQL over TCP.
func uncommented(t *testing.T) string {
	text := optional.ReplaceAllString(example(t, "hosts.example.yaml"), "$1$2")
	return regexp.MustCompile(`(?m)^ *socket:.*\n`).ReplaceAllString(text, "")
}

func TestEveryOptionalKeyOfTheExampleIsValid(t *testing.T) {
	inv := mustLoad(t, uncommented(t))
	shop, staging := inv.Databases["shop"], inv.Hosts["staging"]
	for what, value := range map[string]string{
		"identity": staging.Identity, "host_key": staging.HostKey, "postgres_bin": staging.PostgresBin,
		"address": shop.Production.Address, "password_env": shop.Staging.PasswordEnv, "data_directory": shop.Staging.DataDirectory,
	} {
		if value == "" {
			t.Errorf("%s is not set", what)
		}
	}
	if sql, err := filepath.Abs("sql/shop/images.sql"); err != nil || !reflect.DeepEqual(inv.Images["uploads"].References, &References{shop, sql}) {
		t.Errorf("references: %+v, %v", inv.Images["uploads"].References, err)
	}
	if want := []Transfer{Direct, Relay}; !slices.Equal(shop.Transfer, want) {
		t.Errorf("transfer is %q, want %q", shop.Transfer, want)
	}
	if staging.State != "/var/lib/rehearsal" {
		t.Errorf("state is %q", staging.State)
	}
}

func TestTheExampleHasEveryKeyThatThereIs(t *testing.T) {
	text := optional.ReplaceAllString(example(t, "hosts.example.yaml"), "$1$2")
	_, err := load(t, `{nokey: 1, hosts: {a: {nokey: 1}}, databases: {d: {nokey: 1, production: {nokey: 1},
  backups: {nokey: 1, keep: {nokey: 1}}, staging: {nokey: 1}}}, images: {i: {nokey: 1, production: {nokey: 1}, backup: {nokey: 1}, references: {nokey: 1}}}}`)
	wantRefusal(t, err)
	known := regexp.MustCompile(`(?m)known keys: (.*)$`).FindAllStringSubmatch(err.Error(), -1)
	if len(known) != 11 {
		t.Fatalf("%d sections, want 11:\n%v", len(known), err)
	}
	for _, m := range known {
		for _, key := range strings.Split(m[1], ", ") {
			if !regexp.MustCompile(`(?m)^[^#]*\b` + key + `:`).MatchString(text) {
				t.Errorf("hosts.example.yaml does not have the key %s", key)
			}
		}
	}
}

func TestAKeyThatIsLeftOutHasTheValueOfTheExample(t *testing.T) {
	inv := mustLoad(t, minimal)
	shop, uploads := inv.Databases["shop"], inv.Images["uploads"]
	want := Backups{Host: shop.Backups.Host, Path: "/srv/backups/shop", MaxAge: 26 * time.Hour, MaxShrink: 0.2, Keep: Keep{7, 5, 12}}
	if !reflect.DeepEqual(shop.Backups, want) || shop.Production.MajorVersion != 0 {
		t.Errorf("backups: got %+v, want %+v", shop.Backups, want)
	}
	if shop.Production.Port != 5432 || shop.Staging.Port != 5432 {
		t.Errorf("ports: %d, %d", shop.Production.Port, shop.Staging.Port)
	}
	if uploads.MaxLag != 26*time.Hour || uploads.ReadLimit != 0 || uploads.Hash != "blake3" || uploads.Reread != 1./30 || uploads.References != nil {
		t.Errorf("images: %+v", uploads)
	}
	if inv.Hosts["prod"].State != "~/.rehearsal" {
		t.Errorf("state: %q", inv.Hosts["prod"].State)
	}
	if inv.Accounts != nil {
		t.Errorf("accounts: %v", inv.Accounts)
	}
}

func TestAKindOfBackupThatIsLeftOutBesideAnotherIsNotKept(t *testing.T) {
	inv := mustLoad(t, strings.Replace(minimal, "/srv/backups/shop}", "/srv/backups/shop, keep: {daily: 3}}", 1))
	if got := inv.Databases["shop"].Backups.Keep; got != (Keep{Daily: 3}) {
		t.Errorf("keep: %+v", got)
	}
}

func TestAFloorHasTheNameOfTheTableInManifests(t *testing.T) {
	inv := mustLoad(t, strings.Replace(minimal, "/srv/backups/shop}",
		`/srv/backups/shop, min_rows: {public.users: 1, '"public"."Users"': "7", '"a"."b.""c"': 1000000000000, _a1.b_: 2}}`, 1))
	want := map[string]int64{"public.users": 1, `"public"."Users"`: 7, `"a"."b.""c"`: 1e12, "_a1.b_": 2}
	if got := inv.Databases["shop"].Backups.MinRows; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDatabasesThatOnlyLookAlikeAreTaken(t *testing.T) {
	second := func(backups, staging string) string {
		return "\n  blog:\n    production: {host: prod, socket: /run/postgresql, name: shop, user: reader}\n" +
			"    backups:    {" + backups + "}\n    staging:    {" + staging + ", user: rehearsal, owner: shop}\nimages:"
	}
	const apart, other = "host: vault, path: /srv/backups/blog", "host: stage, address: 127.0.0.1, name: blog"
	for what, text := range map[string]string{
		"a longer name":      second("host: vault, path: /srv/backups/shop2", other),
		"another host":       second("host: vault2, path: /srv/backups/shop", other),
		"the home":           second("host: vault, path: ~/srv/backups/shop", other),
		"another database":   second(apart, other),
		"another port":       second(apart, "host: stage, address: 127.0.0.1, port: 5433, name: shop"),
		"another address":    second(apart, "host: stage, address: 10.0.0.1, name: shop"),
		"another machine":    second(apart, "host: stage2, address: 127.0.0.1, name: shop"),
		"a name in capitals": second(apart, "host: stage, address: 127.0.0.1, name: Shop"),
	} {
		hosts := "hosts:\n  vault2: {address: v2, role: backup}\n  stage2: {address: s2, role: staging}\n"
		text = strings.Replace(strings.Replace(minimal, "hosts:\n", hosts, 1), "\nimages:", text, 1)
		if inv, err := load(t, text); err != nil || len(inv.Databases) != 2 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAnImageStoreMayLieInSeveralFoldersOnEachSide(t *testing.T) {
	text := strings.NewReplacer(
		"hosts:\n", "hosts:\n  far: {address: db2.example.com, role: production}\n",
		"{host: prod, path: /srv/uploads}", "[{host: prod, path: /srv/uploads}, {host: prod, path: /srv/uploads2}, {host: far, path: /srv/uploads}]",
		"    backup:     {host: vault, path: /srv/backups/uploads}", "    backup:\n    - host: vault\n      path: /srv/a\n    - host: vault\n      path: ~/a\n",
	).Replace(minimal)
	inv := mustLoad(t, text)
	prod, far, vault := inv.Hosts["prod"], inv.Hosts["far"], inv.Hosts["vault"]
	uploads := inv.Images["uploads"]
	if want := []Tree{{prod, "/srv/uploads"}, {prod, "/srv/uploads2"}, {far, "/srv/uploads"}}; !slices.Equal(uploads.Production, want) {
		t.Errorf("production: got %v, want %v", uploads.Production, want)
	}
	if want := []Tree{{vault, "/srv/a"}, {vault, "~/a"}}; !slices.Equal(uploads.Backup, want) {
		t.Errorf("backup: got %v, want %v", uploads.Backup, want)
	}
}

func TestTheWaysOfATransferAreOneOrAList(t *testing.T) {
	for text, want := range map[string][]Transfer{
		"":                                     {Relay},
		"transfer: relay":                      {Relay},
		"transfer: direct":                     {Direct},
		"transfer: [direct]":                   {Direct},
		`transfer: ["direct", relay]`:          {Direct, Relay},
		"transfer:\n    - direct\n    - relay": {Direct, Relay},
	} {
		inv := mustLoad(t, strings.Replace(minimal, "\nimages:", "\n    "+text+"\nimages:", 1))
		if got := inv.Databases["shop"].Transfer; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestAnInventoryMayHaveDatabasesOrImagesOrNeither(t *testing.T) {
	for _, text := range []string{"hosts:\n  a: {address: b, role: backup}\n", minimal[:strings.Index(minimal, "images:")]} {
		mustLoad(t, text)
	}
}

func TestWhatIsHarmlessIsTaken(t *testing.T) {
	for what, edit := range map[string][2]string{
		"a whole number as text":              {"name: shop", "name: 2024"},
		"a number in quotes":                  {"name: shop", `port: "5433", name: shop`},
		"text in quotes":                      {"role: staging", `"role": 'staging'`},
		"a comment, a tab and trailing blank": {"role: staging}", "role: staging}\t # ü  "},
		"accents":                             {"db1.example.com", "dürer.example.com"},
		"windows line ends":                   {"hosts:\n", "hosts:\r\n\r\n"},
		"a document marker":                   {"hosts:\n", "---\nhosts:\n"},
		"IPv6":                                {"db1.example.com", `"[2001:db8::1]:22"`},
		"IPv6 without a port":                 {"db1.example.com", `"2001:db8::1"`},
		"a jump host that does more":          {"hosts:\n", "hosts:\n  j: {address: db1.example.com, role: jump}\n"},
		"another port on the same machine":    {"staging.example.com", "db1.example.com:2222"},
		"two entries with one role":           {"hosts:\n", "hosts:\n  p2: {address: db1.example.com, role: production, user: other}\n"},
		"one address behind two jump hosts": {
			"hosts:\n  prod:  {address: db1.example.com, role: production}",
			"hosts:\n  j1: {address: j1, role: jump}\n  j2: {address: j2, role: jump, via: j1}\n" +
				"  s2: {address: 10.0.0.5, role: staging, via: j2}\n  prod: {address: 10.0.0.5, role: production, via: j1}",
		},
	} {
		t.Run(what, func(t *testing.T) {
			text := strings.Replace(minimal, edit[0], edit[1], 1)
			if text == minimal {
				t.Fatal("nothing replaced")
			}
			mustLoad(t, text)
		})
	}
}

func TestLocalPathsBeginAtTheFileOrElseAtTheWorkingDirectory(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	text := strings.Replace(minimal, "role: staging", "identity: keys/one, role: staging", 1)
	text = strings.Replace(text, "role: backup", "identity: ~/.ssh/id, role: backup", 1)
	place(t, map[string]string{"hosts.yaml": text})
	if err := os.MkdirAll("inventory/sql/shop", 0o700); err != nil {
		t.Fatal(err)
	}
	inv, err := Load("inventory/hosts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, got, want string }{
		{"beside the file", inv.Databases["shop"].SQL, filepath.Join(dir, "inventory/sql/shop")},
		{"not beside the file", inv.Hosts["stage"].Identity, filepath.Join(dir, "keys/one")},
		{"in the home", inv.Hosts["vault"].Identity, filepath.Join(home, ".ssh/id")},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, c.got, c.want)
		}
	}
}

func TestAMissingFileSaysWhereToBegin(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := Load("inventory/hosts.yaml")
	wantRefusal(t, err, "there is no inventory at inventory/hosts.yaml")
	if hint := run.HintOf(err); !strings.Contains(hint, "copy inventory/hosts.example.yaml to inventory/hosts.yaml") {
		t.Errorf("hint: %s", hint)
	}
}

func TestAFileThatCannotBeReadIsRefused(t *testing.T) {
	_, err := Load(t.TempDir())
	wantRefusal(t, err, "reading the inventory: ")

	place(t, map[string]string{"hosts.yaml": minimal + strings.Repeat("#", maxSize)})
	_, err = Load("inventory/hosts.yaml")
	wantRefusal(t, err, "larger than 256 KiB")

	place(t, map[string]string{"hosts.yaml": minimal})
	if err := os.Mkdir("inventory/accounts.yaml", 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = Load("inventory/hosts.yaml")
	wantRefusal(t, err, "inventory/accounts.yaml")
}

func TestPathIsTheVariableOrTheUsualPlace(t *testing.T) {
	t.Setenv("REHEARSAL_INVENTORY", "")
	if got := Path(); got != "inventory/hosts.yaml" {
		t.Errorf("got %s", got)
	}
	t.Setenv("REHEARSAL_INVENTORY", "/etc/rehearsal/hosts.yaml")
	if got := Path(); got != "/etc/rehearsal/hosts.yaml" {
		t.Errorf("got %s", got)
	}
}

func TestANameIsNeededOnlyWhereThereAreSeveral(t *testing.T) {
	shop, blog := &Database{Name: "shop"}, &Database{Name: "blog"}
	one := &Inventory{File: "hosts.yaml", Databases: map[string]*Database{"shop": shop}}
	two := &Inventory{File: "hosts.yaml", Databases: map[string]*Database{"shop": shop, "blog": blog}}
	for _, c := range []struct {
		inv  *Inventory
		name string
		want *Database
	}{{one, "", shop}, {one, "shop", shop}, {two, "blog", blog}} {
		if got, err := c.inv.Database(c.name); got != c.want || err != nil {
			t.Errorf("%q: got %v, %v", c.name, got, err)
		}
	}
	_, err := two.Database("")
	wantRefusal(t, err, "-database=NAME is needed: the inventory has blog, shop")
	_, err = one.Database("blog")
	wantRefusal(t, err, `there is no database "blog": the inventory has shop`)
}

func TestWithoutANameAllImageStoresAreMeant(t *testing.T) {
	inv := &Inventory{File: "hosts.yaml"}
	_, err := inv.ImageStores("")
	wantRefusal(t, err, "hosts.yaml has no image store")
	uploads, avatars := &ImageStore{}, &ImageStore{}
	inv.Images = map[string]*ImageStore{"uploads": uploads, "avatars": avatars}
	if all, err := inv.ImageStores(""); err != nil || len(all) != 2 || all[0] != avatars || all[1] != uploads {
		t.Errorf("got %v, %v", all, err)
	}
	if one, err := inv.ImageStores("uploads"); err != nil || len(one) != 1 || one[0] != uploads {
		t.Errorf("got %v, %v", one, err)
	}
	_, err = inv.ImageStores("logos")
	wantRefusal(t, err, `there is no image store "logos": the inventory has avatars, uploads`)
}

func TestAccountsMayBeNobody(t *testing.T) {
	place(t, map[string]string{"hosts.yaml": minimal, "accounts.yaml": "[]\n"})
	if inv, err := Load("inventory/hosts.yaml"); err != nil || len(inv.Accounts) != 0 {
		t.Errorf("got %v, %v", inv, err)
	}
}

func TestUnitsAreExact(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"26h": 26 * time.Hour, "7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "90m": 90 * time.Minute, "1h30m5s": 5405 * time.Second,
	} {
		if got, err := duration(s); got != want || err != nil {
			t.Errorf("duration(%q) = %v, %v", s, got, err)
		}
	}
	for s, want := range map[string]float64{"20%": 0.2, "12.5%": 0.125, "0%": 0, "100%": 1, "1/30": 1. / 30, "1/1": 1} {
		if got, err := share(s); math.Abs(got-want) > 1e-15 || err != nil {
			t.Errorf("share(%q) = %v, %v", s, got, err)
		}
	}
	for s, want := range map[string]int64{"200MB/s": 200e6, "1.5 GB/s": 1.5e9, "64KiB/s": 65536, "1B/s": 1} {
		if got, err := rate(s); got != want || err != nil {
			t.Errorf("rate(%q) = %v, %v", s, got, err)
		}
	}
}

// placed matches a message with its place, its line and its caret.
var placed = regexp.MustCompile(`^(hosts|accounts)\.yaml:[1-9][0-9]*:[1-9][0-9]*: .+\n    .*\n\s*\^$`)

func FuzzLoad(f *testing.F) {
	f.Add(minimal)
	f.Add("hosts:\n  a: &x {address: b, role: jump, via: a}\n  <<: *x\n")
	f.Add("hosts: {a: {address: [b, {c: d}], role: !!str jump}}\n---\n? a\n: |\n  b\n")
	f.Add(strings.NewReplacer("{host: prod, path: /srv/uploads}", "[{host: prod, path: /a}, {host: prod, path: ~/a}]",
		"  uploads:\n", "  uploads:\n    references: {database: shop, sql: a.sql}\n").Replace(minimal))
	f.Add("- email: a@b.c\n  name: \t'é'\n  role: tester\r\n-\n")
	f.Fuzz(func(t *testing.T, text string) {
		inv, problems, err := hosts("hosts.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		_, more := accounts("accounts.yaml", []byte(text))
		for _, p := range append(problems, more...) {
			if !placed.MatchString(p) {
				t.Errorf("a message without its place: %q", p)
			}
		}
		if len(problems) == 0 {
			wholeInventory(t, inv)
		}
	})
}

// wholeInventory checks what users of an Inventory rely on without looking.
func wholeInventory(t *testing.T, inv *Inventory) {
	for _, h := range inv.Hosts {
		steps := 0
		for j := h.Via; j != nil && steps <= len(inv.Hosts); j = j.Via {
			steps++
		}
		if steps > len(inv.Hosts) || h.Address == "" || h.Role == "" {
			t.Errorf("host %+v", h)
		}
	}
	for _, db := range inv.Databases {
		if db.Production.Host.Role != Production || db.Backups.Host.Role != Backup || db.Staging.Host.Role != Staging {
			t.Errorf("database %+v", db)
		}
	}
	for _, s := range inv.Images {
		for role, trees := range map[Role][]Tree{Production: s.Production, Backup: s.Backup} {
			if len(trees) == 0 || slices.ContainsFunc(trees, func(t Tree) bool { return t.Host.Role != role || t.Path == "" }) {
				t.Errorf("image store %+v", s)
			}
		}
		if s.References != nil && (s.References.Database == nil || !filepath.IsAbs(s.References.SQL)) {
			t.Errorf("references of image store %+v", s)
		}
	}
}
