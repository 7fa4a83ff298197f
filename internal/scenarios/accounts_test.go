package scenarios

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func TestOnlyTheListedPeopleCanSignInOnStagingWithStagingsOwnPassword(t *testing.T) {
	dir := take(t)
	c := mage(dir, "staging:reset")
	c.Env = append(c.Env, "REHEARSAL_STAFF_PASSWORD=only for staging")
	if out, code := output(c); code != 0 || strings.Contains(out, "only for staging") {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	hashes := strings.Split(query(t, shared.Staging, "shop", "SELECT DISTINCT password_hash FROM staff WHERE is_admin"), "\n")
	if len(hashes) != 1 || bcrypt.CompareHashAndPassword([]byte(hashes[0]), []byte("only for staging")) != nil {
		t.Errorf("the admins' hashes are %q", hashes)
	}
	for what, count := range map[string]string{
		"admins":                        "SELECT count(*) - 3 FROM staff WHERE is_admin",
		"admins whom nobody listed":     "SELECT count(*) FROM staff WHERE is_admin AND email LIKE '%.invalid'",
		"others with a password":        "SELECT count(*) FROM staff WHERE NOT is_admin AND password_hash <> ''",
		"sessions":                      "SELECT count(*) FROM sessions",
		"reset tokens":                  "SELECT count(*) FROM customers WHERE reset_token IS NOT NULL",
		"tokens that production knows":  "SELECT count(*) FROM customers WHERE api_token IS NOT NULL AND api_token NOT LIKE 'masked-%'",
		"passwords of production":       "SELECT count(*) FROM staff WHERE password_hash LIKE '$2b$12$%'",
		"names of listed people masked": "SELECT 3 - count(*) FROM staff WHERE is_admin AND name IN ('Jana Nováková', 'Seán O''Brien', 'Mei Tanaka')",
	} {
		if got := query(t, shared.Staging, "shop", count); got != "0" {
			t.Errorf("%s: %s", what, got)
		}
	}
	for password, want := range map[string]string{"short": "shorter than 12 bytes", strings.Repeat("x", 73): "longer than 72 bytes"} {
		c := mage(dir, "staging:reset")
		c.Env = append(c.Env, "REHEARSAL_STAFF_PASSWORD="+password)
		if out, code := output(c); code != 2 || !strings.Contains(out, want) {
			t.Errorf("%q: exit code %d\n%s", password, code, out)
		}
	}
}
