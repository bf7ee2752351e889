package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/paths"
	"countersign.dev/ipc/peer"
)

// probeTimeout is generous: a page waits 100 to 500 ms.
const probeTimeout = time.Second

// outside looks at the loopback ports the way a browser does.
type outside struct {
	running bool   // the agent answered
	port    int    // where it says it listens; 0: nowhere, or not known
	origin  string // of a page that must be answered; "" when there is no account
	ports   []int  // to look at; nil means the default ones
}

// answers of a port.
type portState int

const (
	portFree portState = iota
	portSilent
	portForeign // something, but not an agent of ours
	portAgent
)

func (o *outside) examine(ctx context.Context) []api.Check {
	ports := o.ports
	if ports == nil {
		ports = paths.DefaultLoopbackPorts
	}
	var checks []api.Check
	if o.port != 0 {
		checks = append(checks, o.own(ctx)...)
	} else if o.running {
		checks = append(checks, api.Check{Name: "loopback_port", State: "failed", Message: "the agent does not listen for browsers",
			Hint: "free one of the ports " + list(ports) + " and start the agent again"})
	}
	var free []int
	before := true
	for _, port := range ports {
		if port == o.port {
			before = false
			continue
		}
		check, taken := o.other(ctx, port, before)
		if taken {
			checks = append(checks, check)
		} else {
			free = append(free, port)
		}
	}
	if !o.running && len(free) > 0 {
		checks = append(checks, api.Check{Name: "loopback_port", State: "ok", Message: "free for the agent: " + list(free)})
	}
	return checks
}

// own checks the agent's port: it must be the agent's, answer, and answer pages.
func (o *outside) own(ctx context.Context) []api.Check {
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(o.port))
	owner, _ := peer.OfListener(addr)
	if owner.Known && !owner.Mine() {
		return []api.Check{{Name: "loopback_port", State: "failed", Message: fmt.Sprintf("port %d belongs to %s", o.port, describeOwner(owner)),
			Hint: "stop that program, or start the agent with other --loopback-ports"}}
	}
	state, _ := probe(ctx, addr, "")
	if state != portAgent {
		return []api.Check{{Name: "loopback_port", State: "failed", Message: fmt.Sprintf("the agent says it listens on port %d, but nothing answers there as it would", o.port),
			Hint: "start the agent again"}}
	}
	checks := []api.Check{{Name: "loopback_port", State: "ok", Message: fmt.Sprintf("the agent answers on port %d", o.port)}}
	if o.origin != "" {
		if _, status := probe(ctx, addr, o.origin); status == http.StatusOK {
			checks = append(checks, api.Check{Name: "loopback_page", State: "ok", Message: "pages of " + o.origin + " are answered"})
		} else {
			checks = append(checks, api.Check{Name: "loopback_page", State: "failed", Message: "pages of " + o.origin + " are not answered",
				Hint: "see: countersign account list"})
		}
	}
	// Browsers turn localhost into ::1 first.
	v6 := netip.AddrPortFrom(netip.IPv6Loopback(), uint16(o.port))
	if state, _ := probe(ctx, v6, ""); state != portFree {
		owner, _ := peer.OfListener(v6)
		checks = append(checks, api.Check{Name: "loopback_ipv6", State: "warning",
			Message: fmt.Sprintf("on [::1] port %d belongs to %s; browsers ask it before the agent", o.port, describeOwner(owner)),
			Hint:    "stop that program if you do not know it"})
	}
	return checks
}

// other looks at a port that is not the agent's. Whoever holds one that comes
// first in the list is asked first by pages, and keeps them when it answers
// anything but 503 (A9).
func (o *outside) other(ctx context.Context, port int, before bool) (check api.Check, taken bool) {
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	state, _ := probe(ctx, addr, "")
	if state == portFree {
		return api.Check{}, false
	}
	owner, _ := peer.OfListener(addr)
	check = api.Check{Name: "port_" + strconv.Itoa(port), State: "warning", Message: fmt.Sprintf("port %d is taken by %s", port, describeOwner(owner))}
	switch {
	case state == portAgent && owner.Known && !owner.Mine():
		check.State, check.Message = "ok", fmt.Sprintf("port %d is another user's agent, which sends your pages on", port)
	case state == portAgent:
		check.Message = fmt.Sprintf("port %d is another agent: %s", port, describeOwner(owner))
		check.Hint = "if it is not meant to run beside this one, stop it; --socket or $" + paths.EnvSocket + " says which agent is asked"
	case !o.running:
		check.Hint = "the agent takes the next port; stop that program if you do not know it"
	case before:
		check.Message += "; pages ask it before the agent"
		check.Hint = "it learns nothing of use, but it can keep you from signing in: stop that program if you do not know it"
	default:
		check.State = "ok"
	}
	return check, true
}

func describeOwner(p peer.Peer) string {
	if !p.Known {
		return "a program that cannot be named here"
	}
	who := "user " + strconv.Itoa(p.UID)
	if p.Mine() {
		who = "you"
	}
	switch {
	case p.PID == 0:
		return "a program of " + who
	case p.Executable == "":
		return fmt.Sprintf("process %d of %s", p.PID, who)
	default:
		return fmt.Sprintf("process %d (%s) of %s", p.PID, p.Executable, who)
	}
}

// probe asks a port as a page would. Without an origin our agent refuses in its
// own words, which is how it is recognised.
func probe(ctx context.Context, addr netip.AddrPort, origin string) (portState, int) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
			return portSilent, 0
		}
		return portFree, 0
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	request := fmt.Sprintf("GET /probe HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n", addr.Port())
	if origin != "" {
		request += "Origin: " + origin + "\r\n"
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		return portSilent, 0
	}
	res, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c, 8<<10)), nil)
	if err != nil {
		return portSilent, 0
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if origin == "" && res.StatusCode == http.StatusForbidden && strings.Contains(string(body), `"origin_not_allowed"`) {
		return portAgent, res.StatusCode
	}
	return portForeign, res.StatusCode
}

func list(ports []int) string {
	words := make([]string, len(ports))
	for i, p := range slices.Sorted(slices.Values(ports)) {
		words[i] = strconv.Itoa(p)
	}
	return strings.Join(words, ", ")
}
