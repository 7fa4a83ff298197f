package canary

import (
	"strings"
	"testing"
)

func TestFingerprintsAgreeWhereTheComparedColumnsDo(t *testing.T) {
	columns := []Column{{Name: "id", Base: "int8", Compare: true}, {Name: "v", Base: "text", Masked: true}, {Name: "k", Base: "text", Compare: true},
		{Name: "at", Base: "timestamptz", Compare: true}}
	print := func(data string) Fingerprint {
		w := NewScanner(nil).Table("t", columns)
		feed(w, []byte(data))
		return w.Fingerprint()
	}
	const backup = "1\tAnna\ta\t2024-03-31 03:30:00+02\n2\tWei\t\\N\t\\N\n2\tWei\tc\t2024-01-01 00:00:00.5+00\n\\.\n\n\n"
	s := NewSampler("t", columns)
	feed(s, []byte(backup))
	long := strings.Repeat("long ", maxPiece)
	for data, equal := range map[string]bool{
		"1\tAnna\ta\t2024-03-31 03:30:00+02\n2\tWei\t\\N\t\\N\n2\tWei\tc\t2024-01-01 00:00:00.5+00\n":     true,
		"2\tWei\tc\t2024-01-01 00:00:00.5+00\n2\tWei\t\\N\t\\N\n1\tAnna\ta\t2024-03-31 03:30:00+02\n":     true,
		"1\tmasked\ta\t2024-03-31 01:30:00+00\n2\tx\t\\N\t\\N\n2\t\\N\tc\t2024-01-01 05:30:00.50+05:30\n": true,
		"1\tAnna\ta\t2024-03-31 03:30:00+00\n2\tWei\t\\N\t\\N\n2\tWei\tc\t2024-01-01 00:00:00.5+00\n":     false,
		"1\tAnna\tb\t2024-03-31 03:30:00+02\n2\tWei\t\\N\t\\N\n2\tWei\tc\t2024-01-01 00:00:00.5+00\n":     false,
		"1\tAnna\ta\t2024-03-31 03:30:00+02\n2\tWei\t\t\\N\n2\tWei\tc\t2024-01-01 00:00:00.5+00\n":        false,
		"2\tWei\t\\N\t\\N\n2\tWei\tc\t2024-01-01 00:00:00.5+00\n":                                         false,
		"": false,
	} {
		if got := print(data); equal != (got == s.Fingerprint()) {
			t.Errorf("%q: %v, the backup %v", data, got, s.Fingerprint())
		}
	}
	if print("1\t\t"+long+"x\t\\N\n") == print("1\t\t"+long+"y\t\\N\n") || print("1\t\tx"+long+"\t\\N\n") == print("1\t\ty"+long+"\t\\N\n") || print("1\t\t"+long+"x\t\\N\n") != print("1\tz\t"+long+"x\t\\N\n") {
		t.Error("a long field is not compared as it should be")
	}
	if print("1\t\t23\t\\N\n") == print("12\t\t3\t\\N\n") || print("1\t\ta\t\\N\n1\t\ta\t\\N\n") == print("1\t\tb\t\\N\n1\t\tb\t\\N\n") {
		t.Error("fields run into each other, or rows cancel each other out")
	}
}

func TestATimestamptzIsReadInEveryZone(t *testing.T) {
	for text, want := range map[string]int64{
		"1970-01-01 00:00:00+00": 0, "1970-01-01 01:00:01.000001+01": 1_000_001, "1969-12-31 19:00:00-05": 0, "1970-01-01 05:45:00+05:45": 0,
		"1970-01-01 00:53:28+00:53:28": 0, "2024-02-29 12:00:00.5+00": 1709208000500000,
	} {
		if got, ok := microseconds([]byte(text)); !ok || got != want {
			t.Errorf("%s: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "infinity", "-infinity", `\N`, "0044-03-15 00:00:00+00 BC", "12024-01-01 00:00:00+00", "2024-01-01 00:00:00", "2024-01-01 00:00:00.+", "2024-01-01 00:00:00+0",
		"2024-01-01 00:00:00+00-00", "2024-01-01 00:00:00.5     ", "2024-13-01 00:00:00+00"} {
		if _, ok := microseconds([]byte(text)); ok {
			t.Errorf("%s was read", text)
		}
	}
}
