// Command icons renders the tray's icons from their SVG sources: for light and
// dark panels and for those whose colour nobody tells, as PNG and, for Windows,
// ICO; and a sheet of all of them to look at.
//
//	icons SOURCES RENDERED SHEET
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/srwiley/oksvg"
	"github.com/srwiley/rasterx"
)

// panelSize is twice what panels usually show, so that they halve it.
const panelSize = 48

// icoSizes are those that Windows takes from, by scale of the screen.
var icoSizes = []int{16, 20, 24, 32}

var states = []string{"idle", "waiting", "attention", "resting", "missing"}

// theme says what stands for the colours of the sources, which are for light
// panels.
type theme struct {
	name   string
	colour map[string]string
}

var themes = []theme{
	{"light", nil},
	{"dark", map[string]string{"#1b2330": "#e8ecf2", "#1f5fbf": "#7fb0ff", "#ffffff": "#12161d", "#b3261e": "#ff8a80", "#9a5b00": "#f0b35a"}},
	// Legible on both: none of these comes near to white or black.
	{"any", map[string]string{"#1b2330": "#7d8797", "#1f5fbf": "#3a7bdc", "#9a5b00": "#c07a1e", "#b3261e": "#e0564c", `opacity="0.5"`: `opacity="0.7"`}},
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "icons: it is used so: icons SOURCES RENDERED SHEET")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "icons:", err)
		os.Exit(1)
	}
}

func run(sources, rendered, sheet string) error {
	if err := os.MkdirAll(rendered, 0o755); err != nil {
		return err
	}
	for _, state := range states {
		svg, err := os.ReadFile(filepath.Join(sources, state+".svg"))
		if err != nil {
			return err
		}
		for _, t := range themes {
			one, err := renderPNG(string(svg), t, panelSize)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", state, t.name, err)
			}
			ico, err := renderICO(string(svg), t)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", state, t.name, err)
			}
			base := filepath.Join(rendered, state+"-"+t.name)
			if err := errors.Join(os.WriteFile(base+".png", one, 0o644), os.WriteFile(base+".ico", ico, 0o644)); err != nil {
				return err
			}
		}
	}
	b, err := drawSheet(sources)
	if err != nil {
		return err
	}
	return os.WriteFile(sheet, b, 0o644)
}

// grid is the side of the sources' own coordinates.
const grid = 24

var strokeWidth = regexp.MustCompile(`stroke-width="([0-9.]+)"`)

// render draws one size.
func render(svg string, t theme, size int) (*image.RGBA, error) {
	pairs := []string{}
	for from, to := range t.colour {
		pairs = append(pairs, from, to)
	}
	svg = strings.NewReplacer(pairs...).Replace(svg)
	// The library scales paths, but not the width of their strokes.
	svg = strokeWidth.ReplaceAllStringFunc(svg, func(s string) string {
		width, _ := strconv.ParseFloat(strokeWidth.FindStringSubmatch(s)[1], 64)
		return fmt.Sprintf(`stroke-width="%g"`, width*float64(size)/grid)
	})
	icon, err := oksvg.ReadIconStream(strings.NewReader(svg), oksvg.StrictErrorMode)
	if err != nil {
		return nil, err
	}
	icon.SetTarget(0, 0, float64(size), float64(size))
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	icon.Draw(rasterx.NewDasher(size, size, rasterx.NewScannerGV(size, size, img, img.Bounds())), 1)
	return img, nil
}

func renderPNG(svg string, t theme, size int) ([]byte, error) {
	img, err := render(svg, t, size)
	if err != nil {
		return nil, err
	}
	return encode(img)
}

func encode(img image.Image) ([]byte, error) {
	var b bytes.Buffer
	err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img)
	return b.Bytes(), err
}

// renderICO makes an icon of 32-bit bitmaps, which every Windows reads.
func renderICO(svg string, t theme) ([]byte, error) {
	var images [][]byte
	for _, size := range icoSizes {
		img, err := render(svg, t, size)
		if err != nil {
			return nil, err
		}
		images = append(images, bitmap(img, size))
	}
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	put([3]uint16{0, 1, uint16(len(images))})
	offset := 6 + 16*len(images)
	for i, image := range images {
		put([4]uint8{uint8(icoSizes[i]), uint8(icoSizes[i]), 0, 0})
		put([2]uint16{1, 32})
		put([2]uint32{uint32(len(image)), uint32(offset)})
		offset += len(image)
	}
	for _, image := range images {
		b.Write(image)
	}
	return b.Bytes(), nil
}

// bitmap is one image of an ICO file: a header, the pixels from the bottom up,
// and a mask that says nothing, since the pixels are as transparent as they are.
func bitmap(img *image.RGBA, size int) []byte {
	var b bytes.Buffer
	row := (size + 31) / 32 * 4 // of the mask
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	put([]uint32{40, uint32(size), uint32(2 * size)})
	put([]uint16{1, 32})
	put([]uint32{0, uint32(4*size*size + row*size), 0, 0, 0, 0})
	for y := size - 1; y >= 0; y-- {
		for x := range size {
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			b.Write([]byte{c.B, c.G, c.R, c.A})
		}
	}
	b.Write(make([]byte, row*size))
	return b.Bytes()
}

// drawSheet shows every state at the sizes that panels have, on light and dark,
// and larger; then the icons for unknown panels on both.
func drawSheet(sources string) ([]byte, error) {
	sizes := []int{16, 22, 24, 32, 48, 96}
	const gap, side = 16, 96
	width := gap
	for _, s := range sizes {
		width += s + gap
	}
	rows := []struct {
		theme theme
		paper color.Color
	}{
		{themes[0], color.RGBA{0xff, 0xff, 0xff, 0xff}}, {themes[1], color.RGBA{0x12, 0x16, 0x1d, 0xff}},
		{themes[2], color.RGBA{0xff, 0xff, 0xff, 0xff}}, {themes[2], color.RGBA{0x12, 0x16, 0x1d, 0xff}},
	}
	img := image.NewRGBA(image.Rect(0, 0, width*len(rows), (side+gap)*len(states)+gap))
	for i, row := range rows {
		left := i * width
		draw.Draw(img, image.Rect(left, 0, left+width, img.Bounds().Dy()), image.NewUniform(row.paper), image.Point{}, draw.Src)
		for j, state := range states {
			svg, err := os.ReadFile(filepath.Join(sources, state+".svg"))
			if err != nil {
				return nil, err
			}
			x, bottom := left+gap, (side+gap)*(j+1)
			for _, size := range sizes {
				one, err := render(string(svg), row.theme, size)
				if err != nil {
					return nil, err
				}
				draw.Draw(img, image.Rect(x, bottom-size, x+size, bottom), one, image.Point{}, draw.Over)
				x += size + gap
			}
		}
	}
	return encode(img)
}
