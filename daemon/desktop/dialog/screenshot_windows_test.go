package dialog

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"countersign.dev/ipc/describe"
)

var (
	procBitBlt       = gdi32.NewProc("BitBlt")
	procWindowRect   = user32.NewProc("GetWindowRect")
	procMemoryDC     = gdi32.NewProc("CreateCompatibleDC")
	procMemoryBitmap = gdi32.NewProc("CreateCompatibleBitmap")
	procBits         = gdi32.NewProc("GetDIBits")
	procDeleteDC     = gdi32.NewProc("DeleteDC")
)

// TestScreenshot looks at a window: it is drawn, and not in one colour. With a
// folder in COUNTERSIGN_PICTURES it leaves the picture there.
func TestScreenshot(t *testing.T) {
	w, got := ask(t, t.Context(), Question{
		Unusual: []string{"New place: Lisbon, Portugal"}, Heading: "Sign in to Payroll?", Entry: Number, Report: true,
		Facts: []describe.Fact{
			{Name: "organisation", Value: "id.example.com"}, {Name: "account", Value: "ada@example.com"},
			{Name: "from", Value: "Lisbon, Portugal, Firefox on Windows, 203.0.113.9"},
			{Name: "when", Value: "2 minutes ago, 14:01; ends in 3 minutes"}, {Name: "signs with", Value: "a key in this computer's TPM"},
		},
	})
	hwnd := handle(w)
	enter(hwnd, "42")
	until(t, "it can be approved", func() bool { return enabled(hwnd, idApprove) })
	var picture *image.RGBA
	until(t, "it is drawn", func() bool {
		picture = drawn(hwnd)
		return colours(picture) > 2
	})
	if dir := os.Getenv("COUNTERSIGN_PICTURES"); dir != "" {
		time.Sleep(time.Second) // for the picture's sake
		file, err := os.Create(filepath.Join(dir, "dialog-wine.png"))
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(file, drawn(hwnd)); err != nil {
			t.Error(err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
	procPostMessage.Call(hwnd, wmClose, 0, 0)
	result(t, got)
}

// drawn is what stands on the screen where the window is, above others.
func drawn(hwnd uintptr) *image.RGBA {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var r rect
	procWindowRect.Call(hwnd, uintptr(unsafe.Pointer(&r)))
	w, h := int(r.right-r.left), int(r.bottom-r.top)
	screen, _, _ := procGetDC.Call(0)
	defer procReleaseDC.Call(0, screen)
	dc, _, _ := procMemoryDC.Call(screen)
	defer procDeleteDC.Call(dc)
	bitmap, _, _ := procMemoryBitmap.Call(screen, uintptr(w), uintptr(h))
	defer procDeleteObject.Call(bitmap)
	before, _, _ := procSelectObject.Call(dc, bitmap)
	const copied = 0x00cc0020 // SRCCOPY
	procBitBlt.Call(dc, 0, 0, uintptr(w), uintptr(h), screen, uintptr(r.left), uintptr(r.top), copied)
	procSelectObject.Call(dc, before)
	info := struct {
		size          uint32
		width, height int32
		planes, bits  uint16
		_             [6]uint32
		_             [4]uint32 // room for colours
	}{width: int32(w), height: -int32(h), planes: 1, bits: 32}
	info.size = 40
	pixels := make([]byte, 4*w*h)
	procBits.Call(dc, bitmap, 0, uintptr(h), uintptr(unsafe.Pointer(&pixels[0])), uintptr(unsafe.Pointer(&info)), 0)
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		img.SetRGBA(i%w, i/w, color.RGBA{pixels[4*i+2], pixels[4*i+1], pixels[4*i], 255})
	}
	return img
}

func colours(img *image.RGBA) int {
	seen := map[color.RGBA]bool{}
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			seen[img.RGBAAt(x, y)] = true
		}
	}
	return len(seen)
}
