package mask

import (
	"fmt"
	"slices"
	"strings"

	"rehearsal/internal/postgres"
)

// Verb is one way to treat a column: what columns.yaml calls it, which columns it can take, how it masks a
// row that arrives, and how a masked row proves itself. NULL stays NULL under every verb but sql.
type Verb struct {
	Name string
	Doc  string // what it makes of a value, in a line

	// Lossy verbs can make the same of two different values, so a unique index may not stand over them.
	Lossy bool

	// refuses says why the verb cannot take a column, or is empty.
	refuses func(c postgres.Column) string
	// assign returns the plpgsql statements that mask the column of NEW; nil where the trigger does not
	// touch it (keep) or evaluates it in advance (sql).
	assign func(c Column) string
	// proof returns an SQL condition that every masked value but NULL meets; nil where none is known.
	proof func(c Column) string
	// keyed verbs hash, so that the trigger needs the key.
	keyed bool
	// pseudonym is how the verb makes one text of another; nil for verbs that do not.
	pseudonym *pseudonym
}

// Verbs are all verbs of a column, in the order in which documentation lists them. A table as a whole can
// also be "truncate".
var Verbs = []*Verb{keepVerb, emailVerb, nameVerb, phoneVerb, textVerb, tokenVerb, dateVerb, clearVerb, sqlVerb, jsonVerb}

var (
	keepVerb = &Verb{Name: "keep", Doc: "stays as it is; the only verb that can leak"}

	emailVerb = hashing(asEmail, &Verb{Name: "email",
		Doc: "u1f3a9c…@masked.invalid: one address for each, whatever its case and the blanks around it"})

	nameVerb = hashing(asName, &Verb{Name: "name", Lossy: true,
		Doc: "an invented name: two words for two or more, one word for one; the same for ANN LEE as for Ann Lee"})

	phoneVerb = hashing(asPhone, &Verb{Name: "phone", Lossy: true,
		Doc: "+447700900…: a number of the range that is kept free for drama"})

	textVerb = hashing(asProse, &Verb{Name: "text", Lossy: true,
		Doc: "meaningless words of about the same length"})

	tokenVerb = hashing(asToken, &Verb{Name: "token",
		Doc: "masked-… and 24 hex digits; a UUID of version 8 where the type is uuid"})

	dateVerb = &Verb{Name: "date", Lossy: true, keyed: true,
		Doc:     "another month and day of the same year, at 12:34:56 UTC where there is a time",
		refuses: dateRefuses, assign: dateAssign, proof: dateProof}

	clearVerb = &Verb{Name: "clear", Lossy: true,
		Doc:     "NULL, or the type's empty value where the column is NOT NULL",
		refuses: clearRefuses, assign: clearAssign, proof: clearProof}

	sqlVerb = &Verb{Name: "sql",
		Doc: "the value of an SQL expression over the row's original columns; nothing proves it"}

	jsonVerb = &Verb{Name: "json", Lossy: true,
		Doc:     "an allow-list of paths, each kept or masked; everything else is dropped",
		refuses: jsonRefuses, assign: jsonAssign, proof: jsonProof}
)

// The names that all generated SQL uses. Columns cannot collide with them: triggers name columns as fields
// of NEW, and expressions of the verb sql prefer columns (#variable_conflict use_column).
const (
	ipadSetting = "rehearsal.ipad"
	opadSetting = "rehearsal.opad"
	ipadVar     = "rehearsal_ipad"
	opadVar     = "rehearsal_opad"
	hashVar     = "rehearsal_hash"
	textVar     = "rehearsal_text"     // a scalar of a document, or an element of an array
	elementsVar = "rehearsal_elements" // of an array, as its literal spells them
)

// pseudonymBytes of an HMAC are 96 bits: among 10^9 values a collision has a chance of 10^-11.
const pseudonymBytes = 12

const (
	emailPrefix = "u"
	emailSuffix = "@masked.invalid" // .invalid never resolves (RFC 2606)
	tokenPrefix = "masked-"         // so that no real token looks like a masked one
	phonePrefix = "+447700900"      // Ofcom keeps +44 7700 900000 to 900999 for drama
	blanks      = " \t\r\n"
)

// pseudonym makes one text of another by way of a keyed hash of it. The empty text stays empty.
type pseudonym struct {
	kinds     []kind
	longest   int                                  // characters that the longest result has; 0: cut to fit
	normalise func(value string) string            // what is hashed of an SQL text; values equal in it get one pseudonym
	result    func(value string, limit int) string // the SQL text made of value and of hashVar
	matches   func(value string, limit int) string // the SQL condition that a result meets
	pattern   string                               // the regular expression of a result; empty where none tells
	stream    streamed                             // the same for values that stream by
}

var asEmail = &pseudonym{
	kinds:   []kind{text},
	longest: len(emailPrefix) + 2*pseudonymBytes + len(emailSuffix),
	// Not the locale's lower(): Key.Email must come to the same result.
	normalise: func(value string) string {
		return fmt.Sprintf(`pg_catalog.lower(pg_catalog.btrim(%s, E' \t\r\n') COLLATE "C")`, value)
	},
	result: func(string, int) string {
		return fmt.Sprintf("'%s' || %s || '%s'", emailPrefix, hexHash, emailSuffix)
	},
	matches: func(value string, _ int) string { return hexBetween(value, emailPrefix, emailSuffix) },
	pattern: hexPattern(emailPrefix, emailSuffix),
	stream:  streamedEmail,
}

var asName = &pseudonym{
	kinds:   []kind{text},
	longest: longestGiven + 1 + longestFamily,
	// Blanks are many ways to write one name. Not the locale's lower(), as above: an é stays apart from an É.
	normalise: func(value string) string {
		return fmt.Sprintf(`pg_catalog.replace(pg_catalog.lower(%s COLLATE "C"), ' ', '')`, value)
	},
	result: func(value string, _ int) string {
		return fmt.Sprintf("%s || CASE WHEN pg_catalog.strpos(pg_catalog.btrim(%s), ' ') > 0 THEN ' ' || %s ELSE '' END",
			pick(givenNames, 0), value, pick(familyNames, 2))
	},
	matches: func(value string, _ int) string {
		return fmt.Sprintf("pg_catalog.split_part(%[1]s, ' ', 1) = ANY (%[2]s)"+
			" AND (pg_catalog.strpos(%[1]s, ' ') = 0 OR pg_catalog.substr(%[1]s, pg_catalog.strpos(%[1]s, ' ') + 1) = ANY (%[3]s))",
			value, array(givenNames), array(familyNames))
	},
	stream: streamedName,
}

var asPhone = &pseudonym{
	kinds:   []kind{text},
	longest: len(phonePrefix) + 3,
	// +49 30 77, 0049-30/77: one number.
	normalise: func(value string) string {
		return fmt.Sprintf("pg_catalog.ltrim(pg_catalog.translate(%s, ' ()-./', ''), '+0')", value)
	},
	result: func(string, int) string {
		return fmt.Sprintf("'%s' || pg_catalog.lpad((%s %% 1000)::pg_catalog.text, 3, '0')", phonePrefix, uint16Of(0))
	},
	matches: func(value string, _ int) string {
		return fmt.Sprintf("%s ~ '%s'", value, phonePattern)
	},
	pattern: phonePattern,
	stream:  streamedPhone,
}

var asProse = &pseudonym{
	kinds:     []kind{text},
	normalise: func(value string) string { return fmt.Sprintf("pg_catalog.left(%s, 64)", value) },
	// The length goes up to a multiple of the openings': an exact one could tell a yes from a no.
	result: func(value string, limit int) string {
		length := fmt.Sprintf("(pg_catalog.length(%s) + %d) / %d * %[3]d", value, openingLength-1, openingLength)
		if limit > 0 {
			length = fmt.Sprintf("least(%s, %d)", length, limit)
		}
		return fmt.Sprintf("pg_catalog.rtrim(pg_catalog.rpad(%s, %s, '%s'))", pick(openings, 0), length, filler)
	},
	matches: func(value string, limit int) string {
		return fmt.Sprintf("pg_catalog.left(%[1]s, %[2]d) = ANY (%[3]s)"+
			" AND pg_catalog.substr(%[1]s, %[4]d) = pg_catalog.rpad('', pg_catalog.length(%[1]s) - %[2]d, '%[5]s')",
			value, openingLength, array(cutOpenings(limit)), openingLength+1, filler)
	},
	stream: streamedProse,
}

var asToken = &pseudonym{
	kinds:     []kind{text, uuid, bytea},
	longest:   len(tokenPrefix) + 2*pseudonymBytes,
	normalise: func(value string) string { return value },
	result:    func(string, int) string { return fmt.Sprintf("'%s' || %s", tokenPrefix, hexHash) },
	matches:   func(value string, _ int) string { return hexBetween(value, tokenPrefix, "") },
	pattern:   hexPattern(tokenPrefix, ""),
	stream:    streamedToken,
}

var phonePattern = "^[+]" + phonePrefix[1:] + "[0-9]{3}$"

// hexBetween is the condition that a value is prefix, the hash's hex digits and suffix: a fraction of what the regular
// expression costs, and the proof asks for every value.
func hexBetween(value, prefix, suffix string) string {
	const digits = 2 * pseudonymBytes
	return fmt.Sprintf("%[1]s LIKE '%[2]s%[3]s%[4]s' AND pg_catalog.translate(pg_catalog.substr(%[1]s, %[5]d, %[6]d), '0123456789abcdef', '') = ''",
		value, prefix, strings.Repeat("_", digits), suffix, len(prefix)+1, digits)
}

// hexPattern is the same as a regular expression. It has neither a dot nor a negated class, which stop at a new line in
// jsonpath.
func hexPattern(prefix, suffix string) string {
	return fmt.Sprintf("^%s[0-9a-f]{%d}%s$", prefix, 2*pseudonymBytes, strings.ReplaceAll(suffix, ".", "[.]"))
}

// hexHash is the hash's first bytes as hex digits.
var hexHash = fmt.Sprintf("pg_catalog.encode(pg_catalog.substr(%s, 1, %d), 'hex')", hashVar, pseudonymBytes)

// uint16Of is the number that two bytes of the hash make.
func uint16Of(at int) string {
	return fmt.Sprintf("(pg_catalog.get_byte(%[1]s, %[2]d) * 256 + pg_catalog.get_byte(%[1]s, %[3]d))", hashVar, at, at+1)
}

// pick chooses one of words by two bytes of the hash. The array is a constant of the plan: it costs nothing a row.
func pick(words []string, at int) string {
	return fmt.Sprintf("(%s)[1 + %s %% %d]", array(words), uint16Of(at), len(words))
}

func array(words []string) string {
	return postgres.Literal(`{"`+strings.Join(words, `","`)+`"}`) + "::pg_catalog.text[]"
}

// hash returns the statement that puts the HMAC of what p makes of an SQL text into hashVar.
func (v *Verb) hash(value string) string { return mac(v.Name, v.pseudonym.normalise(value)) }

// mac returns the statement that puts the HMAC-SHA-256 of an SQL text into hashVar (RFC 2104; written out so that
// staging needs no pgcrypto). The verb is part of the message: a name says nothing about an address.
func mac(verb, message string) string {
	return fmt.Sprintf("%s := pg_catalog.sha256(%s || pg_catalog.sha256(%s || pg_catalog.convert_to('%s:' || %s, 'UTF8')));",
		hashVar, opadVar, ipadVar, verb, message)
}

// hashing completes a verb that masks by way of p.
func hashing(p *pseudonym, v *Verb) *Verb {
	v.keyed, v.pseudonym = true, p
	v.refuses = p.refuses
	v.assign = func(c Column) string {
		if c.Element != "" {
			return v.assignElements(c)
		}
		value := c.text("NEW." + ident(c.Name))
		return fmt.Sprintf("IF %s <> '' THEN\n\t%s\n\tNEW.%s := %s;\nEND IF;",
			value, v.hash(c.fold(value)), ident(c.Name), c.result(p, value))
	}
	v.proof = func(c Column) string {
		column := postgres.Ident(c.Name)
		if c.Element == "" {
			return c.matches(p, column)
		}
		return fmt.Sprintf("NOT EXISTS (SELECT FROM pg_catalog.unnest(%s) AS e(value) WHERE e.value IS NOT NULL AND (%s) IS NOT TRUE)",
			column, c.element().matches(p, "e.value"))
	}
	return v
}

func (p *pseudonym) refuses(c postgres.Column) string {
	one := element(c)
	k := kindOf(one)
	if !slices.Contains(p.kinds, k) {
		takes := make([]string, len(p.kinds))
		for i, k := range p.kinds {
			takes[i] = k.String()
		}
		return "takes only " + listing(takes, "and") + ", and arrays of them"
	}
	if n := limit(one); k == text && n > 0 && n < p.longest {
		return fmt.Sprintf("needs %d characters", p.longest)
	}
	return ""
}

// text is a column's value as an SQL text. A collation that is not deterministic allows no regular
// expressions, and one that ignores characters makes unequal texts equal.
func (c Column) text(value string) string {
	if kindOf(c.Column) == bytea {
		return fmt.Sprintf("pg_catalog.encode(%s, 'escape')", value)
	}
	return value + `::pg_catalog.text COLLATE "C"`
}

// fold makes one of values that are equal to the column's type: citext compares without case.
func (c Column) fold(value string) string {
	if c.Base == "citext" {
		return fmt.Sprintf(`pg_catalog.lower(%s)`, value)
	}
	return value
}

// maskedUUID matches UUIDs of version 8, which RFC 9562 leaves to everyone's own use: databases and programs
// make versions 1, 4 and 7.
const maskedUUID = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8"

// matches returns the SQL condition that p's results in the column's type meet, and the empty text.
func (c Column) matches(p *pseudonym, value string) string {
	value = c.text(value)
	if kindOf(c.Column) == uuid {
		return fmt.Sprintf("%s ~ '%s'", value, maskedUUID)
	}
	return fmt.Sprintf("(%s = '' OR %s)", value, p.matches(value, limit(c.Column)))
}

// result is p's result in the column's type.
func (c Column) result(p *pseudonym, value string) string {
	switch kindOf(c.Column) {
	case uuid:
		digits := func(from, n int) string {
			return fmt.Sprintf("pg_catalog.substr(pg_catalog.encode(%s, 'hex'), %d, %d)", hashVar, from, n)
		}
		return fmt.Sprintf("(%s || '8' || %s || '8' || %s)::pg_catalog.uuid", digits(1, 12), digits(13, 3), digits(16, 15))
	case bytea:
		return fmt.Sprintf("pg_catalog.convert_to(%s, 'UTF8')", p.result(value, 0))
	}
	return p.result(value, limit(c.Column))
}

func clearRefuses(c postgres.Column) string {
	if _, _, ok := empty(c, ""); c.NotNull && !ok {
		return "knows no empty value of this type, and the column is NOT NULL"
	}
	return ""
}

func clearAssign(c Column) string {
	value := "NULL"
	if c.NotNull {
		text, _, _ := empty(c.Column, "")
		value = postgres.Literal(text)
	}
	return fmt.Sprintf("NEW.%s := %s;", ident(c.Name), value)
}

func clearProof(c Column) string {
	if !c.NotNull {
		return "false"
	}
	_, condition, _ := empty(c.Column, postgres.Ident(c.Name))
	return condition
}
