package mask

import (
	"fmt"
	"strings"
)

// maxDimensions is MAXDIM of PostgreSQL's array.h.
const maxDimensions = 6

// element is c as a column of one element of its array.
func (c Column) element() Column {
	c.Column = element(c.Column)
	return c
}

// assignElements masks an array element by element. NULLs stay where they are, and so do bounds and dimensions: an
// array of that shape is made of %s, and format fills it with what became of the elements. No pseudonym holds a
// character that a quoted element must escape.
func (v *Verb) assignElements(c Column) string {
	array, one := "NEW."+ident(c.Name), c.element()
	value := textVar
	if kindOf(one.Column) == bytea {
		value += "::pg_catalog.bytea" // back from what bytea_output makes of it
	}
	value = one.text(value)
	return fmt.Sprintf(`IF %[1]s IS NOT NULL THEN
	%[2]s := '{}';
	FOREACH %[3]s IN ARRAY %[1]s::pg_catalog.text[] LOOP
		IF %[4]s <> '' THEN
			%[5]s
			%[3]s := %[6]s;
		END IF;
		%[2]s := pg_catalog.array_append(%[2]s, coalesce('"' || %[3]s || '"', 'NULL'));
	END LOOP;
	%[1]s := pg_catalog.format(pg_catalog.array_fill('%%s'::pg_catalog.text, %[7]s, %[8]s)::pg_catalog.text, VARIADIC %[2]s);
END IF;`, array, elementsVar, textVar, value, v.hash(one.fold(value)), one.literal(v.pseudonym, value),
		dimensions("array_length", array), dimensions("array_lower", array))
}

// literal is p's result as an array's literal spells it.
func (c Column) literal(p *pseudonym, value string) string {
	if kindOf(c.Column) == uuid {
		return c.result(p, value)
	}
	return p.result(value, limit(c.Column))
}

// dimensions is what an SQL function says of each of an array's dimensions.
func dimensions(function, array string) string {
	calls := make([]string, maxDimensions)
	for i := range calls {
		calls[i] = fmt.Sprintf("pg_catalog.%s(%s, %d)", function, array, i+1)
	}
	return "pg_catalog.array_remove(ARRAY[" + strings.Join(calls, ", ") + "], NULL)"
}
