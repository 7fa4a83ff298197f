package lab

import (
	"bytes"
	"image"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTheBackupHoldsATrueCopyOfTheImages(t *testing.T) {
	l := theLab(t)
	root := l.Path("production", "uploads")
	count := 0
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		count++
		name, _ := filepath.Rel(root, path)
		one, oneTime := readImage(t, path)
		two, twoTime := readImage(t, l.Path("backup", "uploads", name))
		if !bytes.Equal(one, two) || !oneTime.Equal(twoTime) {
			t.Errorf("%s differs", name)
		}
		if time.Since(oneTime) < 48*time.Hour {
			t.Errorf("%s is of %v: a missing one would be pending", name, oneTime)
		}
		if _, _, err := image.Decode(bytes.NewReader(one)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return nil
	})
	if err != nil || count != len(imageNames()) {
		t.Errorf("%d images, %v", count, err)
	}
}

func readImage(t *testing.T, path string) ([]byte, time.Time) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, info.ModTime()
}
