package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehearsal/internal/images/index"
	"rehearsal/internal/images/tree"
)

func TestWhatIsSentArrives(t *testing.T) {
	var line bytes.Buffer
	out := NewConn(nil, &line)
	folders := NewFolderWriter(out)
	var sent []Folder
	for i := range 5000 { // several frames
		f := Folder{Path: fmt.Appendf(nil, "products/%d/\xff\n%d", i/100, i), Bits: uint8(i % 3)}
		for j := range 1 << f.Bits {
			f.Sums = append(f.Sums, uint64(i*j)<<40)
		}
		sent = append(sent, f)
		if err := folders.Add(f.Path, f.Bits, f.Sums); err != nil {
			t.Fatal(err)
		}
	}
	if err := folders.Flush(); err != nil {
		t.Fatal(err)
	}
	in := NewConn(&line, nil)
	var got []Folder
	for {
		_, payload, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		r := NewFolderReader(payload)
		for f := (Folder{}); r.Next(&f); f = (Folder{}) {
			got = append(got, f)
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatWasSeenArrives(t *testing.T) {
	var line bytes.Buffer
	out := NewSeenWriter(NewConn(nil, &line), Entries)
	sent := []Seen{
		{Path: []byte("a"), Entry: index.Entry{Meta: tree.Meta{Kind: tree.File, Size: 1 << 40, Mtime: -5}, Flags: index.Known | index.Rotted, Hash: index.Hash{1}, Was: index.Hash{2}, Damage: 3}},
		{Path: []byte("a/b"), State: Unreadable, Text: "permission denied", Entry: index.Entry{Meta: tree.Meta{Kind: tree.Unknown}}},
		{Path: []byte("a/c\n\xff"), State: Absent},
	}
	for i := range sent {
		if err := out.Add(&sent[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	_, payload, err := NewConn(&line, nil).Read()
	if err != nil {
		t.Fatal(err)
	}
	var got []Seen
	r := NewSeenReader(payload)
	for s := (Seen{}); r.Next(&s); s = (Seen{}) {
		got = append(got, s)
	}
	if diff := cmp.Diff(sent, got); diff != "" || r.Err() != nil {
		t.Error(diff, r.Err())
	}
}

// A frame that was lost, repeated, altered or torn is an error, whichever byte it is.
func TestADamagedConversationIsNoAnswer(t *testing.T) {
	var line bytes.Buffer
	out := NewConn(nil, &line)
	for i := range 3 {
		if err := out.Write(Digests, fmt.Appendf(nil, "frame %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	whole, one := line.Bytes(), line.Len()/3
	read := func(line []byte) (frames int, err error) {
		in := NewConn(bytes.NewReader(line), nil)
		for {
			if _, _, err = in.Read(); err != nil {
				return frames, err
			}
			frames++
		}
	}
	if n, err := read(whole); n != 3 || !errors.Is(err, io.EOF) {
		t.Fatalf("the whole: %d frames, %v", n, err)
	}
	for i := range whole {
		altered := bytes.Clone(whole)
		altered[i] ^= 1
		if n, err := read(altered); n > i/one || errors.Is(err, io.EOF) {
			t.Errorf("with byte %d altered: %d frames, %v", i, n, err)
		}
	}
	for i := range one {
		if i > 0 {
			if _, err := read(whole[:one+i]); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("torn after %d bytes: %v", one+i, err)
			}
		}
	}
	lost := append(bytes.Clone(whole[:one]), whole[2*one:]...)
	if n, err := read(lost); n != 1 || !errors.Is(err, ErrCorrupt) {
		t.Errorf("a lost frame: %d, %v", n, err)
	}
}
