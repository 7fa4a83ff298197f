package canary

import (
	"fmt"
	"testing"
)

func TestAddressesAreFound(t *testing.T) {
	for field, want := range map[string]bool{
		"anna@example.com": true, "Anna <ANNA.M+x@Mail.Example.CO.UK>": true, "mailto:anna@example.com?subject=x": true, "x,anna_@example.org.": true,
		"{a,anna@example.com}": true, `{"to": "anna@example.com"}`: true, "anna@xn--mller-kva.example": true, "änna@müller.example": true,
		`'anna@example.com':1`: true, `x\nanna@example.com`: true, `{"a": "anna\\u0040example.com"}`: true, "a@b.co": true,
		"“anna@example.com”": true, "anna@example.com.invalid.com": true, "o'brien@example.com": true, "https://u:p@example.com/": true,
		"anna@example.com\u00a0x": true, "=anna@example.com": true, "git.anna@example.com": true, "anna@example.notinvalid": true,
		"anna@example.invalidé": true, "anna@masked.invalid, bob@example.com": true,

		"anna@masked.invalid": false, "ANNA@x.INVALID.": false, "user@host": false, "user@localhost:5432": false, "a @ b": false, "a@ b.com": false, "tags @> '{a.b}'": false,
		"@anna.example.com": false, "https://medium.example/@anna.bsky": false, "logo@2x.png": false, "user@1000.service": false, "lodash@4.17.21": false,
		`^[^@]+@[^@]+\\.[^@]+$`: false, `[a-z0-9._%+-]+@[a-z0-9.-]+\\.[a-z]{2,}`: false, `\\w+@\\w+\\.com`: false, `\\w+@example.com`: false, "%@%": false, "%@example.com": false,
		"git@github.com:org/repo.git": false, "anna@example..com": false, "anna@-example.com": false, "anna@example.c": false, "anna@192.168.1.17": false,
		"@": false, "@@@@@@": false, "a@": false, "anna@.": false, "@.invalid@": false,
	} {
		got := scanned(NewScanner(nil), text("v"), field)
		if want != (len(got) == 1 && got[0].Kind == Email) {
			t.Errorf("%s: %v", field, got)
		}
	}
}

func TestWhatAnEscapeLeavesBeforeAnAllowedAddressIsNoPartOfIt(t *testing.T) {
	for _, field := range []string{`x\nada@example.com`, `{"a": "\\nada@example.com\\u003e"}`, `{"a": "\\u003cada@example.com\\u003e"}`, "“ada@example.com”", "-ada@example.com", "x“ada@example.com"} {
		if got := scanned(NewScanner(nil, "ada@example.com"), text("v"), field); len(got) != 0 {
			t.Errorf("%s: %v", field, got)
		}
	}
	if got := scanned(NewScanner(nil, "ada@example.com"), text("v"), "nada@example.com"); len(got) != 1 {
		t.Error(got)
	}
}

func TestAnIBANHasTheLengthOfItsCountry(t *testing.T) {
	for check := 2; check < 99; check++ {
		iban := fmt.Sprintf("DE%02d370400440532013", check) // three short
		if got := scanned(NewScanner(nil), masked("v"), iban); len(got) != 0 {
			t.Error(iban, got)
		}
	}
}

func TestCardsAndIBANsAreFoundInMaskedColumns(t *testing.T) {
	for field, want := range map[string]Kind{
		"4111111111111111": Card, "card 4111 1111 1111 1111": Card, "4111-1111-1111-1111": Card, "4111 1111 1111 1111 12/26": Card, "x:5555555555554444.": Card,
		"378282246310005": Card, "3782 822463 10005": Card, "6011111111111117": Card, "30569309025904": Card, "3056 930902 5904": Card, "2223003122003222": Card, "4222222222222": Card,
		`{"n": "4111111111111111"}`: Card, "(4111111111111111,x)": Card,
		"4111111111111112": "", "4111 1111 1111 1112": "", "1111111111111117": "", "41111111111111111111": "", "4111 1111-1111 1111": "", "4111  1111 1111 1111": "",
		"0.4111111111111111": "", "4111111111111111.5": "", "a4111111111111111": "", "41111111-1111-1111-1111-111111111111": "", "00000000-4111-1111-1111-111111111111": "",
		"masked-4111111111111111": "", "+4111111111111111": "", "99 4111 1111 1111 1111": "", "4111 111 1111 1111 1": "", "2024 2025 2026": "", "20240101123045123": "",

		"DE89370400440532013000": IBAN, "DE89 3704 0044 0532 0130 00": IBAN, "IBAN GB29 NWBK 6016 1331 9268 19, thanks": IBAN, "NO9386011117947": IBAN,
		"BE68 5390 0754 7034": IBAN, "BE68 5390 0754 7034 KRED": IBAN, "MT84MALT011000012345MTLCAST001S": IBAN, `{"iban": "FR1420041010050500013M02606"}`: IBAN,
		"DE88370400440532013000": "", "DE8937040044053201300": "", "XX89370400440532013000": "", "de89370400440532013000": "", "ABDE89370400440532013000": "",
		"DE89-370400440532013000": "", "-DE89370400440532013000": "", "DE89370400440532013000-1": "", "DE89": "", "DE89 ": "", "AD12": "",
	} {
		column := masked("v")
		got := scanned(NewScanner(nil), column, field)
		if want == "" && len(got) != 0 || want != "" && (len(got) != 1 || got[0].Kind != want) {
			t.Errorf("%s: got %v, want %q", field, got, want)
		}
		if got := scanned(NewScanner(nil), text("v"), field); len(got) != 0 {
			t.Errorf("in a kept column, %s: %v", field, got)
		}
	}
}
