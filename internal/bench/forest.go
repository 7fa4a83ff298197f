package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// forest is a tree of images that production has and the backup a true copy of.
type forest struct {
	name     string
	min, max int // bytes of a file
}

// groups is how many folders with folders of images a forest has. They lie in 4 folders of 5 folders, so that there is a
// tree of a quarter, of a twentieth and of a four-hundredth of all files in it.
const groups = 400

// perFolder is how many images a folder has.
const perFolder = 50

// path is where the image number i of n is, relative to the forest.
func path(i, n int) string {
	group := i * groups / n
	first := (group*n + groups - 1) / groups
	return fmt.Sprintf("%d/%d/%d/%02d/image-%07d.jpg", group/100, group/20%5, group%20, (i-first)/perFolder, i)
}

// filesIn is how many of n images are in the first of share like folders: of the 4, the 20 or the groups, or all in one.
func filesIn(n, share int) int { return (n + share - 1) / share }

// taken is when the images were made: so long ago that a difference cannot be one that waits for the next backup.
var taken = time.Date(2024, 3, 1, 9, 0, 0, 0, time.UTC)

// plant makes the two trees, of n files each: the same bytes and times.
func (f forest) plant(ctx context.Context, sides [2]string, n int) error {
	head, noise, err := picture()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	const workers = 4
	for w := range workers {
		g.Go(func() error {
			for i := w; i < n && ctx.Err() == nil; i += workers {
				data := f.draw(head, noise, i)
				for _, root := range sides {
					if err := write(filepath.Join(root, path(i, n)), data, taken.Add(time.Duration(i)*time.Minute)); err != nil {
						return err
					}
				}
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	syscall.Sync() // what is still to be written would be written while somebody is measured
	return nil
}

// picture is the head of a JPEG file up to its scan, and what a scan may hold: noise in which no 0xFF stands alone.
func picture() (head, noise []byte, err error) {
	var out bytes.Buffer
	if err := jpeg.Encode(&out, image.NewGray(image.Rect(0, 0, 640, 480)), nil); err != nil {
		return nil, nil, err
	}
	scan := bytes.Index(out.Bytes(), []byte{0xFF, 0xDA}) // followed by the length of its header
	head = out.Bytes()[:scan+2+int(binary.BigEndian.Uint16(out.Bytes()[scan+2:]))]
	random := rand.NewChaCha8([32]byte{})
	noise = make([]byte, 8<<20)
	_, _ = random.Read(noise) // never fails
	for i := range len(noise) - 1 {
		if noise[i] == 0xFF {
			noise[i+1] = 0
		}
	}
	return head, noise, nil
}

// draw is the image number i: as large as chance wants it, and like no other.
func (f forest) draw(head, noise []byte, i int) []byte {
	random := rand.New(rand.NewPCG(uint64(i), uint64(f.max)))
	size := f.min + random.IntN(f.max-f.min)
	at := random.IntN(len(noise) - size)
	data := append(bytes.Clone(head), fmt.Sprintf("%016d", i)...)
	data = append(data, noise[at:at+size-len(data)-2]...)
	return append(data, 0xFF, 0xD9)
}

func write(name string, data []byte, at time.Time) error {
	err := os.WriteFile(name, data, 0o644)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(name), 0o755); err == nil {
			err = os.WriteFile(name, data, 0o644)
		}
	}
	return errors.Join(err, os.Chtimes(name, at, at))
}

// fault is what can be the matter with a copy. Each is planted in files of their own, with something odd in their names.
type fault struct {
	what  string // empty: nothing is the matter
	times int
	odd   string
	plant func(original, twin string) error
}

var faults = []fault{
	{"missing", 3, "", func(_, twin string) error { return os.Remove(twin) }},
	{"extra", 3, "", func(original, _ string) error { return os.Remove(original) }},
	{"cut short", 3, "", rewrite(func(data []byte) []byte { return data[:len(data)*2/3] })},
	{"a bit flipped, size and mtime as before", 4, "", rewrite(flip)},
	{"rewritten, with a new mtime", 2, "", func(original, twin string) error {
		return errors.Join(rewrite(flip)(original, twin), os.Chtimes(twin, taken, taken.Add(-time.Hour)))
	}},
	{"emptied", 1, "", rewrite(func([]byte) []byte { return nil })},
	{"zeros at the end, size and mtime as before", 1, "", rewrite(func(data []byte) []byte {
		clear(data[len(data)/2:])
		return data
	})},
	{"a bit flipped, a line feed in the name", 1, "\n", rewrite(flip)},
	{"a bit flipped, invalid UTF-8 in the name", 1, "\xff", rewrite(flip)},
	{"a link that leads elsewhere", 1, "", func(original, twin string) error {
		return errors.Join(link("here", original), link("there", twin))
	}},
	{"", 1, "\n", func(string, string) error { return nil }},
	{"", 1, "\xfe", func(string, string) error { return nil }},
}

// rewrite changes the bytes of the twin, and leaves its time.
func rewrite(change func(data []byte) []byte) func(original, twin string) error {
	return func(_, twin string) error {
		data, err := os.ReadFile(twin)
		if err != nil {
			return err
		}
		return write(twin, change(data), taken)
	}
}

// link puts a link that is as old as the images in the place of one.
func link(to, name string) error {
	at := unix.NsecToTimespec(taken.UnixNano())
	return errors.Join(os.Remove(name), os.Symlink(to, name),
		unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
}

func flip(data []byte) []byte {
	data[len(data)/2] ^= 1
	return data
}

// plantFaults adds to two like trees a pair of files for each fault. names are what the names of these contain, and nothing else
// does, with what is the matter.
func plantFaults(sides [2]string) (names map[string]string, err error) {
	head, noise, err := picture()
	if err != nil {
		return nil, err
	}
	names = map[string]string{}
	for _, f := range faults {
		for range f.times {
			tag := fmt.Sprintf("planted-%02d-", len(names))
			names[tag] = f.what
			data := forest{min: 8000, max: 40000}.draw(head, noise, len(names))
			var pair [2]string
			for i, root := range sides {
				pair[i] = filepath.Join(root, tag+f.odd+".jpg")
				if err := write(pair[i], data, taken); err != nil {
					return nil, err
				}
			}
			if err := f.plant(pair[0], pair[1]); err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}
