// Package icon holds the tray's icons: the mark, two chevrons that meet, in a
// rounded square. Idle is an outline, waiting is filled and has a dot, attention
// has a triangle, missing is dimmed and struck out, resting is dimmed: colour is
// never the only sign.
//
// The sources are in svg; `make icons` renders them.
package icon

import (
	"fmt"
	"sync"

	"countersign.dev/tray"
)

// Theme is the kind of panel that an icon is for. The zero value is for those of
// which nobody tells.
type Theme uint8

// The themes.
const (
	Any Theme = iota
	Light
	Dark
)

var (
	themes = map[Theme]string{Any: "any", Light: "light", Dark: "dark"}
	icons  = map[tray.Icon]string{tray.Resting: "resting", tray.Idle: "idle", tray.Waiting: "waiting", tray.Attention: "attention", tray.Missing: "missing"}
)

// ParseTheme reads what was typed; known is false for "auto" and the like.
func ParseTheme(s string) (t Theme, known bool) {
	for t, name := range themes {
		if s == name && t != Any {
			return t, true
		}
	}
	return Any, false
}

var read sync.Map // name -> []byte; they are never freed, since GTK is lent them

// Data is an icon in the form that this system's panels take: PNG, on Windows
// ICO. It must not be changed.
func Data(i tray.Icon, t Theme) []byte {
	name := icons[i] + "-" + themes[t] + extension
	if b, ok := read.Load(name); ok {
		return b.([]byte)
	}
	b, err := rendered.ReadFile("rendered/" + name)
	if err != nil {
		panic(fmt.Sprintf("an icon is missing: %v", err)) // a test looks at each
	}
	kept, _ := read.LoadOrStore(name, b)
	return kept.([]byte)
}
