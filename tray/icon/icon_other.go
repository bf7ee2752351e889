//go:build !windows

package icon

import "embed"

//go:embed rendered/*.png
var rendered embed.FS

const extension = ".png"
