package harness

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"countersign.dev/org"
)

// Clock is the time of an org that runs inside the test: the true one, moved
// forward by as much as a story wants to skip.
type Clock struct {
	mu    sync.Mutex
	ahead time.Duration // guarded by mu
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// Advance skips some time.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// openOrg runs the demo org in this process, by the given clock.
func openOrg(ctx context.Context, programs Programs, dir string, ports []int, o StageOptions) (*Org, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server, err := org.Open(ctx, org.Config{
		BaseURL:  "http://localhost:" + strconv.Itoa(listener.Addr().(*net.TCPAddr).Port),
		StateDir: filepath.Join(dir, "org"), Demo: true, TrustedOrigins: o.TrustedOrigins, LoopbackPorts: ports, Now: o.Clock.Now,
	})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	web := &http.Server{Handler: server.Handler(), ReadHeaderTimeout: 10 * time.Second}
	go web.Serve(listener)
	go web.Serve(server.Returning())
	return &Org{
		URL: "http://" + "localhost:" + strconv.Itoa(listener.Addr().(*net.TCPAddr).Port), AdminToken: server.AdminToken().Reveal(), program: programs.Org,
		Process: inProcess("org", func() error { return errors.Join(web.Close(), server.Close()) }),
	}, nil
}
