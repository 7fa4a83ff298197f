package canary

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/zeebo/xxh3"
)

// Fingerprint stands for the compared columns of all rows of a table, in whatever order they come. Those of a Sampler and
// a Stream over the same columns in the same order are equal (==) where the rows are. Its hashes are seeded anew in every
// process, and in a search that a Sieve began by the Sieve's: it means nothing to others.
type Fingerprint struct {
	Rows  int64     `json:"rows"`
	Lanes [2]uint64 `json:"lanes"` // sums of the halves of the rows' hashes: that two different tables agree has a chance of 2^-128
}

func (f Fingerprint) String() string {
	return fmt.Sprintf("%d rows, %016x%016x", f.Rows, f.Lanes[0], f.Lanes[1])
}

// seed is that of this process.
var seed = rand.Uint64()

// hasher takes the fingerprint of a table, field by field.
type hasher struct {
	seed  uint64
	sum   Fingerprint
	row   []byte       // of the row so far, what is not yet in long
	long  *xxh3.Hasher // of a row that is too long to be held
	begun bool         // long has some of this row
}

// add takes a piece of a field, and with last its end. Fields stand as COPY writes them, so a tab separates them
// unambiguously, but for timestamptz: COPY writes it in the session's time zone, which a dump does not name.
func (h *hasher) add(piece []byte, last bool, base string) {
	if moment, ok := int64(0), false; base == "timestamptz" && last {
		if moment, ok = microseconds(piece); ok {
			h.row = append(h.row, 0) // no text has this byte
			for shift := 0; shift < 64; shift += 8 {
				h.row = append(h.row, byte(moment>>shift))
			}
			h.row = append(h.row, '\t')
			return
		}
	}
	h.row = append(h.row, piece...)
	if last {
		h.row = append(h.row, '\t')
	}
	if len(h.row) >= maxPiece {
		h.flush()
	}
}

func (h *hasher) flush() {
	switch {
	case h.long == nil:
		h.long = xxh3.NewSeed(h.seed)
	case !h.begun:
		h.long.Reset()
	}
	_, _ = h.long.Write(h.row)
	h.begun, h.row = true, h.row[:0]
}

func (h *hasher) endRow() {
	var row xxh3.Uint128
	if h.begun {
		h.flush()
		h.begun = false
		row = h.long.Sum128()
	} else {
		row = xxh3.Hash128Seed(h.row, h.seed)
		h.row = h.row[:0]
	}
	h.sum.Rows++
	h.sum.Lanes[0] += row.Hi
	h.sum.Lanes[1] += row.Lo
}

// microseconds reads a timestamptz in the ISO style that pg_dump sets: 2006-01-02 15:04:05.999999+01:30. Years beyond 9999
// or before Christ, and infinity, are not ok.
func microseconds(text []byte) (moment int64, ok bool) {
	if len(text) < len("2006-01-02 15:04:05+00") || text[4] != '-' || text[7] != '-' || text[10] != ' ' || text[13] != ':' || text[16] != ':' {
		return 0, false
	}
	year, month, day := number(text[:4]), number(text[5:7]), number(text[8:10])
	hour, minute, second := number(text[11:13]), number(text[14:16]), number(text[17:19])
	if year < 0 || month < 1 || month > 12 || day < 0 || hour < 0 || minute < 0 || second < 0 {
		return 0, false
	}
	fraction, rest := fractionOf(text[19:])
	offset, ok := offsetOf(rest)
	if !ok {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC).Unix() - offset
	return t*1e6 + fraction, true
}

// fractionOf reads .999999 as microseconds, and nothing as none.
func fractionOf(text []byte) (micro int64, rest []byte) {
	if text[0] != '.' {
		return 0, text
	}
	digits := 1
	for scale := int64(1e5); digits < len(text) && isDigit(text[digits]); digits++ {
		micro += int64(text[digits]-'0') * scale
		scale /= 10
	}
	return micro, text[digits:]
}

// offsetOf reads +01, +01:30 or +01:30:45 as seconds.
func offsetOf(text []byte) (seconds int64, ok bool) {
	if len(text)%3 != 0 || len(text) == 0 || len(text) > 9 || text[0] != '+' && text[0] != '-' {
		return 0, false
	}
	unit := int64(3600)
	for i := 0; i < len(text); i += 3 {
		n := number(text[i+1 : i+3])
		if n < 0 || i > 0 && text[i] != ':' {
			return 0, false
		}
		seconds += int64(n) * unit
		unit /= 60
	}
	if text[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

// number reads digits; -1 where others are among them.
func number(digits []byte) (n int) {
	for _, c := range digits {
		if !isDigit(c) {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
