package mask

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"rehearsal/internal/run"
)

func TestAKeyThatIsSetButEmptyIsRefused(t *testing.T) {
	for _, secret := range []string{"", "  \n"} {
		t.Setenv(KeyVariable, secret)
		if _, err := LoadKey(); run.CodeOf(err) != run.Usage || run.HintOf(err) == "" {
			t.Errorf("%q: %v", secret, err)
		}
	}
}

func TestWithoutAKeyEveryRunHasItsOwn(t *testing.T) {
	t.Setenv(KeyVariable, "") // so that it is restored
	os.Unsetenv(KeyVariable)
	one, err1 := LoadKey()
	two, err2 := LoadKey()
	if err1 != nil || err2 != nil || one.Email("a@b") == two.Email("a@b") {
		t.Errorf("two random keys agree: %v %v", err1, err2)
	}
}

func TestTheEnvironmentsKeyIsStable(t *testing.T) {
	t.Setenv(KeyVariable, "sesame")
	one, _ := LoadKey()
	two, _ := LoadKey()
	t.Setenv(KeyVariable, "open")
	other, _ := LoadKey()
	if one.Email("a@b") != two.Email("a@b") || one.Email("a@b") == other.Email("a@b") {
		t.Error("the pseudonym is not the key's")
	}
}

func TestAKeyIsNeverPrinted(t *testing.T) {
	key := Key{[]byte("sesame")}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(format, key); strings.Contains(got, "sesame") || strings.Contains(got, "736573") || strings.Contains(got, "115 101") {
			t.Errorf("%s prints %s", format, got)
		}
	}
}

func TestTheZeroKeyMasksNothing(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a key that nobody made gave settings")
		}
	}()
	Key{}.Settings()
}
