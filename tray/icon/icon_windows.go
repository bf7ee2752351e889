package icon

import "embed"

//go:embed rendered/*.ico
var rendered embed.FS

const extension = ".ico"
