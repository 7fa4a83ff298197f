package mask

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestInventedNamesFitAndDiffer(t *testing.T) {
	for longest, names := range map[int][]string{longestGiven: givenNames, longestFamily: familyNames} {
		if len(names) != 200 || len(slices.Compact(slices.Sorted(slices.Values(names)))) != 200 {
			t.Errorf("want 200 different names, got %d", len(names))
		}
		for _, n := range names {
			if len(n) > longest || !regexp.MustCompile(`^[A-Z][a-z]+$`).MatchString(n) {
				t.Errorf("%s does not fit", n)
			}
		}
	}
}

func TestNoInventedNameBeginsAsAnEverydayOne(t *testing.T) {
	everyday := strings.Fields(`Anna Maria Thomas Peter John Mary Jose Michael Sarah David Emma Paul Laura Marco Giulia Pedro Ivan
		Olga Ahmed Fatima Noah Lucas Liam Olivia Sofia Mohamed James Robert Jennifer Linda Elena Luca Jean Pierre Marie Hans Ingrid
		Smith Jones Müller Muller Garcia Martin Brown Taylor Wilson Rossi Silva Petrov Ivanov Khan Chen Tanaka Patel Singh Fischer
		Weber Meyer Wagner Becker Hoffmann Koch Richter Klein Wolf Schwarz Braun Lange Lee Wang Kim Nguyen Jackson White Harris
		Raven Hazel Willow Jasper Heather Amber Holly Heron Frost Moss Rook Field Wood Hill Ford Marsh Ridge Ward
		Fallowfield Osterfield Quilian`)
	for _, n := range slices.Concat(givenNames, familyNames) {
		for _, e := range everyday {
			if strings.HasPrefix(n, e) {
				t.Errorf("%s begins as %s", n, e)
			}
		}
	}
}

func TestOpeningsAreOfOneLength(t *testing.T) {
	for _, o := range openings {
		if len(o) != openingLength || strings.TrimSpace(o) != o {
			t.Errorf("%q has %d characters", o, len(o))
		}
	}
}
