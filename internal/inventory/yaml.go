package inventory

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// parse returns the one document of the file, or nil and the problem that makes it unreadable.
func (r *reader) parse(src []byte) ast.Node {
	text := strings.TrimPrefix(string(src), "\ufeff")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	r.lines = strings.Split(text, "\n")
	if !utf8.ValidString(text) {
		r.invalidUTF8()
		return nil
	}
	// Duplicate keys are ours to report: with both places, and beside whatever else is wrong.
	file, err := parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
	var syntax *yaml.SyntaxError
	switch {
	case errors.As(err, &syntax) && syntax.Token != nil:
		r.failAt(syntax.Token, "this is not YAML: %s", strings.ReplaceAll(syntax.Message, "\t", `\t`))
		return nil
	case err != nil:
		r.problems = append(r.problems, problem{1, 1, err.Error()})
		return nil
	}
	return r.document(file.Docs)
}

func (r *reader) invalidUTF8() {
	for i, line := range r.lines {
		if !utf8.ValidString(line) {
			valid := strings.ToValidUTF8(line, "\x00")
			column := utf8.RuneCountInString(valid[:strings.IndexByte(valid, 0)]) + 1
			r.problems = append(r.problems, problem{i + 1, column, "this is not UTF-8; save the file as UTF-8"})
			return
		}
	}
}

func (r *reader) document(docs []*ast.DocumentNode) ast.Node {
	if len(docs) == 0 || docs[0].Body == nil {
		// Of what follows an empty document the parser does not tell.
		r.problems = append(r.problems, problem{1, 1, "the file, or its first document, is empty"})
		return nil
	}
	if directive, ok := docs[0].Body.(*ast.DirectiveNode); ok {
		r.fail(directive, "directives are not supported; take this line out")
		return nil
	}
	if len(docs) > 1 {
		begin := docs[1].Start
		if begin == nil { // after "..." a document needs no marker
			begin = docs[1].GetToken()
		}
		r.failAt(begin, "another document begins here, and only one is read")
		return nil
	}
	return r.open(docs[0].Body)
}

// pairs returns the pairs of a mapping without duplicates.
func (r *reader) pairs(p pair) (pairs []pair, ok bool) {
	if p.value == nil {
		return nil, false
	}
	m, ok := p.value.(*ast.MappingNode)
	switch {
	case implicitNull(p.value), ok && len(m.Values) == 0:
		r.fail(p.at(), "%s is empty", p.name)
		return nil, false
	case !ok:
		r.fail(p.value, "%s takes keys with values", p.name)
		return nil, false
	}
	lines := map[string]int{}
	for _, v := range m.Values {
		q := pair{key: r.open(v.Key), value: r.open(v.Value)}
		if q.key == nil {
			continue
		}
		q.name, _, _ = text(q.key)
		line, _ := r.position(q.key)
		if first := lines[q.name]; first > 0 {
			r.fail(q.key, "%q is here twice; it is on line %d, too", q.name, first)
			continue
		}
		lines[q.name] = line
		if r.glued(v.GetToken(), q) {
			r.fail(q.value, "a blank is missing after the colon; write %s: %s", q.name, q.value.GetToken().Value)
		}
		pairs = append(pairs, q)
	}
	return pairs, true
}

// glued tells {port:5432}, in which YAML sees the one key "port:5432" and go-yaml the key port.
func (r *reader) glued(colon *token.Token, q pair) bool {
	_, quotedKey, _ := text(q.key)
	_, quoted, scalar := text(q.value)
	if !scalar || quoted || quotedKey || implicitNull(q.value) {
		return false
	}
	colonLine, colonColumn := r.locate(colon)
	line, column := r.position(q.value)
	return line == colonLine && column == colonColumn+1
}

// open returns what n holds, after a complaint about what we do not want around it: anchors, aliases, tags and "? key"
// let one place of a file change another, or a value be something else than it looks.
func (r *reader) open(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.AnchorNode:
		r.fail(n, "anchors are not supported; write the value out where it is needed, or quote a text that begins with &")
		return r.open(n.Value)
	case *ast.AliasNode:
		r.fail(n, "aliases are not supported; write the value out, or quote a text that begins with *")
		return nil
	case *ast.TagNode:
		r.fail(n, "tags are not supported; write the value in quotes, or quote a text that begins with !")
		return r.open(n.Value)
	case *ast.MappingKeyNode:
		r.fail(n, `"? key" is not supported; write "key: value"`)
		return r.open(n.Value)
	case *ast.MergeKeyNode:
		r.fail(n, "merge keys are not supported; write the values out")
		return nil
	}
	return n
}

// text returns the characters of a scalar. ok is false where n is something else.
func text(n ast.Node) (s string, quoted, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, n.Token.Type == token.DoubleQuoteType || n.Token.Type == token.SingleQuoteType, true
	case *ast.LiteralNode:
		return n.Value.Value, true, true
	case ast.ScalarNode:
		if implicitNull(n) {
			return "", false, true
		}
		return n.GetToken().Value, false, true
	}
	return "", false, false
}

func implicitNull(n ast.Node) bool {
	null, ok := n.(*ast.NullNode)
	return ok && null.Token.Type == token.ImplicitNullType
}
