package inventory

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"rehearsal/internal/source"
)

// misreadings are the texts that some version of YAML takes for something else than a string, unless they are quoted.
// Whole numbers in plain digits are among strings wherever nothing can change in them: below 2^53, above which a reader
// that keeps numbers as float64 rounds them.
//
// Sources: the core schema of YAML 1.2.2 (10.3.2) and the types of YAML 1.1 (yaml.org/type).
var misreadings = []struct {
	kind string
	text *regexp.Regexp
}{
	{"nothing", regexp.MustCompile(`^(~|null|Null|NULL)$`)},
	{"true or false", regexp.MustCompile(`^(?i:y|yes|n|no|true|false|on|off)$`)},
	{"a number", regexp.MustCompile(`^[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9_]+)([eE][-+]?[0-9]+)?$`)},
	{"a number", regexp.MustCompile(`^[-+]?(0[xX][0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|\.(?i:inf|nan))$`)},
	{"a number to the base 60", regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$`)},
	{"a date", regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?$`)},
}

// misread returns what YAML may take an unquoted s for; "" for a string that is a string everywhere.
func misread(s string) string {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && strconv.FormatInt(n, 10) == s && n >= 0 && n < 1<<53 {
		return ""
	}
	for _, m := range misreadings {
		if m.text.MatchString(s) {
			return m.kind
		}
	}
	return ""
}

var nameText = regexp.MustCompile(`^[\pL\pN_][\pL\pN_.-]*$`)

// name is what hosts, databases and image stores are called: it ends up in file names, flags and messages.
func name(s string) (string, error) {
	if !nameText.MatchString(s) {
		return "", fmt.Errorf("%q is not a name; a name has letters, digits, and in between them . - _", s)
	}
	return s, nil
}

func anything(s string) (string, error) { return s, nil }

// matching returns a parser of texts like pattern; what says which those are.
func matching(pattern, what string) func(string) (string, error) {
	text := regexp.MustCompile(pattern)
	return func(s string) (string, error) {
		if !text.MatchString(s) {
			return "", fmt.Errorf("%q is not %s", s, what)
		}
		return s, nil
	}
}

var (
	variable         = matching(`^[A-Za-z_][A-Za-z0-9_]*$`, "the name of an environment variable")
	systemIdentifier = matching(`^[0-9]{1,20}$`, "what pg_controldata calls the database system identifier: digits only")
	email            = matching(`^[^\s@<>,;"]+@[^\s@<>,;"]+\.[^\s@<>,;"]+$`, "an e-mail address")
	sshUser          = matching(`^[^\s@:/-][^\s@:/]*$`, "the name of a user")
	remotePath       = matching(`^(/|~/)`, "a full path; begin it with / or ~/")
	hostname         = matching(`^[\pL\pN_][\pL\pN_.-]*$`, "the name of a host")
)

// oneOf returns a parser of a few words.
func oneOf[T ~string](words ...T) func(string) (T, error) {
	return func(s string) (T, error) {
		if slices.Contains(words, T(s)) {
			return T(s), nil
		}
		known := make([]string, len(words))
		for i, w := range words {
			known[i] = string(w)
		}
		return "", fmt.Errorf("%q is none of %s%s", s, strings.Join(known, ", "), source.DidYouMean(s, known))
	}
}

// whole returns a parser of whole numbers in plain digits.
func whole(low, high int) func(string) (int, error) {
	return func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || strconv.Itoa(n) != s || n < low || n > high {
			return 0, fmt.Errorf("%q is not a whole number from %d to %d in plain digits", s, low, high)
		}
		return n, nil
	}
}

var port = whole(1, 65535)

// identifier is a name in PostgreSQL, which silently cuts off what is longer than 63 bytes.
func identifier(s string) (string, error) {
	if len(s) > 63 {
		return "", fmt.Errorf("%q has %d bytes; PostgreSQL's names have 63 at most", s, len(s))
	}
	return s, nil
}

var (
	plainTable  = regexp.MustCompile(`^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$`)
	quotedTable = regexp.MustCompile(`^"((?:[^"]|"")+)"\."((?:[^"]|"")+)"$`)
)

// table is a table as manifests and columns.yaml name it: schema.table or, where one of the two needs quotes in SQL, both
// of them in quotes. Another spelling would be a floor below a table that no backup has.
func table(s string) (string, error) {
	m := quotedTable.FindStringSubmatch(s)
	switch {
	case plainTable.MatchString(s):
		return s, nil
	case m != nil && plainTable.MatchString(m[1]+"."+m[2]):
		return "", fmt.Errorf("%s needs no quotes; write %s.%s", s, m[1], m[2])
	case m != nil:
		return s, nil
	case plainTable.MatchString("public." + s):
		return "", fmt.Errorf("%s has no schema; write public.%s", s, s)
	}
	return "", fmt.Errorf(`%s is no table; write schema.table, or '"Schema"."Table"' with both in quotes as in SQL`, s)
}

// sshAddress is host, host:port, or an alias of ssh_config; an IPv6 address stands in brackets before a port.
func sshAddress(s string) (string, error) {
	if strings.Contains(s, "@") {
		return "", fmt.Errorf("%q holds a user; write that one under the key user", s)
	}
	_, _, err := splitAddress(s)
	return s, err
}

// splitAddress returns host and port, which is 22 where there is none.
func splitAddress(s string) (string, int, error) {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return ip.String(), 22, nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() > 0 {
		return ap.Addr().String(), int(ap.Port()), nil
	}
	host, number, hasPort := strings.Cut(s, ":")
	if _, err := hostname(host); err != nil {
		return "", 0, fmt.Errorf("%q is not host, host:port or an alias of ssh_config", s)
	}
	if !hasPort {
		return host, 22, nil
	}
	n, err := port(number)
	if err != nil {
		return "", 0, fmt.Errorf("the port of %s: %w", s, err)
	}
	return host, n, nil
}

// tcpAddress is where a PostgreSQL server listens; its port is a key of its own.
func tcpAddress(s string) (string, error) {
	if _, err := netip.ParseAddr(s); err == nil {
		return s, nil
	}
	if _, err := hostname(s); err != nil {
		return "", fmt.Errorf("%q is not a host name or an IP address; the port is a key of its own", s)
	}
	return s, nil
}

// hostKey is a line of a .pub file: the type, then base64 of a blob that begins with the length and name of that type
// (RFC 4253, 6.6).
func hostKey(s string) (string, error) {
	fields := strings.Fields(s)
	if len(fields) < 2 {
		return "", errors.New(`write the type and the key, as in "ssh-ed25519 AAAA…"`)
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil || len(blob) < 4 || !strings.HasPrefix(string(blob[4:]), fields[0]) ||
		int(binary.BigEndian.Uint32(blob)) != len(fields[0]) {
		return "", fmt.Errorf("this is not a public key of the type %q; ssh-keyscan prints one after the name of the host", fields[0])
	}
	return s, nil
}

var durationText = regexp.MustCompile(`^(?:([0-9]{1,5})d)?((?:[0-9]+(?:h|m|s))*)$`)

// duration is a positive time in the units d, h, m and s, as in 26h or 1d12h.
func duration(s string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is not a duration; write one as 26h or 7d", s)
	m := durationText.FindStringSubmatch(s)
	if m == nil {
		return 0, wrong
	}
	days, _ := strconv.Atoi("0" + m[1])
	rest := time.Duration(0)
	if m[2] != "" {
		var err error
		if rest, err = time.ParseDuration(m[2]); err != nil {
			return 0, wrong
		}
	}
	d := time.Duration(days)*24*time.Hour + rest // five digits of days are 274 years, of 292 that fit
	if d <= 0 {
		return 0, wrong
	}
	return d, nil
}

var shareText = regexp.MustCompile(`^(?:([0-9]{1,3}(?:\.[0-9]+)?)%|([0-9]{1,9})/([0-9]{1,9}))$`)

// share is a part of a whole as 20% or 1/30. A bare number is refused: 1 may be all, or a hundredth.
func share(s string) (float64, error) {
	m := shareText.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%q is not a share; write one as 20%% or 1/30", s)
	}
	value, of := m[1], "100"
	if value == "" {
		value, of = m[2], m[3]
	}
	v, _ := strconv.ParseFloat(value, 64)
	w, _ := strconv.ParseFloat(of, 64)
	if w == 0 || v > w {
		return 0, fmt.Errorf("%q is not between nothing and all", s)
	}
	return v / w, nil
}

var (
	rateText = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)/s$`)
	units    = map[string]float64{
		"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	}
)

// rate is bytes per second, as in 200MB/s.
func rate(s string) (int64, error) {
	m := rateText.FindStringSubmatch(s)
	if m == nil || units[m[2]] == 0 {
		return 0, fmt.Errorf("%q is not a rate; write one as 200MB/s (B, kB, MB, GB, KiB, MiB, GiB)", s)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	n *= units[m[2]]
	if err != nil || n < 1 || n >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a rate that anything can be read at", s)
	}
	return int64(n), nil
}

// glob is a pattern as path.Match has them, of a name or of a whole path below a folder.
func glob(s string) (string, error) {
	if _, err := path.Match(s, ""); err != nil {
		return "", fmt.Errorf("%q is not a pattern: %w", s, err)
	}
	if s == "" || strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/") {
		return "", fmt.Errorf("%q matches nothing: paths are below the store's folder, without a / at either end", s)
	}
	return s, nil
}
