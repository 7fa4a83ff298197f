package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"rehearsal/internal/run"
)

// peer is one way to compare two trees.
type peer struct {
	name string
	what string // a sentence for who reads the report
	tool string // the program that it needs; empty: none but ours

	// script is one of POSIX sh as a team would write it. $A is the tree here, on production, $B the one on $HOST, which
	// listens on $PORT; $FILES is how many files both have. It prints a line for each difference.
	script string

	hash, reread string // of ours: what the inventory says
}

// The names of the peers.
const (
	ours     = "images:verify"
	oursFast = "images:verify, xxh128"
	oursBare = "images:verify, reread: 0%"
	reading1 = "walk and read" // what of ours goes through the trees; it begins while the step before still connects
	rsyncAll = "rsync -rlnc --delete"
	rsyncRun = "rsync -rln --delete"
	rclone   = "rclone check"
	hashdeep = "hashdeep"
	walks    = "two bare walks"
)

var peers = []peer{
	{name: ours, what: "with an inventory's defaults: BLAKE3, the structure of every image that is read, a thirtieth of the bytes read again.",
		hash: "blake3", reread: "1/30"},
	{name: oursFast, what: "with `hash: xxh128`, which is what rsync takes.", hash: "xxh128", reread: "1/30"},
	{name: oursBare, what: "reads only what has changed, as the quick check does.", hash: "blake3", reread: "0%"},
	{name: rsyncAll, what: "over ssh: every byte of both sides.", tool: "rsync",
		script: `rsync -rlnci --delete -e "$SSH" "$A/" "$HOST:$B/"`},
	{name: rsyncRun, what: "over ssh: sizes and mtimes alone, rsync's quick check.", tool: "rsync",
		script: `rsync -rlni --delete -e "$SSH" "$A/" "$HOST:$B/"`},
	{name: rclone, what: "over its sftp backend, which runs md5sum on the backup, once for each file.", tool: "rclone",
		script: `rclone check --links --combined "$TMP/combined" "$A" ":sftp,host=127.0.0.1,port=$PORT,user=$USER,key_file=$KEY:$B" || [ $? -eq 1 ] || exit
[ "$(wc -l <"$TMP/combined")" -ge "$FILES" ] || { echo "it compared fewer than $FILES files" >&2; exit 1; }
grep -v '^=' "$TMP/combined" || :`},
	{name: hashdeep, what: "with MD5, a list on each side at once, both sorted and compared.", tool: "hashdeep",
		script: `list() { grep -v '^[%#]' | sort; }
$SSH "$HOST" "cd '$B' && hashdeep -c md5 -r -l ." | list >"$TMP/b" &
cd "$A" && hashdeep -c md5 -r -l . | list >"$TMP/a"
wait
[ "$(wc -l <"$TMP/b")" -ge "$FILES" ] || { echo "the list of the backup is short of $FILES files" >&2; exit 1; }
comm -3 "$TMP/a" "$TMP/b" | cut -d, -f3- | sort -u`},
	{name: walks, what: "look at every file of both trees at once, on two processes as ours are, and compare nothing. The floor.",
		script: `"$WALK" "$A" "$FILES" &
"$WALK" "$B" "$FILES" && wait $!`},
}

// missing tells whether the peer cannot run here.
func (p peer) missing() bool {
	_, err := exec.LookPath(p.tool)
	return p.tool != "" && err != nil
}

// compare runs the peer once.
func (p peer) compare(ctx context.Context, s *site, sides [2]string, far bool, files int) (sample, error) {
	if p.script == "" {
		return s.ours(ctx, p, sides, far)
	}
	host, port := "backup", s.sshds[1].Port
	if far {
		host, port = "far", s.far.Port()
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", p.script)
	cmd.Env = append(s.env[:len(s.env):len(s.env)], "A="+sides[0], "B="+sides[1], "HOST="+host, "PORT="+strconv.Itoa(port), "FILES="+strconv.Itoa(files), "LC_ALL=C")
	out, u, err := finish(cmd)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return sample{seconds: map[string]float64{p.name: u.wall.Seconds()}, client: u.cpu, found: string(out)}, err
}

func (s *site) ours(ctx context.Context, p peer, sides [2]string, far bool) (sample, error) {
	r, u, err := s.verify(ctx, sides, far, p.hash, p.reread)
	if err != nil {
		return sample{}, err
	}
	var found strings.Builder
	for _, d := range append(r.Discrepancies, r.Unchecked...) {
		line, err := json.Marshal(d)
		if err != nil {
			return sample{}, err
		}
		found.Write(append(line, '\n'))
	}
	seconds := map[string]float64{p.name: u.wall.Seconds(), p.name + ", " + reading1: r.Walk}
	return sample{seconds: seconds, client: u.cpu, rss: u.rss, found: found.String()}, nil
}

// programs are the versions that commands print, "missing" where a program is not installed.
func programs(ctx context.Context, commands ...string) (all []program) {
	for _, command := range commands {
		tool := strings.Fields(command)
		out, err := exec.CommandContext(ctx, tool[0], tool[1:]...).CombinedOutput()
		version, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(out)), tool[0]+" "), "\n")
		if err != nil {
			version = "missing"
		}
		all = append(all, program{tool[0], strings.Join(strings.Fields(version), " ")})
	}
	return all
}

// held is an error where a peer found other than expected: what looks at the wrong trees is no contender.
func (p peer) held(s sample, expected int) error {
	if found := strings.Count(s.found, "\n"); found != expected {
		return run.Fail(run.Incomplete, "", "%s found %d differences instead of %d: %s", p.name, found, expected, fmt.Sprintf("%.500s", s.found))
	}
	return nil
}
