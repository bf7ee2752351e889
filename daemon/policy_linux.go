package daemon

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
)

// blockingPolicy names a managed policy of Chrome or Chromium that blocks pages
// from reaching this machine.
func blockingPolicy() string {
	for _, dir := range []string{"/etc/opt/chrome", "/etc/chromium", "/etc/opt/edge"} {
		files, _ := filepath.Glob(dir + "/policies/managed/*.json")
		for _, file := range files {
			if mentionsBlock(file) {
				return file
			}
		}
	}
	return ""
}

func mentionsBlock(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 1<<20))
	return bytes.Contains(b, []byte("LoopbackNetworkBlockedForUrls")) || bytes.Contains(b, []byte("LocalNetworkAccessBlockedForUrls"))
}
