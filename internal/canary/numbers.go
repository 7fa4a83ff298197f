package canary

import "strings"

// isCard tells whether the token text[start:end] is a payment card's number, or the first four digits of one in groups:
// issuer and length fit, the check digit of ISO/IEC 7812-1 is right (Luhn), and it is not a part of something longer such
// as a UUID or a decimal number.
func isCard(text []byte, start, end int) bool {
	return isDigit(text[start]) && alone(text, start, "-.+_,") &&
		grouped(text, start, end, isDigit, func(digits []byte) bool { return issued(digits) && luhn(digits) })
}

// isIBAN tells whether the token text[start:end] is an IBAN, or the first group of one. Only capitals count: of the hex
// tokens that masking makes, one in 60,000 is an IBAN in small letters.
func isIBAN(text []byte, start, end int) bool {
	length := ibans[string(text[start:start+2])]
	return length > 0 && alone(text, start, "-_") &&
		grouped(text, start, end, isIBANs, func(iban []byte) bool {
			return len(iban) == length && isDigit(iban[2]) && isDigit(iban[3]) && mod97(iban) == 1
		})
}

func isIBANs(c byte) bool { return isDigit(c) || c >= 'A' && c <= 'Z' }

// alone tells whether no byte of glue, and no group of digits, stands right before start.
func alone(text []byte, start int, glue string) bool {
	if start == 0 {
		return true
	}
	before := text[start-1]
	return strings.IndexByte(glue, before) < 0 && (before != ' ' || start < 2 || !isDigit(text[start-2]))
}

// ends tells whether neither a word nor a number goes on at end.
func ends(text []byte, end int) bool {
	if end == len(text) {
		return true
	}
	c := text[end]
	return fold[c] == 0 && c != '-' && c != '_' && (c != '.' || end+1 == len(text) || !isDigit(text[end+1]))
}

// maxNumber is the length of the longest number there is: IBANs have up to 34 characters.
const maxNumber = 34

// grouped tells whether the token is valid, alone or with the groups that follow it, each behind one blank or each behind
// one dash: all of four but the last, or 4-6-x as on cards of 14 and 15 digits.
func grouped(text []byte, start, end int, is func(byte) bool, valid func(number []byte) bool) bool {
	var space [maxNumber]byte
	number, separator := space[:0], byte(0)
	for len(number)+end-start <= maxNumber {
		for _, c := range text[start:end] {
			if !is(c) {
				return false
			}
		}
		number = append(number, text[start:end]...)
		if len(number) >= 13 && ends(text, end) && valid(number) {
			return true
		}
		goesOn := end-start == 4 || end-start == 6 && len(number) == 10
		if !goesOn || end == len(text) || text[end] != ' ' && text[end] != '-' || separator != 0 && separator != text[end] {
			return false
		}
		separator = text[end]
		start = end + 1
		for end = start; end < len(text) && fold[text[end]] != 0; {
			end++
		}
		if end-start > 6 {
			return false
		}
	}
	return false
}

// issuers are the beginnings of card numbers and how long those are.
var issuers = []struct{ from, to, digits, shortest, longest int }{
	{4, 4, 1, 13, 13}, {4, 4, 1, 16, 16}, // Visa
	{51, 55, 2, 16, 16}, {2221, 2720, 4, 16, 16}, // Mastercard
	{34, 34, 2, 15, 15}, {37, 37, 2, 15, 15}, // American Express
	{300, 305, 3, 14, 14}, {36, 36, 2, 14, 14}, {38, 39, 2, 14, 14}, // Diners Club
	{3528, 3589, 4, 16, 16},                        // JCB
	{6011, 6011, 4, 16, 16}, {644, 659, 3, 16, 16}, // Discover
	{62, 62, 2, 16, 19},                      // UnionPay
	{50, 50, 2, 13, 19}, {56, 58, 2, 13, 19}, // Maestro
	{6304, 6304, 4, 13, 19}, {6759, 6763, 4, 13, 19}, {67, 67, 2, 13, 16},
}

func issued(digits []byte) bool {
	for _, i := range issuers {
		if n := len(digits); n >= i.shortest && n <= i.longest {
			if prefix := number(digits[:i.digits]); prefix >= i.from && prefix <= i.to {
				return true
			}
		}
	}
	return false
}

func luhn(digits []byte) bool {
	sum := 0
	for i := range digits {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// ibans is the length of the IBANs of each country (SWIFT's registry, ISO 13616).
var ibans = map[string]int{
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28,
	"CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
	"FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28,
	"IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
	"LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
	"NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24,
	"SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26,
	"UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}

// mod97 is the number that an IBAN stands for, modulo 97 (ISO 7064): its first four characters at the end, A as 10.
func mod97(iban []byte) (rest int) {
	for i := range iban {
		c := iban[(i+4)%len(iban)]
		if isDigit(c) {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	return rest
}
