package run

import (
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestBytesReadInDecimalUnits(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 999: "999 B", 1000: "1.0 kB", 1234: "1.2 kB", 99_949: "99.9 kB", 99_950: "100 kB",
		999_499: "999 kB", 999_500: "1.0 MB", 24_400_000: "24.4 MB", 300_000_000: "300 MB", 1_200_000_000: "1.2 GB",
		5_000_000_000_000: "5.0 TB", math.MaxInt64: "9.2 EB", -1: "-1 B", -1_200_000_000: "-1.2 GB", math.MinInt64: "-9.2 EB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDurationsReadInAtMostTwoUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", 400 * time.Microsecond: "0 ms", 350 * time.Millisecond: "350 ms",
		999_400 * time.Microsecond: "999 ms", 999_600 * time.Microsecond: "1.0 s",
		12_340 * time.Millisecond: "12.3 s", 59_940 * time.Millisecond: "59.9 s", 59_960 * time.Millisecond: "1 min",
		time.Minute: "1 min", 250 * time.Second: "4 min 10 s", 3599_700 * time.Millisecond: "1 h",
		125 * time.Minute: "2 h 5 min", 24 * time.Hour: "1 d", 76 * time.Hour: "3 d 4 h",
		-time.Second: "-1.0 s", math.MinInt64: "-106751 d 23 h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestAgesReadInOneUnit(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 seconds", 1500 * time.Millisecond: "1 second", 40 * time.Second: "40 seconds", time.Minute: "1 minute",
		59 * time.Minute: "59 minutes", time.Hour: "1 hour", 5*time.Hour + 59*time.Minute: "5 hours",
		26 * time.Hour: "26 hours", 47 * time.Hour: "47 hours", 48 * time.Hour: "2 days", 42 * 24 * time.Hour: "42 days",
		-5 * time.Minute: "5 minutes in the future", math.MinInt64: "106751 days in the future",
	} {
		if got := Age(d); got != want {
			t.Errorf("Age(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestUserIsSomebodySomewhere(t *testing.T) {
	t.Setenv("SUDO_USER", "")
	if got := User(); !regexp.MustCompile(`^[^@]+@[^@]+$`).MatchString(got) {
		t.Error(got)
	}
}

func TestUserIsTheOneWhoCalledSudoButOnlyRootIsUnderSudo(t *testing.T) {
	t.Setenv("SUDO_USER", "ana")
	if got := User(); strings.HasPrefix(got, "ana@") != (os.Geteuid() == 0) {
		t.Error(got)
	}
}
