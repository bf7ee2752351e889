package icon

import (
	"bytes"
	"encoding/binary"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"countersign.dev/tray"
)

// Every icon is there in every theme, is no other, and is small.
func TestEveryIcon(t *testing.T) {
	seen := map[string]string{}
	for _, theme := range []Theme{Any, Light, Dark} {
		for i := tray.Resting; i <= tray.Missing; i++ {
			b, name := Data(i, theme), icons[i]+"-"+themes[theme]
			if other, twice := seen[string(b)]; twice {
				t.Errorf("%s is %s", name, other)
			}
			seen[string(b)] = name
			img, err := png.Decode(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if w, h := img.Bounds().Dx(), img.Bounds().Dy(); w != 48 || h != 48 || len(b) > 4096 {
				t.Errorf("%s: %d by %d, %d bytes", name, w, h, len(b))
			}
			if again := Data(i, theme); &again[0] != &b[0] {
				t.Errorf("%s is read twice", name)
			}
			checkICO(t, name)
		}
	}
}

// checkICO reads one as Windows does: a folder of images that lie one after the
// other up to the end.
func checkICO(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("rendered", name+".ico"))
	if err != nil || len(b) < 6 || binary.LittleEndian.Uint16(b[2:]) != 1 {
		t.Fatalf("%s: no icon file, %v", name, err)
	}
	n := int(binary.LittleEndian.Uint16(b[4:]))
	end := 6 + 16*n
	for i := range n {
		entry := b[6+16*i:]
		size, at := int(binary.LittleEndian.Uint32(entry[8:])), int(binary.LittleEndian.Uint32(entry[12:]))
		if at != end || at+size > len(b) {
			t.Fatalf("%s: image %d of %d bytes at %d", name, i, size, at)
		}
		side := int(entry[0])
		head := b[at:]
		if w, h := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[8:]); int(w) != side || int(h) != 2*side {
			t.Errorf("%s: image %d is %d by %d, said to be %d", name, i, w, h, side)
		}
		end = at + size
	}
	if n < 4 || end != len(b) {
		t.Errorf("%s: %d images, %d bytes of %d", name, n, end, len(b))
	}
}

func TestParseTheme(t *testing.T) {
	for s, want := range map[string]Theme{"light": Light, "dark": Dark} {
		if got, ok := ParseTheme(s); got != want || !ok {
			t.Errorf("%s: %d, %t", s, got, ok)
		}
	}
	for _, s := range []string{"auto", "any", "", "LIGHT"} {
		if got, ok := ParseTheme(s); got != Any || ok {
			t.Errorf("%q: %d, %t", s, got, ok)
		}
	}
}
