package restore

import "testing"

func TestRowsEndWhereTheirEndIs(t *testing.T) {
	for rows, want := range map[string]string{
		"":                               "\\.\n",
		"\\.\n\n\n":                      "\\.\n",
		"1\ta\n2\tb\n\\.\n\n\n":          "1\ta\n2\tb\n\\.\n",
		"1\ta\n":                         "1\ta\n\\.\n",
		"1\ta":                           "1\ta\n\\.\n",
		"1\ta\n\\.\nDROP TABLE t;\n":     "1\ta\n\\.\n",
		"\\.\nDROP TABLE t;\n\\.\n":      "\\.\n",
		"1\t\\\\.\n2\tx\\.\n\\.x\n\\.\n": "1\t\\\\.\n2\tx\\.\n\\.x\n\\.\n",
	} {
		if got := string(ended([]byte(rows))); got != want {
			t.Errorf("%q: %q, want %q", rows, got, want)
		}
	}
}

func TestTheTableThatPsqlIsAtIsKnown(t *testing.T) {
	told := &turns{tables: []stream{{what: "a"}, {what: "b"}}}
	for _, said := range []struct{ text, at string }{
		{" set_config \n", "a"}, {turn, "a"}, {"\n", "a"}, {turn[:5], "a"}, {turn[5:] + "\n", "b"}, {turn + "\n", "b"},
	} {
		if _, err := told.Write([]byte(said.text)); err != nil {
			t.Fatal(err)
		}
		if got := told.current().what; got != said.at {
			t.Errorf("after %q: %s, want %s", said.text, got, said.at)
		}
	}
	if told.n != 3 {
		t.Errorf("%d turns", told.n)
	}
}
