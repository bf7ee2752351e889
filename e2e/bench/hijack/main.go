// Command hijack is a floor for the benchmarks: a server that takes every
// connection over and keeps it open with one parked reader and nothing else,
// which is the least that an idle listener costs in Go.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "hijack:", err)
		os.Exit(1)
	}
	fmt.Printf("{\"ready\":true,\"url\":\"http://localhost:%d\"}\n", listener.Addr().(*net.TCPAddr).Port)
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:errcheck // ends with the process
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			var one [1]byte
			conn.Read(one[:]) //nolint:errcheck // until the client leaves
		}()
	}))
}
