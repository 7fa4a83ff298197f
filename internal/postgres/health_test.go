package postgres

import (
	"slices"
	"testing"
)

func TestAListOfASettingIsReadAsTheServerReadsIt(t *testing.T) {
	for setting, want := range map[string][]string{
		"":                                 nil,
		"*":                                {"*"},
		"localhost, 10.0.0.1":              {"localhost", "10.0.0.1"},
		"/var/run/postgresql, /tmp":        {"/var/run/postgresql", "/tmp"},
		`"/run/my, sql", /tmp`:             {"/run/my, sql", "/tmp"},
		`"/run/a ""quoted"" one" , "/tmp"`: {`/run/a "quoted" one`, "/tmp"},
	} {
		if got := listed(setting); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", setting, got, want)
		}
	}
}
