package run

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheLineOfARunningStepSaysWhatIsKnown(t *testing.T) {
	const mb = 1_000_000
	for _, test := range []struct {
		name string
		s    status
		want string
	}{
		{"nothing but its name", status{name: "count rows", elapsed: 12 * time.Second}, "count rows   12.0 s"},
		{"bytes without a total", status{name: "load", elapsed: time.Second, bytes: 3 * mb, rate: 3 * mb, measured: time.Second},
			"load   1.0 s   3.0 MB   3.0 MB/s"},
		{"everything", status{name: "load tables", elapsed: 5 * time.Second, bytes: 120 * mb, expected: 300 * mb, rate: 24 * mb,
			measured: 5 * time.Second, count: "tables 12/40", detail: "public.orders"},
			"load tables   5.0 s   120 MB of 300 MB (40%)   24.0 MB/s   7.5 s left   tables 12/40   public.orders"},
		{"no time left before two seconds of data", status{name: "load", elapsed: 9 * time.Second, bytes: 1 * mb, expected: 3 * mb,
			rate: 1 * mb, measured: 1900 * time.Millisecond}, "load   9.0 s   1.0 MB of 3.0 MB (33%)   1.0 MB/s"},
		{"a total that nothing came of yet", status{name: "load", elapsed: time.Second, expected: 3 * mb}, "load   1.0 s   0 B of 3.0 MB (0%)"},
		{"a stall", status{name: "load", elapsed: time.Minute, bytes: 1 * mb, expected: 3 * mb, measured: 10 * time.Second},
			"load   1 min   1.0 MB of 3.0 MB (33%)   0 B/s"},
		{"more than the total", status{name: "load", elapsed: time.Second, bytes: 4 * mb, expected: 3 * mb}, "load   1.0 s   4.0 MB"},
		{"all of it", status{name: "load", elapsed: time.Second, bytes: 3 * mb, expected: 3 * mb, rate: 3 * mb, measured: 3 * time.Second},
			"load   1.0 s   3.0 MB of 3.0 MB (100%)   3.0 MB/s"},
		{"hardly a rate", status{name: "load", elapsed: time.Second, bytes: 1, expected: 1 << 62, rate: 1e-9, measured: 10 * time.Second},
			"load   1.0 s   1 B of 4.6 EB (0%)   0 B/s   53376 d left"},
		{"a name that would move the cursor", status{name: "a\nb\x1b[2Jc", elapsed: time.Second}, "a b\uFFFD[2Jc   1.0 s"},
	} {
		if d := cmp.Diff(test.want, test.s.running()); d != "" {
			t.Errorf("%s: %s", test.name, d)
		}
	}
}

func TestTheLineOfAFinishedStepIsAligned(t *testing.T) {
	for _, test := range []struct {
		s    status
		ok   bool
		want string
	}{
		{status{name: "load tables", elapsed: 12300 * time.Millisecond, bytes: 300e6, expected: 1, count: "tables 40/40"}, true,
			"✓ load tables                    12.3 s   300 MB   24.4 MB/s   tables 40/40"},
		{status{name: "swap", elapsed: 4 * time.Millisecond, detail: "shop is new"}, true,
			"✓ swap                             4 ms   shop is new"},
		{status{name: "a name that is longer than its column", elapsed: 250 * time.Second}, false,
			"✗ a name that is longer than its column 4 min 10 s"},
		{status{name: "no time at all", bytes: 5}, true, "✓ no time at all                   0 ms   5 B"},
	} {
		if d := cmp.Diff(test.want, test.s.finished(test.ok)); d != "" {
			t.Error(d)
		}
	}
}

func TestTheRateIsThatOfTheLastTenSecondsOfData(t *testing.T) {
	at := time.Unix(0, 0)
	m := newStep("x").meter
	m[0].at = at
	rate := func(seconds float64, bytes int64) (float64, time.Duration) {
		return m.rate(at.Add(time.Duration(seconds*float64(time.Second))), bytes)
	}
	if r, measured := rate(8, 0); r != 0 || measured != 0 {
		t.Errorf("before the first byte: %v over %v", r, measured)
	}
	if r, measured := rate(9, 500); r != 500 || measured != time.Second {
		t.Errorf("after the first byte: %v over %v", r, measured)
	}
	for s := 10.0; s <= 20; s++ {
		rate(s, 500+int64(s-9)*100)
	}
	if r, measured := rate(21, 1700); r != 100 || measured != 10*time.Second {
		t.Errorf("after ten steady seconds: %v over %v", r, measured)
	}
	if r, measured := rate(51, 1700); r != 0 || measured != 30*time.Second {
		t.Errorf("after half a minute without a sample: %v over %v", r, measured)
	}
	if len(m) != 2 {
		t.Errorf("%d samples are kept", len(m))
	}
}

func TestTablesAreAlignedWhateverTheirCellsHold(t *testing.T) {
	for _, test := range []struct {
		name string
		rows [][]string
		want string
	}{
		{"none", nil, ""},
		{"ragged, with an empty cell", [][]string{{"id", "rows"}, {"shop", "", "x"}, {"a"}}, "id    rows\nshop        x\na\n"},
		{"colour and letters beyond ASCII", [][]string{{"\x1b[32m✓\x1b[0m", "b"}, {"Größe", "c"}}, "\x1b[32m✓\x1b[0m      b\nGröße  c\n"},
		{"line ends and escapes", [][]string{{"a\nb\r", "\x1b]0;c"}}, "a b\uFFFD  \uFFFD]0;c\n"},
	} {
		if d := cmp.Diff(test.want, table(test.rows)); d != "" {
			t.Errorf("%s: %s", test.name, d)
		}
	}
}

func TestTextFromAHostCannotDriveTheTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\tc\x1b[1;31md\x1b[0m": "a\nb\tc\x1b[1;31md\x1b[0m",
		"a\rb\bc\x7f":               "a\uFFFDb\uFFFDc\uFFFD",
		"\x1b[2J\x1b]0;x\a":         "\uFFFD[2J\uFFFD]0;x\uFFFD",
		"\u202eevil\u200b \x9b2J":   "\uFFFDevil\uFFFD \uFFFD2J",
		"naïve – 日本\u00a0%":         "naïve – 日本\u00a0%",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestALineIsCutToTheWidth(t *testing.T) {
	for _, test := range []struct {
		s     string
		width int
		want  string
	}{{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöüß", 3, "äö…"}, {"\x1b[31mabcd\x1b[0m", 4, "abcd"}, {"abc", 0, "…"}, {"", 0, ""}} {
		if got := cut(test.s, test.width); got != test.want {
			t.Errorf("cut(%q, %d) = %q, want %q", test.s, test.width, got, test.want)
		}
	}
}
