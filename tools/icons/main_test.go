package main

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

// What is committed is what the sources say: `make icons` after a change.
func TestRenderedIconsAreThoseOfTheSources(t *testing.T) {
	fresh := t.TempDir()
	if err := run("../../tray/icon/svg", filepath.Join(fresh, "rendered"), filepath.Join(fresh, "tray-icons.png")); err != nil {
		t.Fatal(err)
	}
	for committed, made := range map[string]string{
		"../../tray/icon/rendered/*.png": filepath.Join(fresh, "rendered"), "../../tray/icon/rendered/*.ico": filepath.Join(fresh, "rendered"),
		"../../docs/screenshots/tray-icons.png": fresh,
	} {
		files, err := filepath.Glob(committed)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", committed, len(files), err)
		}
		if made != fresh && len(files) != len(states)*len(themes) {
			t.Errorf("%s: %d files", committed, len(files))
		}
		for _, file := range files {
			was, err1 := os.ReadFile(file)
			is, err2 := os.ReadFile(filepath.Join(made, filepath.Base(file)))
			if err1 != nil || err2 != nil || !same(t, was, is) {
				t.Errorf("%s is out of date: make icons (%v, %v)", file, err1, err2)
			}
		}
	}
}

// same allows for processors that round in another way.
func same(t *testing.T, a, b []byte) bool {
	t.Helper()
	if bytes.HasPrefix(a, []byte("\x89PNG")) {
		a, b = pixels(t, a), pixels(t, b)
	}
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if d := int(a[i]) - int(b[i]); d < -3 || d > 3 {
			return false
		}
	}
	return true
}

func pixels(t *testing.T, b []byte) []byte {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	switch img := img.(type) {
	case *image.NRGBA:
		return img.Pix
	case *image.RGBA:
		return img.Pix
	}
	t.Fatalf("a PNG of %T", img)
	return nil
}
