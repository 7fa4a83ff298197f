package source

import "testing"

func TestTheCaretStandsBelowItsColumn(t *testing.T) {
	for _, c := range []struct {
		line   string
		column int
		want   string
	}{{"abc", 1, "^"}, {"abc", 3, "  ^"}, {"\tä b", 4, "\t  ^"}, {"ab", 9, "  ^"}, {"", 1, "^"}, {"ab", 0, "^"}} {
		if got := Caret(c.line, c.column); got != c.want {
			t.Errorf("Caret(%q, %d) = %q, want %q", c.line, c.column, got, c.want)
		}
	}
}

func TestOnlyAWordThatIsNearIsSuggested(t *testing.T) {
	known := []string{"address", "user", "role", "host_key", "ID"}
	for word, want := range map[string]string{"adress": "address", "usr": "user", "host": "host_key", "roel": "role", "zebra": "", "x": "", "": "", "id": ""} {
		if want != "" {
			want = `; did you mean "` + want + `"?`
		}
		if got := DidYouMean(word, known); got != want {
			t.Errorf("DidYouMean(%q) = %q, want %q", word, got, want)
		}
	}
}
