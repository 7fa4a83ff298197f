package archive

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"rehearsal/internal/host"
	"rehearsal/internal/inventory"
	"rehearsal/internal/run"
)

// Decision is what becomes of one backup.
type Decision struct {
	Backup Backup
	Keep   bool
	Why    string // a few words for people
}

// neverRemoved is how many of the newest verified backups no policy removes.
const neverRemoved = 3

// Retain decides for every backup whether the policy keeps it, and why; newest first, as List returns them.
//
// The policy keeps the newest verified backup of each of so many days, ISO weeks and months, in UTC; only days, weeks and
// months with a verified one count. Whatever the policy, it keeps
//   - everything, where no verified backup is younger than max_age: what then looks superfluous may be the last good one;
//   - the newest three verified, and whatever is newer than the third: it may yet be restored and looked at;
//   - what backup:create did not make, or may not have made for this database and server;
//   - what was restored well and became suspicious since, by floors or a history that changed: a human decides.
//
// Pruning what is left again removes nothing more.
func Retain(backups []Backup, policy inventory.Backups, now time.Time) []Decision {
	backups = slices.Clone(backups)
	slices.SortFunc(backups, func(x, y Backup) int {
		return cmp.Or(y.createdAt().Compare(x.createdAt()), strings.Compare(y.ID, x.ID))
	})
	decisions := make([]Decision, len(backups))
	fresh, taken := Fresh(backups, policy.MaxAge, now), slots(backups, policy.Keep)
	var verified []*Backup // newer than the one at hand
	for i := range backups {
		b := &backups[i]
		d := Decision{Backup: *b, Keep: true}
		switch {
		case !fresh:
			d.Why = stale(policy.MaxAge)
		case b.Kind != Ours:
			d.Why = "made by others"
		case b.Manifest == nil:
			d.Why = "no manifest says whose it is: look at it"
		case len(verified) < neverRemoved:
			d.Why = protected(b)
		case b.Verdict == Verified:
			d.Keep, d.Why = len(taken[b.ID]) > 0, cmp.Or(strings.Join(taken[b.ID], ", "), "newer ones take its day, week and month")
		default:
			d.Keep, d.Why = leftover(b, verified)
		}
		if counts(b) {
			verified = append(verified, b)
		}
		decisions[i] = d
	}
	return decisions
}

// Fresh says whether any verified backup is younger than maxAge; 0 is no limit. Where none is, nothing may be removed.
func Fresh(backups []Backup, maxAge time.Duration, now time.Time) bool {
	return slices.ContainsFunc(backups, func(b Backup) bool {
		age := now.Sub(b.createdAt())
		return b.Verdict == Verified && age >= -b.clockTolerance() && (maxAge == 0 || age < maxAge)
	})
}

func stale(maxAge time.Duration) string {
	if maxAge == 0 {
		return "none is verified"
	}
	return fmt.Sprintf("no verified one is younger than %s", run.Age(maxAge))
}

// counts says whether a backup takes a slot. Those of others never do: they come and go without us.
func counts(b *Backup) bool { return b.Kind == Ours && b.Manifest != nil && b.Verdict == Verified }

// slots returns the slots that each backup takes, by ID, as in "daily 2026-01-03". backups are sorted, newest first.
func slots(backups []Backup, keep inventory.Keep) map[string][]string {
	taken := map[string][]string{}
	for _, kind := range []struct {
		name  string
		count int
		of    func(time.Time) string
	}{
		{"daily", keep.Daily, func(t time.Time) string { return t.Format("2006-01-02") }},
		{"weekly", keep.Weekly, func(t time.Time) string { year, week := t.ISOWeek(); return fmt.Sprintf("%d-W%02d", year, week) }},
		{"monthly", keep.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
	} {
		seen := map[string]bool{}
		for i := range backups {
			b := &backups[i]
			if !counts(b) || len(seen) == kind.count {
				continue
			}
			if slot := kind.of(b.createdAt().UTC()); !seen[slot] {
				seen[slot] = true
				taken[b.ID] = append(taken[b.ID], kind.name+" "+slot)
			}
		}
	}
	return taken
}

// protected says why a backup that is newer than the third newest verified one, or is it, stays.
func protected(b *Backup) string {
	if b.Verdict == Verified {
		return "one of the newest three verified"
	}
	return string(b.Verdict) + ", and newer than the third newest verified"
}

// leftover decides on a backup without a good rehearsal behind at least three verified ones, which are given, newest first.
//
// backup:create refuses a server that is not the inventory's. So one of another server is as a rule one from before the
// inventory was changed, for a new production, and all there is of the old one.
func leftover(b *Backup, verified []*Backup) (keep bool, why string) {
	newest, m := verified[0].Manifest, b.Manifest
	switch {
	case b.Verdict == Bad && (m.Database != newest.Database || m.Source.SystemIdentifier != newest.Source.SystemIdentifier):
		return true, "of another database or server: remove it by hand, if you must"
	case b.Verdict == Suspicious && !b.RehearsedAt.IsZero():
		return true, "restored once, and suspicious by now: accept it, or remove it by hand"
	case b.Verdict == Bad:
		return false, fmt.Sprintf("bad; %d newer ones are verified", len(verified))
	}
	return false, fmt.Sprintf("%s, never restored; %d newer ones are verified", b.Verdict, len(verified))
}

// Remove removes a backup that backup:create made. It is renamed first, to PATH/.pruned-ID, so that nobody ever meets half
// a backup; what a killed run leaves of that RemovePruned removes.
func (a *Archive) Remove(ctx context.Context, id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("removing backup %q: that is no ID of ours", id)
	}
	script := `cd -- "$1" && rm -rf ".pruned-$2" && mv -- "$2" ".pruned-$2" && rm -rf ".pruned-$2"`
	if err := a.Host.Run(ctx, host.Cmd{Script: script, Args: []string{a.Path(), id}}); err != nil {
		return fmt.Errorf("removing backup %s in %s on %s: %w", id, a.Path(), a.Host.Name(), err)
	}
	return nil
}

// RemovePruned removes what killed runs left of the backups they were removing.
func (a *Archive) RemovePruned(ctx context.Context) error {
	script := `cd -- "$1" && rm -rf .pruned-*`
	if err := a.Host.Run(ctx, host.Cmd{Script: script, Args: []string{a.Path()}}); err != nil {
		return fmt.Errorf("removing what is left of pruned backups in %s on %s: %w", a.Path(), a.Host.Name(), err)
	}
	return nil
}
