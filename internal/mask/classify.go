package mask

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rehearsal/internal/postgres"
)

// Classify returns lines for all columns and tables of a schema that the rules do not name, ready to paste
// into columns.yaml; it is empty where none is missing. It suggests clear, or a verb that masks as well and
// fits the column's name. It never suggests to keep anything: where no verb fits, a comment asks for a decision.
func Classify(schema []postgres.Table, r *Rules) string {
	p := newPlanner(r, schema)
	var b strings.Builder
	for _, t := range schema {
		rule := r.rule(t.Root)
		switch {
		case t.Root != t.Qualified() || rule != nil && rule.truncate:
		case t.Kind == 'f':
			fmt.Fprintf(&b, "%s: truncate\n", yamlTable(t.Root))
		default:
			b.WriteString(p.classify(t, rule))
		}
	}
	return b.String()
}

// classify returns the lines for one table; rule is nil where it is new. A list that is already there is
// printed as a whole: its verb can stand in the table only once.
func (p *planner) classify(t postgres.Table, rule *rule) string {
	s := p.suggestions(t, rule)
	if rule != nil && s.empty() {
		return ""
	}
	head := yamlTable(t.Root) + ":"
	if rule != nil {
		head += fmt.Sprintf("   # line %d", rule.at.line)
	} else {
		head += fmt.Sprintf("   # or %s: truncate", yamlTable(t.Root))
	}
	lines := []string{head}
	for _, v := range Verbs {
		if len(s.columns[v]) == 0 {
			continue
		}
		before, where := rule.list(v)
		lines = append(lines, "  "+yamlList(v, append(before, s.columns[v]...))+where)
	}
	for _, u := range s.undecided {
		lines = append(lines, "  # decide: "+u)
	}
	if rule == nil && len(lines) == 1 {
		return yamlTable(t.Root) + ": {}\n"
	}
	return strings.Join(lines, "\n") + "\n"
}

// list returns the columns that are already under a verb, and a remark for the line that replaces theirs.
func (t *rule) list(v *Verb) (columns []string, where string) {
	if t == nil {
		return nil, ""
	}
	for _, e := range t.columns {
		if e.verb == v {
			columns = append(columns, e.column)
		}
	}
	if at, ok := t.lists[v]; ok {
		return columns, fmt.Sprintf("   # in place of line %d", at.line)
	}
	return columns, ""
}

// suggestions are verbs for the columns of a table that have none.
type suggestions struct {
	columns   map[*Verb][]string
	undecided []string // why no verb but keep or sql can take the column
}

func (s suggestions) empty() bool { return len(s.columns) == 0 && len(s.undecided) == 0 }

func (p *planner) suggestions(t postgres.Table, rule *rule) suggestions {
	s := suggestions{columns: map[*Verb][]string{}}
	for _, c := range t.Columns {
		if rule != nil && rule.entry(c.Name) != nil {
			continue
		}
		v, why := p.suggest(t, c)
		if v == jsonVerb && rule != nil && rule.lists[jsonVerb].line > 0 {
			v = clearVerb // the paths of the others would have to be printed anew
		}
		if v == nil {
			s.undecided = append(s.undecided, fmt.Sprintf("%s (%s): %s", c.Name, c.Type, why))
			continue
		}
		s.columns[v] = append(s.columns[v], c.Name)
	}
	return s
}

// byName are the verbs that a column's name asks for. The first that can take the column is suggested; where none
// can, clear.
var byName = []struct {
	verb *Verb
	name *regexp.Regexp
}{
	{emailVerb, regexp.MustCompile(`(?i)e_?mail`)},
	{phoneVerb, regexp.MustCompile(`(?i)phone|mobile|(^|_)(tel|fax|cell)(_|$)`)},
	{dateVerb, regexp.MustCompile(`(?i)birth|(^|_)(dob|born)(_|$)`)},
	{clearVerb, regexp.MustCompile(`(?i)passw|(^|_)pwd|secret|hash|salt|cred|otp|(^|_)pin(_|$)`)},
	{tokenVerb, regexp.MustCompile(`(?i)token|key$|(^|_)(uuid|guid)$`)},
	{clearVerb, regexp.MustCompile(`(?i)iban|(^|_)(bic|swift|pan|cv[cv]|ssn|sin|nin|vat)(_|$)|card|account_?n|passport|tax|licen[cs]e|birth`)},
	{clearVerb, regexp.MustCompile(`(?i)(^|_)(ip|mac)(_|$)|ip_?addr|mac_?addr|user_?agent|device|(^|_)(lat|lon|lng|geo)(_|$)|latitude|longitude|location|coord`)},
	{clearVerb, regexp.MustCompile(`(?i)(^|_)(url|uri|href|link)s?$|avatar|photo|picture|image|signature`)},
	{nameVerb, regexp.MustCompile(`(?i)(^|_)(first|last|full|sur|family|given|user)?_?names?$`)},
	{textVerb, regexp.MustCompile(`(?i)(^|_)(bio|body|comments?|notes?|description|message|about|address|street|city)$`)},
}

// suggest returns the verb for a column, or why no verb but keep or sql can take it.
func (p *planner) suggest(t postgres.Table, c postgres.Column) (v *Verb, why string) {
	if theirs, side := p.referenced(t, c); side != "" {
		switch {
		case theirs == nil:
			return nil, "it references " + side + ", which is to be decided first"
		case theirs == keepVerb:
			return nil, "it references " + side + ", which is kept"
		case objection(t, c, theirs) == "":
			return theirs, ""
		}
	}
	for _, v := range append(hints(c), clearVerb, tokenVerb) {
		if objection(t, c, v) == "" {
			return v, ""
		}
	}
	return nil, objection(t, c, clearVerb)
}

// hints are the verbs that a column's type and name ask for. A document begins with no path allowed. A token that
// may be NULL is better cleared; one that may not would become empty, and an empty one may open a door.
func hints(c postgres.Column) (verbs []*Verb) {
	if kindOf(c) == document {
		return []*Verb{jsonVerb}
	}
	for _, b := range byName {
		if b.name.MatchString(c.Name) && (b.verb != tokenVerb || c.NotNull) {
			verbs = append(verbs, b.verb)
		}
	}
	return verbs
}

// referenced returns the verb of the column that a foreign key on c references, or the one that is suggested
// for it, and that column's name; no name where there is no such key, or its table is truncated.
func (p *planner) referenced(t postgres.Table, c postgres.Column) (v *Verb, side string) {
	for _, key := range t.ForeignKeys {
		i := slices.Index(key.Columns, c.Name)
		if i < 0 {
			continue
		}
		side = key.Table + "." + key.References[i]
		rule := p.rules.rule(key.Table)
		if rule != nil && rule.truncate {
			return nil, ""
		}
		if rule != nil {
			if theirs := rule.entry(key.References[i]); theirs != nil {
				return theirs.verb, side
			}
		}
		return p.suggestReferenced(key.Table, key.References[i]), side
	}
	return nil, ""
}

// suggestReferenced is suggest for a referenced column that the rules do not name either. Its own foreign
// keys do not count: keys can go round in circles.
func (p *planner) suggestReferenced(table, column string) *Verb {
	for _, t := range p.schema {
		i := slices.IndexFunc(t.Columns, func(c postgres.Column) bool { return c.Name == column })
		if t.Qualified() == table && i >= 0 {
			t.ForeignKeys = nil
			v, _ := p.suggest(t, t.Columns[i])
			return v
		}
	}
	return nil
}

// line is the line to write for one column.
func (p *planner) line(t postgres.Table, c postgres.Column) string {
	v, why := p.suggest(t, c)
	switch {
	case v != nil:
		return yamlLine(t.Root, v, c.Name) + "   # or keep, if it is not sensitive"
	case c.Generated || c.Partition:
		return yamlLine(t.Root, keepVerb, c.Name)
	}
	return yamlLine(t.Root, keepVerb, c.Name) + "   # if it is not sensitive: " + why
}

// wholeTable is the line to write for a table that the rules do not name.
func (p *planner) wholeTable(t postgres.Table) string {
	name := yamlTable(t.Root)
	if t.Kind == 'f' {
		return name + ": truncate"
	}
	s := p.suggestions(t, nil)
	var lists []string
	for _, v := range Verbs {
		if len(s.columns[v]) > 0 {
			lists = append(lists, yamlList(v, s.columns[v]))
		}
	}
	line := fmt.Sprintf("%s: {%s}   # or %[1]s: truncate", name, strings.Join(lists, ", "))
	for _, u := range s.undecided {
		line += "; decide about " + u
	}
	return line
}

func yamlLine(table string, v *Verb, column string) string {
	return yamlTable(table) + ":  " + yamlList(v, []string{column})
}

// yamlList is a verb with its columns.
func yamlList(v *Verb, columns []string) string {
	each := ""
	switch v {
	case sqlVerb:
		each = `: "an expression"`
	case jsonVerb:
		each = ": {keep: []}"
	default:
		return fmt.Sprintf("%s: [%s]", v.Name, yamlNames(columns))
	}
	items := make([]string, len(columns))
	for i, c := range columns {
		items[i] = yamlNames([]string{c}) + each
	}
	return fmt.Sprintf("%s: {%s}", v.Name, strings.Join(items, ", "))
}

// yamlTable quotes a table's key for YAML where SQL needs quotes.
func yamlTable(name string) string {
	if strings.HasPrefix(name, `"`) {
		return "'" + strings.ReplaceAll(name, "'", "''") + "'"
	}
	return name
}

var plainColumn = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// yamlNames joins column names, quoted where YAML needs it.
func yamlNames(columns []string) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = c
		if !plainColumn.MatchString(c) {
			quoted[i] = strconv.Quote(c)
		}
	}
	return strings.Join(quoted, ", ")
}
