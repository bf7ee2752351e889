// Package version says which build of Countersign is running: the module
// version that the Go tool stamped from version control, or the one that a
// packager set with -ldflags "-X countersign.dev/version.number=1.2.3".
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// number is set by the linker; empty means: ask the build information.
var number string

// Info describes a build; its JSON is what `PROGRAM version --json` prints.
type Info struct {
	Program string `json:"program"`
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// Number is the version alone, e.g. "v0.1.0" or "dev".
func Number() string {
	if number != "" {
		return number
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

// String is what "PROGRAM version" prints for people.
func (i Info) String() string {
	return fmt.Sprintf("%s %s (%s, %s/%s)", i.Program, i.Version, i.Go, i.OS, i.Arch)
}

// Of describes this build of the named program.
func Of(program string) Info {
	return Info{Program: program, Version: Number(), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
}
