package lab

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"time"
)

// writeImages makes production's uploads and the backup's true copy of them: the same bytes, names and times
// in every lab. The files are older than any max_lag, so that a missing one is missing and not pending.
func (l *Lab) writeImages(ctx context.Context, tell func(string)) error {
	names := imageNames()
	for i, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := picture(i, path.Ext(name))
		if err != nil {
			return fmt.Errorf("drawing %s: %w", name, err)
		}
		at := time.Date(2024, 3, 1, 9, 0, i, 0, time.UTC).Add(time.Duration(i) * 37 * time.Hour)
		for _, host := range []string{"production", "backup"} {
			if err := writeImage(l.Path(host, "uploads", filepath.FromSlash(name)), data, at); err != nil {
				return err
			}
		}
	}
	tell(fmt.Sprintf("%d images: production and their backup", len(names)))
	return nil
}

func imageNames() []string {
	names := []string{"logo.png", "brand/logo final (2).png", "brand/übersicht größe.png", "brand/日本語/店.jpg"}
	for i := range 56 {
		ext := ".jpg"
		if i%4 == 0 {
			ext = ".png"
		}
		names = append(names, fmt.Sprintf("products/%d/%02d/%cAB-%04d%s", 2023+i%3, 1+i%12, 'A'+i%26, i, ext))
	}
	return names
}

// picture draws a gradient with noise, without which it would compress to nothing.
func picture(i int, ext string) ([]byte, error) {
	random := rand.New(rand.NewPCG(uint64(i), 2022))
	width, height := 60+i*9, 40+i*5
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			noise := random.IntN(40)
			img.SetRGBA(x, y, color.RGBA{uint8(x*200/width + noise), uint8(y*200/height + noise), uint8(i*4 + noise), 255})
		}
	}
	var out bytes.Buffer
	if ext == ".png" {
		encoder := png.Encoder{CompressionLevel: png.BestSpeed}
		err := encoder.Encode(&out, img)
		return out.Bytes(), err
	}
	err := jpeg.Encode(&out, img, &jpeg.Options{Quality: 85})
	return out.Bytes(), err
}

func writeImage(name string, data []byte, at time.Time) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		return err
	}
	return os.Chtimes(name, at, at)
}
