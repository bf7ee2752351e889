package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
)

var (
	portsMu  sync.Mutex
	nextPort = 20000 + rand.IntN(8000)
)

// FreePorts returns n loopback ports that nobody listens on. They lie below
// the range from which the system hands out ports by itself, and no port is
// returned twice by one program, so they stay free until they are used.
func FreePorts(n int) ([]int, error) {
	portsMu.Lock()
	defer portsMu.Unlock()
	var ports []int
	for tries := 0; len(ports) < n && tries < 4000; tries++ {
		if nextPort++; nextPort >= 32000 {
			nextPort = 20000
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(nextPort)))
		if err != nil {
			continue
		}
		l.Close()
		ports = append(ports, nextPort)
	}
	if len(ports) < n {
		return nil, fmt.Errorf("looking for %d free loopback ports: found %d", n, len(ports))
	}
	return ports, nil
}

func portList(ports []int) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = strconv.Itoa(p)
	}
	return strings.Join(words, ",")
}
