package mask

// Path says what the rules make of a place in a document: listed where a path of theirs ends there or goes on from
// there, so that the names on the way to it stay; kept where its scalar stays as it is. Steps are names of members, and
// * for an element of an array; a member that is named so has double quotes. For columns that are no documents nothing
// is listed.
func (c Column) Path(steps []string) (listed, kept bool) {
	b := c.paths
	for _, name := range steps {
		if b == nil {
			return false, false
		}
		b = b.step(name)
	}
	if b == nil {
		return false, false
	}
	return true, b.verb == keepVerb
}

// step is the branch that one step leads to; "*" takes the members that are not named, too.
func (b *branch) step(name string) *branch {
	switch name {
	case "*":
		return b.every
	case `"*"`:
		name = "*"
	}
	if child := b.named[name]; child != nil {
		return child
	}
	return b.every
}
