package tree

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestNamesAreSortedAndEachIsThereOnce(t *testing.T) {
	for _, n := range []int{0, 1, 2, 50, 40000} { // the last fill more than one block
		var list names
		var want []string
		for i := range n {
			name := fmt.Sprintf("%x%s", rand.Uint32(), strings.Repeat("x", i%300))
			want = append(want, name)
			for range 1 + i%2 {
				list.add([]byte(name))
			}
		}
		list.sort()
		slices.Sort(want)
		want = slices.Compact(want)
		taken := list.take()
		if taken.len() != len(want) || list.len() != 0 {
			t.Fatalf("%d names, not %d; %d left", taken.len(), len(want), list.len())
		}
		list.add([]byte("what comes next must not disturb them"))
		for i := range want {
			if !bytes.Equal(taken.at(i), []byte(want[i])) {
				t.Fatalf("%d: %q, not %q", i, taken.at(i), want[i])
			}
		}
	}
}
