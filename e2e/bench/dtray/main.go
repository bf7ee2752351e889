// Command dtray is a floor for the benchmarks: an icon in the panel with one
// entry in its menu, by the library that the tray is made with, and nothing else.
package main

import "fyne.io/systray"

func main() {
	systray.Run(func() {
		systray.SetTitle("floor")
		systray.AddMenuItem("Nothing", "")
	}, func() {})
}
