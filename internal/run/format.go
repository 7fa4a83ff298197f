package run

import (
	"fmt"
	"math"
	"os"
	"os/user"
	"strconv"
	"time"
)

// Bytes renders a size for people, in decimal units as disks and networks are sold: "1.2 GB".
func Bytes(n int64) string {
	if n > -1000 && n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	return decimal(float64(n))
}

func perSecond(rate float64) string {
	if rate < 999.5 {
		return fmt.Sprintf("%.0f B/s", rate)
	}
	return decimal(rate) + "/s"
}

// decimal keeps two or three digits: "9.9 kB", "24.4 MB", "300 MB".
func decimal(v float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	for math.Abs(v) >= 999.5 && len(units) > 1 {
		v, units = v/1000, units[1:]
	}
	if math.Abs(v) < 99.95 {
		return fmt.Sprintf("%.1f %s", v, units[0])
	}
	return fmt.Sprintf("%.0f %s", v, units[0])
}

// Duration renders a span of time for people: "350 ms", "12.3 s", "4 min 10 s", "2 h 5 min", "3 d 4 h".
func Duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + Duration(-max(d, -math.MaxInt64))
	case d.Round(time.Millisecond) < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d.Round(100*time.Millisecond) < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d.Round(time.Second) < time.Hour:
		return twoUnits(d.Round(time.Second), time.Minute, "min", time.Second, "s")
	case d.Round(time.Minute) < day:
		return twoUnits(d.Round(time.Minute), time.Hour, "h", time.Minute, "min")
	}
	return twoUnits(d.Round(time.Hour), day, "d", time.Hour, "h")
}

func twoUnits(d, big time.Duration, bigName string, small time.Duration, smallName string) string {
	if d%big == 0 {
		return fmt.Sprintf("%d %s", d/big, bigName)
	}
	return fmt.Sprintf("%d %s %d %s", d/big, bigName, d%big/small, smallName)
}

// Age renders how long ago something was: "40 seconds", "5 hours", "3 days". Hours go up to 47, so that
// an age just over a limit of 26 h reads as what it is. A negative age, that of a wrong clock, says so.
func Age(d time.Duration) string {
	switch {
	case d < 0:
		return Age(-max(d, -math.MaxInt64)) + " in the future"
	case d < time.Minute:
		return plural(d/time.Second, "second")
	case d < time.Hour:
		return plural(d/time.Minute, "minute")
	case d < 48*time.Hour:
		return plural(d/time.Hour, "hour")
	}
	return plural(d/(24*time.Hour), "day")
}

func plural(n time.Duration, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// User is user@host of the person running this, for locks and records: whom to ask, not who is allowed.
// Under sudo it is the one who called sudo.
func User() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return userName() + "@" + host
}

func userName() string {
	if name := os.Getenv("SUDO_USER"); name != "" && os.Geteuid() == 0 {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}
