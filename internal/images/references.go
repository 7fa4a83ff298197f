package images

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"

	"rehearsal/internal/host"
	"rehearsal/internal/images/tree"
	"rehearsal/internal/images/wire"
	"rehearsal/internal/inventory"
	"rehearsal/internal/postgres"
	"rehearsal/internal/run"
)

// references are the rows of a database that refer to the images of a store, on its production.
type references struct {
	server *postgres.Server
	query  postgres.Query
}

// readReferences reads the query, before anything is done.
func readReferences(of *inventory.References) (*references, error) {
	text, err := os.ReadFile(of.SQL)
	if err != nil {
		return nil, run.Fail(run.Usage, "write a query there that returns the paths that rows refer to, relative to the store's folder",
			"reading references: %w", err)
	}
	return &references{query: postgres.Query{File: of.SQL, Text: string(text)}}, nil
}

// try connects and plans the query: what is wrong with it is not to be learnt after hours of reading.
func (r *references) try(ctx context.Context, h *host.Host, of *inventory.References) error {
	r.server = &postgres.Server{Host: h, Spec: of.Database.Production}
	return r.session(ctx, func(conn *pgx.Conn) error { return r.query.OneColumn(ctx, conn, "") })
}

func (r *references) session(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := r.server.Connect(ctx, r.server.Spec.Name)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

// paths is the source of what rows refer to. Several rows may refer to one file.
func (r *references) paths(ctx context.Context) source {
	return func(each func(wire.Seen) error) error {
		return r.session(ctx, func(conn *pgx.Conn) error {
			var last []byte
			return r.query.Paths(ctx, conn, "", func(path []byte) error {
				switch {
				case last == nil:
				case bytes.Equal(path, last):
					return nil
				case tree.ComparePaths(path, last) < 0:
					return fmt.Errorf("the server sorted %q behind %q", path, last)
				}
				last = append(last[:0], path...)
				if !relative(path) {
					return run.Fail(run.Usage, "have the query cut off what is before the store's folder, and leave out rows without an image",
						"%s returns %q, which is no path below the store's folder", r.query.File, path)
				}
				return each(wire.Seen{Path: bytes.Clone(path)})
			})
		})
	}
}

// relative tells whether path may be that of a file below a folder.
func relative(path []byte) bool {
	for component := range bytes.SplitSeq(path, []byte("/")) {
		switch string(component) {
		case "", ".", "..":
			return false
		}
	}
	return true
}

// refer compares what rows refer to with the files on production. Both come sorted, and are never held in memory.
func refer(ctx context.Context, s *run.Step, all []*comparison) error {
	for _, c := range all {
		if c.references == nil {
			continue
		}
		var files []source
		for _, p := range c.production {
			files = append(files, p.names(ctx))
		}
		var dangling [][]byte
		rows := 0
		err := sideBySide(ctx, files, []source{c.references.paths(ctx)}, func(p pair) error {
			if p.backup.State == wire.Present {
				rows++
				if rows%10_000 == 0 {
					s.Detail("%d references", rows)
				}
			}
			switch {
			case p.backup.State == wire.Absent:
				return c.found.add(Finding{Path: p.path, Kind: Unreferenced, Side: Production, Why: "no row refers to it", Production: absent, Backup: absent})
			case p.production.State == wire.Absent:
				dangling = append(dangling, p.path)
			}
			if len(dangling) < perLook {
				return nil
			}
			defer func() { dangling = dangling[:0] }()
			return c.dangle(ctx, dangling)
		})
		if err == nil {
			err = c.dangle(ctx, dangling)
		}
		if err != nil {
			return fmt.Errorf("comparing %s with the rows that refer to it: %w", c.Name, err)
		}
		s.Detail("%d references", rows)
		if rows == 0 {
			return run.Fail(run.Incomplete, "is it the right database, and may "+c.References.Database.Production.User+" read its rows?",
				"%s returns no path at all", c.references.query.File)
		}
	}
	return nil
}

// dangle looks on production for files that rows refer to and the walk has not met: they may be new, or ignored.
func (c *comparison) dangle(ctx context.Context, paths [][]byte) error {
	if len(paths) == 0 {
		return nil
	}
	there := make([]bool, len(paths))
	for _, p := range c.production {
		seen, err := p.look(ctx, wire.LookRequest{Algorithm: c.Hash, Paths: paths})
		if err != nil {
			return err
		}
		for i, one := range seen {
			there[i] = there[i] || one.State != wire.Absent
		}
	}
	var found []Finding
	for i, path := range paths {
		if !there[i] {
			found = append(found, Finding{Path: path, Kind: Dangling, Side: Production, Why: "a row refers to it, and there is no such file", Production: absent, Backup: absent})
		}
	}
	return c.found.add(found...)
}
