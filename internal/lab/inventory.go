package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"text/template"

	"rehearsal/sql"
)

// hostsTemplate is the lab's inventory. Strings are quoted as Go does, which YAML reads alike.
var hostsTemplate = template.Must(template.New("hosts.yaml").Parse(`# The lab's inventory, written by lab:up. Three hosts, one machine, one user: their folders keep them apart.
hosts:
{{- range .Hosts}}
  {{.Name}}:
    address: {{printf "%q" .Address}}
    user: {{printf "%q" $.User}}
    role: {{.Name}}
    identity: {{printf "%q" $.Key}}
    host_key: {{printf "%q" .HostKey}}
    postgres_bin: {{printf "%q" $.Bin}}
    state: {{printf "%q" .State}}
{{- end}}

databases:
  shop:
    production:
      host: production
      socket: {{printf "%q" .Production.Socket}}
      port: {{.Production.Port}}
      name: shop
      user: backup_reader
      system_identifier: {{printf "%q" .System}}
      data_directory: {{printf "%q" .Data}}
    backups:
      host: backup
      path: {{printf "%q" .Backups}}
      max_age: 26h
      max_shrink: 20%
      keep: {daily: 7, weekly: 5, monthly: 12}
    staging:
      host: staging
      socket: {{printf "%q" .Staging.Socket}}
      port: {{.Staging.Port}}
      name: shop
      user: rehearsal
      owner: shop
      data_directory: {{printf "%q" .Staging.Data}}
    sql: {{printf "%q" .SQL}}

images:
  uploads:
    production: {host: production, path: {{printf "%q" .Uploads}}}
    backup: {host: backup, path: {{printf "%q" .UploadsBackup}}}
    max_lag: 26h
    hash: blake3
    reread: 1/30
    ignore: ["*.tmp"]
`))

// accounts are two people whom production's staff table has, as ordinary staff, and one it has not.
const accounts = `# Who is admin on the lab's staging, written by lab:up.
- {email: jana.novakova@shop.example, name: Jana Nováková, role: developer}
- {email: sean.obrien@shop.example, name: Seán O'Brien, role: developer}
- {email: mei.tanaka@shop.example, name: Mei Tanaka, role: tester}
`

// writeInventory writes hosts.yaml, accounts.yaml and a copy of sql/shop, for people and tests to edit.
func (l *Lab) writeInventory(ctx context.Context) error {
	if err := os.CopyFS(l.file("sql"), sql.Files); err != nil {
		return fmt.Errorf("copying sql/shop: %w", err)
	}
	text, err := l.hostsYAML(ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.Inventory(), text, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(l.file("accounts.yaml"), []byte(accounts), 0o644); err != nil {
		return err
	}
	return makeFolder(l.Path("backup", "shop"), 0o700)
}

func (l *Lab) hostsYAML(ctx context.Context) ([]byte, error) {
	system, data, err := l.Production.identity(ctx)
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	type host struct{ Name, Address, HostKey, State string }
	var list []host
	for _, s := range l.SSH {
		port := s.Port
		if s.Name == "backup" {
			port = l.FarPort
		}
		list = append(list, host{s.Name, fmt.Sprintf("127.0.0.1:%d", port), s.HostKey, l.Path(s.Name, "state")})
	}
	var out bytes.Buffer
	err = hostsTemplate.Execute(&out, map[string]any{
		"Hosts": list, "User": me.Username, "Key": l.file("key"), "Bin": l.Production.Bin,
		"Production": l.Production, "Staging": l.Staging, "System": system, "Data": data,
		"Backups": l.Path("backup", "shop"), "SQL": filepath.Join(l.file("sql"), "shop"),
		"Uploads": l.Path("production", "uploads"), "UploadsBackup": l.Path("backup", "uploads"),
	})
	return out.Bytes(), err
}
