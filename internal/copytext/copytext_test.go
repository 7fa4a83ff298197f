package copytext

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestEscapesAreTakenOff(t *testing.T) {
	for field, want := range map[string]string{
		`a\tb\\c\`: "a\tb\\c\\", `\b\f\n\r\t\v\x`: "\b\f\n\r\t\vx", `\\n`: `\n`, ``: ``, `\u0041`: `u0041`,
	} {
		if got := string(Unescape(nil, []byte(field))); got != want {
			t.Errorf("%s: %q", field, got)
		}
	}
}

func TestWhatIsEscapedIsUnescapedToTheSame(t *testing.T) {
	for _, value := range []string{"", "plain", "\b\f\n\r\t\v\\", "a\tb\\", "\\", "ü\n", "\\N", "\\."} {
		escaped := Escape(nil, []byte(value))
		if bytes.ContainsAny(escaped, "\t\n\r") || string(Unescape(nil, escaped)) != value {
			t.Errorf("%q: %q", value, escaped)
		}
	}
}

func TestFieldsAreTheSameHoweverTheChunksAreCut(t *testing.T) {
	long := strings.Repeat("x", MaxPiece+3)
	data := "a\t\tb\n\n" + long + "\tc\nlast"
	for _, size := range []int{1, 2, 7, MaxPiece - 1, len(data)} {
		var got, seen strings.Builder
		largest := 0
		into := func(b *strings.Builder) func(piece []byte, end byte) {
			return func(piece []byte, end byte) {
				largest = max(largest, len(piece))
				b.Write(piece)
				if end != 0 {
					b.WriteByte(end)
				}
			}
		}
		s := Splitter{Emit: into(&got)}
		s.Also(into(&seen))
		for from := 0; from < len(data); from += size {
			s.Write([]byte(data[from:min(from+size, len(data))]))
		}
		s.Close()
		if got.String() != data+"\n" || seen.String() != got.String() || largest > MaxPiece {
			t.Errorf("chunks of %d: %s and %s, pieces of %d", size, fmt.Sprintf("%.80q", got.String()), fmt.Sprintf("%.80q", seen.String()), largest)
		}
	}
}
