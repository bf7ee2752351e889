package layout

// Colours only repeat what the words say.
const (
	Dim     = "\x1b[2m"
	Bold    = "\x1b[1m"
	Reverse = "\x1b[7m"
	Green   = "\x1b[32m"
	Yellow  = "\x1b[33m"
	Red     = "\x1b[31m"
	plain   = "\x1b[0m"
)

// Paint colours text where colours are on.
func Paint(on bool, code, text string) string {
	if !on || code == "" || text == "" {
		return text
	}
	return code + text + plain
}
