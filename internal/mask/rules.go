package mask

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"rehearsal/internal/postgres"
	"rehearsal/internal/source"
)

// Rules is a parsed columns.yaml. The zero value has no rules.
type Rules struct {
	file         string
	source       []string
	tables       []*rule // in the order of the file
	largeObjects string  // keep, drop, or empty: nothing is said of them
}

// rule is what the file says about one table.
type rule struct {
	table    string // as postgres.Qualify spells it
	at       place
	truncate bool
	lists    map[*Verb]place // where each verb's key stands
	columns  []*entry        // in the order of the file
}

// entry is one column under a verb.
type entry struct {
	column     string
	verb       *Verb
	at         place
	expression string  // of the verb sql
	paths      *branch // of the verb json
}

// Parse reads a columns.yaml; file is how messages name it. What is wrong in it is refused all at once
// (run.Unclean), except that a file that is no YAML stops at the first error.
func Parse(file string, data []byte) (*Rules, error) {
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	r := &reader{problems: problems{file: file, source: strings.Split(text, "\n")}}
	rules := &Rules{file: file, source: r.source}
	r.document(text, rules)
	if err := r.err("mend " + file + "; nothing was changed"); err != nil {
		return nil, err
	}
	return rules, nil
}

// Truncated names the tables whose rows are not read.
func (r *Rules) Truncated() (tables []string) {
	for _, t := range r.tables {
		if t.truncate {
			tables = append(tables, t.table)
		}
	}
	return tables
}

// LargeObjects says what the file wants to become of large objects, keep or drop; not ok where it does not speak of
// them. They belong to no table, and no verb can mask them.
func (r *Rules) LargeObjects() (verb string, ok bool) { return r.largeObjects, r.largeObjects != "" }

// rule returns the rule for a table, or nil.
func (r *Rules) rule(table string) *rule {
	i := slices.IndexFunc(r.tables, func(t *rule) bool { return t.table == table })
	if i < 0 {
		return nil
	}
	return r.tables[i]
}

// entry returns what the rule says about a column, or nil.
func (t *rule) entry(column string) *entry {
	i := slices.IndexFunc(t.columns, func(e *entry) bool { return e.column == column })
	if i < 0 {
		return nil
	}
	return t.columns[i]
}

// reader walks the syntax tree. The tree is read directly, not decoded into a struct: a column named null,
// 1.10 or yes keeps its name, a repeated key is seen, and every mistake has its place.
type reader struct{ problems }

func (r *reader) document(text string, rules *Rules) {
	file, err := parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return
	}
	for i, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if i > 0 {
			r.add(at(doc.Body), "", "a second document: columns.yaml is one")
			return
		}
		for _, pair := range r.pairs(doc.Body, "tables, each with its columns") {
			r.topLevel(pair, rules)
		}
	}
}

// topLevel reads a table, or large_objects.
func (r *reader) topLevel(pair *ast.MappingValueNode, rules *Rules) {
	key, ok := r.scalar(pair.Key)
	switch {
	case !ok:
	case key == largeObjects:
		if rules.largeObjects != "" {
			r.add(at(pair.Key), "", "%s is here twice", key)
		}
		if word, ok := r.scalar(pair.Value); ok && word != "keep" && word != "drop" {
			r.add(at(pair.Value), "", "%s: %q is no treatment of large objects: write keep or drop", key, word)
		} else {
			rules.largeObjects = word
		}
	default:
		if t := r.table(key, pair, rules.tables); t != nil {
			rules.tables = append(rules.tables, t)
		}
	}
}

// largeObjects is the key for what belongs to no table. A table's has a dot.
const largeObjects = "large_objects"

// syntax notes an error of the YAML parser, which stops at its first.
func (r *reader) syntax(err error) {
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) && syntax.Token != nil {
		r.add(tokenPlace(syntax.Token), "", "%s", syntax.Message)
		return
	}
	r.add(place{}, "", "%s", err)
}

// table reads `schema.table: truncate` or `schema.table: {verb: columns…}`.
func (r *reader) table(key string, pair *ast.MappingValueNode, before []*rule) *rule {
	name, reason := tableName(key)
	if reason != "" {
		r.add(at(pair.Key), "", "%s", reason)
		return nil
	}
	for _, b := range before {
		if b.table == name {
			r.add(at(pair.Key), "", "%s is already on line %d", name, b.at.line)
		}
	}
	t := &rule{table: name, at: at(pair.Key), lists: map[*Verb]place{}}
	if word, ok := pair.Value.(*ast.StringNode); ok {
		t.truncate = word.Value == "truncate"
		if !t.truncate {
			r.add(at(word), "", "%s: %q is no treatment of a whole table: write truncate, or a list of columns for each verb", name, word.Value)
		}
		return t
	}
	for _, list := range r.pairs(pair.Value, "truncate, or verbs with their columns, as in keep: [id]") {
		r.list(t, list)
	}
	return t
}

// list reads one verb of a table with its columns.
func (r *reader) list(t *rule, pair *ast.MappingValueNode) {
	word, ok := r.scalar(pair.Key)
	if !ok {
		return
	}
	v := verbNamed(word)
	if v == nil {
		r.add(at(pair.Key), "", "%s: unknown verb %q%s", t.table, word, knownVerbs(word, Verbs))
		return
	}
	if first, twice := t.lists[v]; twice {
		r.add(at(pair.Key), "", "%s: %s is already on line %d; join the two lists", t.table, word, first.line)
	}
	t.lists[v] = at(pair.Key)
	switch v {
	case sqlVerb, jsonVerb:
		r.mapping(t, v, pair.Value)
	case dateVerb:
		r.dates(t, pair.Value)
	default:
		r.columns(t, v, pair.Value)
	}
}

func (r *reader) columns(t *rule, v *Verb, node ast.Node) {
	for _, n := range r.items(node, "a list of columns, as in "+v.Name+": [column]") {
		r.column(t, &entry{verb: v}, n)
	}
}

// dates reads the columns of date. {year: [born]} says in full what [born] says.
func (r *reader) dates(t *rule, node ast.Node) {
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		r.columns(t, dateVerb, node)
		return
	}
	for _, part := range r.pairs(node, "") {
		if word, ok := r.scalar(part.Key); ok && word != "year" {
			r.add(at(part.Key), "", "%s: date keeps the year, and never the %s: write date: [column]", t.table, word)
			continue
		}
		r.columns(t, dateVerb, part.Value)
	}
}

// mapping reads the columns of sql and json, each with its expression or paths.
func (r *reader) mapping(t *rule, v *Verb, node ast.Node) {
	want := `columns with an expression each, as in sql: {column: "lower('x')"}`
	if v == jsonVerb {
		want = "columns with paths, as in json: {column: {keep: [currency]}}"
	}
	for _, pair := range r.pairs(node, want) {
		e := &entry{verb: v}
		if v == jsonVerb {
			e.paths = r.paths(pair.Value)
		} else {
			e.expression = r.expression(pair.Value)
		}
		r.column(t, e, pair.Key)
	}
}

func (r *reader) expression(node ast.Node) string {
	text, ok := r.scalar(node)
	if ok && strings.TrimSpace(text) == "" {
		r.add(at(node), "", "an SQL expression is missing here")
	}
	return text
}

// column adds one column to the rule.
func (r *reader) column(t *rule, e *entry, node ast.Node) {
	name, ok := r.scalar(node)
	if !ok {
		return
	}
	e.column, e.at = name, at(node)
	if first := t.entry(name); first != nil {
		r.add(e.at, "", "%s.%s is already under %s on line %d", t.table, name, first.verb.Name, first.at.line)
		return
	}
	t.columns = append(t.columns, e)
}

// pathVerbs can stand in the paths of json.
var pathVerbs = slices.DeleteFunc(slices.Clone(Verbs), func(v *Verb) bool { return v != keepVerb && v.pseudonym == nil })

// paths reads {keep: [path…], email: [path…]}.
func (r *reader) paths(node ast.Node) *branch {
	root := &branch{}
	for _, pair := range r.pairs(node, "verbs with paths, as in keep: [currency]") {
		word, ok := r.scalar(pair.Key)
		if !ok {
			continue
		}
		v := verbNamed(word)
		if !slices.Contains(pathVerbs, v) {
			r.add(at(pair.Key), "", "unknown verb %q for a path%s", word, knownVerbs(word, pathVerbs))
			continue
		}
		for _, n := range r.items(pair.Value, `a list of paths, as in keep: [currency, "lines.*.sku"]`) {
			r.path(root, v, n)
		}
	}
	if conflict := root.settle(""); conflict != "" {
		r.add(at(node), "", "%s", conflict)
	}
	return root
}

func (r *reader) path(root *branch, v *Verb, node ast.Node) {
	written, ok := r.scalar(node)
	if !ok {
		return
	}
	steps, err := splitPath(written)
	if err != nil {
		r.add(at(node), "", "path %s: %s", written, err)
		return
	}
	if other := root.grow(steps, v); other != nil {
		r.add(at(node), "", "path %s is already under %s", written, other.Name)
	}
}

// scalar returns the text of a plain value as it is written: null, 1.10 and yes are names like any other.
func (r *reader) scalar(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.NullNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		if t := n.GetToken(); t.Type != token.ImplicitNullType {
			return t.Value, true
		}
		r.add(at(node), "", "something is missing here")
	case *ast.AliasNode:
		r.add(at(node), "", `YAML reads a leading * as an alias: quote what begins with it, as in "*.sku"`)
	default:
		r.add(at(node), "", "expected a plain name, not %s", strings.ToLower(node.Type().String()))
	}
	return "", false
}

// items returns the values of a list.
func (r *reader) items(node ast.Node, want string) []ast.Node {
	if s, ok := node.(*ast.SequenceNode); ok {
		return s.Values
	}
	r.add(at(node), "", "expected %s", want)
	return nil
}

// pairs returns the keys and values of a mapping.
func (r *reader) pairs(node ast.Node, want string) []*ast.MappingValueNode {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	r.add(at(node), "", "expected %s", want)
	return nil
}

// at is where a node begins. The token of a block mapping is its first colon, so its first key counts.
func at(node ast.Node) place {
	if m, ok := node.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return at(m.Values[0].Key)
	}
	return tokenPlace(node.GetToken())
}

func tokenPlace(t *token.Token) place { return place{t.Position.Line, t.Position.Column} }

func verbNamed(word string) *Verb {
	for _, v := range Verbs {
		if v.Name == word {
			return v
		}
	}
	return nil
}

// knownVerbs is the end of a message about an unknown verb: the nearest one, or all.
func knownVerbs(word string, among []*Verb) string {
	if suggestion := source.DidYouMean(word, verbNames(among)); suggestion != "" {
		return suggestion
	}
	return "; the verbs are " + listing(verbNames(among), "and")
}

func verbNames(verbs []*Verb) []string {
	names := make([]string, len(verbs))
	for i, v := range verbs {
		names[i] = v.Name
	}
	return names
}

// listing joins words as prose does: a, b and c.
func listing(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}

var (
	quotedName = `"((?:[^"]|"")+)"`
	plainName  = `([a-z_][a-z0-9_]*)`
	tableKey   = regexp.MustCompile(`^(?:` + quotedName + `|` + plainName + `)\.(?:` + quotedName + `|` + plainName + `)$`)
	bareKey    = regexp.MustCompile(`^([^".]+)\.([^".]+)$`)
)

// tableName returns a table's key in the spelling of postgres.Qualify, or the reason why it is none.
func tableName(key string) (name, reason string) {
	if m := tableKey.FindStringSubmatch(key); m != nil {
		unquote := strings.NewReplacer(`""`, `"`)
		return postgres.Qualify(unquote.Replace(m[1])+m[2], unquote.Replace(m[3])+m[4]), ""
	}
	if m := bareKey.FindStringSubmatch(key); m != nil {
		return "", fmt.Sprintf("%s needs quotes, as in SQL: '%s'", key, postgres.Ident(m[1], m[2]))
	}
	return "", fmt.Sprintf(`%s is no table: write schema.table, or '"Schema"."Table"' with quotes as in SQL`, key)
}
