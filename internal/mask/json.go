package mask

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"rehearsal/internal/postgres"
)

// branch is a node of the allow-list of a JSON column. What has no branch is dropped. A path ends at a
// string, number, boolean or null: an object or array that stands there instead is dropped, because its
// members are paths that nobody listed.
type branch struct {
	verb  *Verb              // of a scalar that stands here; nil where no path ends here
	named map[string]*branch // members of an object
	every *branch            // "*": the elements of an array, and the members of an object that are not named
}

// step is one step of a path; the zero step is "*".
type step struct{ name *string }

// splitPath splits lines.*.sku at its dots. A name with a dot, or one that is a *, stands in double quotes.
func splitPath(path string) ([]step, error) {
	var steps []step
	for rest := path; ; {
		name, after, err := firstStep(rest)
		if err != nil {
			return nil, err
		}
		steps = append(steps, name)
		if after == "" {
			return steps, nil
		}
		rest = after[1:]
	}
}

// firstStep returns the first step of a path and what follows it: nothing, or a dot and more.
func firstStep(path string) (first step, after string, err error) {
	if strings.HasPrefix(path, `"`) {
		quoted, err := strconv.QuotedPrefix(path)
		if err != nil {
			return step{}, "", errors.New("a quote is not closed")
		}
		name, err := strconv.Unquote(quoted)
		after = path[len(quoted):]
		if err != nil || after != "" && after[0] != '.' {
			return step{}, "", fmt.Errorf("a dot must follow %s", quoted)
		}
		return step{&name}, after, nil
	}
	name, _, _ := strings.Cut(path, ".")
	switch {
	case name == "":
		return step{}, "", errors.New("a step is empty")
	case name == "*":
		return step{}, path[1:], nil
	case strings.Contains(name, "*"):
		return step{}, "", fmt.Errorf(`* stands for a whole step; write a member that is named so with double quotes: %q`, name)
	}
	return step{&name}, path[len(name):], nil
}

// grow adds a path, and returns the verb that it is already under, or nil.
func (b *branch) grow(path []step, v *Verb) *Verb {
	for _, s := range path {
		b = b.child(s)
	}
	if b.verb == nil {
		b.verb = v
		return nil
	}
	return b.verb
}

func (b *branch) child(s step) *branch {
	if s.name == nil {
		if b.every == nil {
			b.every = &branch{}
		}
		return b.every
	}
	if b.named == nil {
		b.named = map[string]*branch{}
	}
	if b.named[*s.name] == nil {
		b.named[*s.name] = &branch{}
	}
	return b.named[*s.name]
}

// settle gives every named member also what "*" beside it allows, throughout the tree. It returns what it
// cannot settle: a value that two verbs claim.
func (b *branch) settle(path string) (conflict string) {
	for _, name := range slices.Sorted(maps.Keys(b.named)) {
		child := b.named[name]
		if b.every != nil {
			conflict = child.overlay(b.every, path+name)
		}
		if conflict == "" {
			conflict = child.settle(path + name + ".")
		}
		if conflict != "" {
			return conflict
		}
	}
	if b.every != nil {
		return b.every.settle(path + "*.")
	}
	return ""
}

// overlay adds to b all that o allows. It shares nothing with o.
func (b *branch) overlay(o *branch, path string) (conflict string) {
	if b.verb != nil && o.verb != nil && b.verb != o.verb {
		return fmt.Sprintf("two paths lead to %s: one under %s, one under %s", path, b.verb.Name, o.verb.Name)
	}
	if b.verb == nil {
		b.verb = o.verb
	}
	for name, child := range o.named {
		if conflict = b.child(step{&name}).overlay(child, path+"."+name); conflict != "" {
			return conflict
		}
	}
	if o.every != nil {
		return b.child(step{}).overlay(o.every, path+".*")
	}
	return ""
}

// depth is the number of levels below b.
func (b *branch) depth() int {
	deepest := 0
	for _, child := range b.named {
		deepest = max(deepest, 1+child.depth())
	}
	if b.every != nil {
		deepest = max(deepest, 1+b.every.depth())
	}
	return deepest
}

// hashes tells whether a path needs the key.
func (b *branch) hashes() bool {
	if b == nil {
		return false
	}
	for _, child := range b.named {
		if child.hashes() {
			return true
		}
	}
	return b.every.hashes() || b.verb != nil && b.verb.keyed
}

func jsonRefuses(c postgres.Column) string {
	if kindOf(c) != document {
		return "takes only " + document.String()
	}
	return ""
}

// jsonAssign walks the document once, in plpgsql without a query where arrays and named members are concerned.
func jsonAssign(c Column) string {
	column := "NEW." + ident(c.Name)
	return fmt.Sprintf("IF %[1]s IS NOT NULL THEN\n\t%[2]s := %[1]s::pg_catalog.jsonb;\n%[3]s\n\t%[1]s := coalesce(%[4]s, 'null');\nEND IF;",
		column, level(0).in(), tabbed(c.paths.mask(0)), level(0).out())
}

// level names the variables of one level of a document.
type level int

func (l level) in() string     { return fmt.Sprintf("rehearsal_in_%d", int(l)) }
func (l level) out() string    { return fmt.Sprintf("rehearsal_out_%d", int(l)) }
func (l level) member() string { return fmt.Sprintf("rehearsal_member_%d", int(l)) }
func (l level) list() string   { return fmt.Sprintf("rehearsal_list_%d", int(l)) }

// declare returns the declarations for documents down to a level. The counters of FOR declare themselves.
func (l level) declare() string {
	var b strings.Builder
	for i := range l + 1 {
		fmt.Fprintf(&b, "\t%s pg_catalog.jsonb; %s pg_catalog.jsonb; %s pg_catalog.text; %s pg_catalog.jsonb[];\n", i.in(), i.out(), i.member(), i.list())
	}
	return b.String()
}

// mask returns the statements that set l.out() to what of l.in() is allowed, or to NULL where nothing is.
func (b *branch) mask(l level) string {
	if b.named == nil && b.every == nil {
		return b.maskScalar(l)
	}
	return fmt.Sprintf("CASE pg_catalog.jsonb_typeof(%s)\nWHEN 'object' THEN\n%s\nWHEN 'array' THEN\n%s\nELSE\n%s\nEND CASE;",
		l.in(), tabbed(b.maskObject(l)), tabbed(b.maskArray(l)), tabbed(b.maskScalar(l)))
}

func (b *branch) maskObject(l level) string {
	var s strings.Builder
	below := l + 1
	fmt.Fprintf(&s, "%s := %s;\n", l.out(), b.keptMembers(l))
	for _, name := range slices.Sorted(maps.Keys(b.named)) {
		if child := b.named[name]; !child.keepsScalar() {
			fmt.Fprintf(&s, "%s := %s -> %s;\nIF %[1]s IS NOT NULL THEN\n%[4]s\nEND IF;\n", below.in(), l.in(), literal(name),
				tabbed(child.mask(below)+"\n"+l.addMember(literal(name))))
		}
	}
	if b.every != nil {
		fmt.Fprintf(&s, "FOR %s, %s IN SELECT m.key, m.value FROM pg_catalog.jsonb_each(%s) AS m%s LOOP\n%s\nEND LOOP;\n",
			l.member(), below.in(), l.in(), b.unnamed(), tabbed(b.every.mask(below)+"\n"+l.addMember(l.member())))
	}
	return strings.TrimSuffix(s.String(), "\n")
}

// keptMembers is an object of the members that stay as they are: one expression is cheaper than a few statements for each.
func (b *branch) keptMembers(l level) string {
	var kept []string
	for _, name := range slices.Sorted(maps.Keys(b.named)) {
		if b.named[name].keepsScalar() {
			member := l.in() + " -> " + literal(name)
			kept = append(kept, fmt.Sprintf("CASE WHEN pg_catalog.jsonb_typeof(%s) NOT IN ('object', 'array') THEN pg_catalog.jsonb_build_object(%s, %[1]s) ELSE '{}' END",
				member, literal(name)))
		}
	}
	if kept == nil {
		return "'{}'::pg_catalog.jsonb"
	}
	return strings.Join(kept, " || ")
}

// keepsScalar tells whether the branch keeps a string, number, boolean or null, and nothing else.
func (b *branch) keepsScalar() bool { return b.verb == keepVerb && b.named == nil && b.every == nil }

// unnamed is the clause that leaves the named members to their own branches.
func (b *branch) unnamed() string {
	if len(b.named) == 0 {
		return ""
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(b.named)) {
		names = append(names, literal(name))
	}
	return " WHERE m.key NOT IN (" + strings.Join(names, ", ") + ")"
}

// addMember puts what is left of a member into its object.
func (l level) addMember(key string) string {
	return fmt.Sprintf("IF %s IS NOT NULL THEN\n\t%s := %[2]s || pg_catalog.jsonb_build_object(%s, %[1]s);\nEND IF;",
		(l + 1).out(), l.out(), key)
}

// maskArray keeps the elements of which something is left. A jsonb grown with || would be copied for each.
func (b *branch) maskArray(l level) string {
	if b.every == nil {
		return l.out() + " := '[]'::pg_catalog.jsonb;"
	}
	below := l + 1
	return fmt.Sprintf(`%[1]s := '{}'::pg_catalog.jsonb[];
FOR rehearsal_i IN 0 .. pg_catalog.jsonb_array_length(%[2]s) - 1 LOOP
	%[3]s := %[2]s -> rehearsal_i;
%[4]s
	IF %[5]s IS NOT NULL THEN
		%[1]s := pg_catalog.array_append(%[1]s, %[5]s);
	END IF;
END LOOP;
%[6]s := pg_catalog.to_jsonb(%[1]s);`, l.list(), l.in(), below.in(), tabbed(b.every.mask(below)), below.out(), l.out())
}

// maskScalar treats a string, number, boolean or null by the branch's verb, and drops everything else.
func (b *branch) maskScalar(l level) string {
	if b.verb == nil {
		return l.out() + " := NULL;"
	}
	scalar := fmt.Sprintf("pg_catalog.jsonb_typeof(%s) NOT IN ('object', 'array')", l.in())
	if b.verb == keepVerb {
		return fmt.Sprintf("%s := CASE WHEN %s THEN %s END;", l.out(), scalar, l.in())
	}
	return fmt.Sprintf(`%[1]s := NULL;
IF %[2]s THEN
	rehearsal_text := %[3]s #>> '{}';
	IF rehearsal_text <> '' THEN
		%[4]s
		rehearsal_text := %[5]s;
	END IF;
	%[1]s := coalesce(pg_catalog.to_jsonb(rehearsal_text), 'null');
END IF;`, l.out(), scalar, l.in(), b.verb.hash("rehearsal_text"), b.verb.pseudonym.result("rehearsal_text", 0))
}

// jsonProof shares nothing with the code that masks: what one forgets the other finds. One jsonpath looks at a
// document once, however large it is, and without a subquery, so that the scan can run in parallel.
func jsonProof(c Column) string {
	value := postgres.Ident(c.Name) + "::pg_catalog.jsonb"
	allowed := append([]string{`$.type() == "null"`}, c.paths.allows("$")...)
	shape := fmt.Sprintf("pg_catalog.jsonb_path_match(%s, %s)", value, postgres.Literal("strict "+anyOf(allowed)))
	return strings.Join(append([]string{shape}, c.paths.matches("("+value+")", 0)...), " AND ")
}

// allows returns jsonpath predicates, of which a value that holds only what the branch allows meets one. They are
// for strict mode, which neither wraps nor unwraps arrays. None asks of a value what its type has no answer to:
// that would be unknown, and in a filter unknown passes for allowed.
func (b *branch) allows(value string) (predicates []string) {
	if b.named != nil || b.every != nil {
		predicates = append(predicates,
			fmt.Sprintf(`%s.type() == "object" && %s`, value, b.allowsMembers(value)),
			fmt.Sprintf(`%s.type() == "array" && %s`, value, b.allowsElements(value)))
	}
	switch {
	case b.verb == nil:
		return predicates
	case b.verb == keepVerb:
		return append(predicates, fmt.Sprintf(`%[1]s.type() != "object" && %[1]s.type() != "array"`, value))
	}
	text := fmt.Sprintf(`%s.type() == "string"`, value)
	if pattern := b.verb.pseudonym.pattern; pattern != "" {
		text += fmt.Sprintf(` && (%[1]s == "" || %[1]s like_regex %[2]s)`, value, quoted(pattern))
	}
	return append(predicates, fmt.Sprintf(`%s.type() == "null"`, value), text)
}

func (b *branch) allowsMembers(value string) string {
	if b.named == nil {
		return fmt.Sprintf("!exists(%s.* ? (!%s))", value, anyOf(b.every.allows("@")))
	}
	var members, others []string
	for _, name := range slices.Sorted(maps.Keys(b.named)) {
		members = append(members, fmt.Sprintf("@.key == %s && %s", quoted(name), anyOf(b.named[name].allows("@.value"))))
		others = append(others, "@.key != "+quoted(name))
	}
	if b.every != nil {
		members = append(members, strings.Join(others, " && ")+" && "+anyOf(b.every.allows("@.value")))
	}
	return fmt.Sprintf("!exists(%s.keyvalue() ? (!%s))", value, anyOf(members))
}

func (b *branch) allowsElements(value string) string {
	if b.every == nil {
		return value + ".size() == 0"
	}
	return fmt.Sprintf("!exists(%s[*] ? (!%s))", value, anyOf(b.every.allows("@")))
}

func anyOf(predicates []string) string { return "(" + strings.Join(predicates, " || ") + ")" }

// quoted is a string of jsonpath.
func quoted(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }

// matches returns SQL conditions that the pseudonyms in a document meet which no pattern tells.
func (b *branch) matches(value string, l level) (conditions []string) {
	if b.verb != nil && b.verb.pseudonym != nil {
		if b.verb.pseudonym.pattern == "" {
			text := "(" + value + " #>> '{}')"
			conditions = append(conditions, fmt.Sprintf("(pg_catalog.jsonb_typeof(%s) = 'string' AND %s <> '' AND NOT (%s)) IS NOT TRUE",
				value, text, b.verb.pseudonym.matches(text, 0)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.named)) {
		conditions = append(conditions, b.named[name].matches("("+value+" -> "+postgres.Literal(name)+")", l)...)
	}
	if b.every == nil {
		return conditions
	}
	one := fmt.Sprintf("m%d", int(l))
	below := b.every.matches(one+".value", l+1)
	if len(below) == 0 {
		return conditions
	}
	for _, path := range []string{`strict $ ? (@.type() == "array")[*]`, b.unnamedValues()} {
		conditions = append(conditions, fmt.Sprintf("NOT EXISTS (SELECT FROM pg_catalog.jsonb_path_query(%s, %s) AS %s(value) WHERE NOT (%s))",
			value, postgres.Literal(path), one, strings.Join(below, " AND ")))
	}
	return conditions
}

// unnamedValues is the jsonpath to the members of an object that "*" stands for.
func (b *branch) unnamedValues() string {
	path := `strict $ ? (@.type() == "object").keyvalue()`
	for _, name := range slices.Sorted(maps.Keys(b.named)) {
		path += " ? (@.key != " + quoted(name) + ")"
	}
	return path + ".value"
}

// tabbed indents statements by one tab.
func tabbed(statements string) string {
	return "\t" + strings.ReplaceAll(statements, "\n", "\n\t")
}
