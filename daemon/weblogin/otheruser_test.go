//go:build unix

package weblogin

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/ipc/peer"
	"countersign.dev/ipc/peer/peertest"
	"countersign.dev/okta/oktatest"
)

// A10, A11: who reads the address that the browser was started with (every user
// may, in the list of processes) has the state, and can sign in as themselves.
// Their answer does not count: the kernel names the owner of the connection.
func TestA11OtherUsersCallback(t *testing.T) {
	other := peer.Peer{Known: true, UID: peer.Self().UID + 1}
	for name, row := range map[string]struct {
		who    peer.Peer
		err    error
		status int
	}{
		"other":       {other, nil, 403},
		"nobody":      {peer.Peer{}, nil, 403},
		"unknown":     {peer.Peer{}, peer.ErrUnknown, 403},
		"own":         {peer.Self(), nil, 200},
		"unsupported": {peer.Peer{}, peer.ErrUnsupported, 200},
	} {
		org := oktatest.NewOrg(t)
		f := begin(t, org, func(o *Options) {
			o.owner = func(_, _ netip.AddrPort) (peer.Peer, error) { return row.who, row.err }
		})
		page := f.goes(f.authorize())
		if row.status != 200 {
			if status, body := page(); status != row.status || !strings.Contains(body, "Nothing was changed") {
				t.Errorf("%s: %d %s", name, status, body)
			}
			if f.used.Load() || len(org.TokenRequests()) != 0 {
				t.Errorf("%s: the answer counted", name)
			}
			continue
		}
		if _, err := f.Wait(soon(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.Finish(Ending{User: "u", Org: "o"})
		if status, _ := page(); status != 200 {
			t.Errorf("%s: %d", name, status)
		}
	}
}

// A11, with a real other user, who has the whole answer and comes first.
func TestA11OtherUserForReal(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: cannot become another user; TestA11OtherUsersCallback tests the refusal itself")
		return
	}
	org := oktatest.NewOrg(t)
	f := begin(t, org, nil)
	answer := f.authorize()
	out := peertest.RunAsOther(t, "WEBLOGIN_TEST_ANSWER="+answer)
	if out != "403 Forbidden" || len(org.TokenRequests()) != 0 {
		t.Errorf("%s; %d codes redeemed", out, len(org.TokenRequests()))
	}
	// The person's own browser is next, and counts.
	page := f.goes(answer)
	if _, err := f.Wait(soon(t)); err != nil {
		t.Error(err)
	}
	f.Finish(Ending{User: "u", Org: "o"})
	if status, _ := page(); status != 200 {
		t.Errorf("the person's own browser: %d", status)
	}
}

// A14: another user who takes all connections keeps nobody out.
func TestA14OtherUsersCrowd(t *testing.T) {
	org := oktatest.NewOrg(t)
	var own atomic.Pointer[net.TCPAddr]
	f := begin(t, org, func(o *Options) {
		o.owner = func(_, remote netip.AddrPort) (peer.Peer, error) {
			if a := own.Load(); a != nil && remote == a.AddrPort() {
				return peer.Self(), nil
			}
			return peer.Peer{Known: true, UID: peer.Self().UID + 1}, nil
		}
	})
	answer := strings.TrimPrefix(f.authorize(), "http://"+f.host)
	for range 2 * maxConnections {
		c, err := net.Dial("tcp4", f.host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	// The browser's port is known before it connects.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr)
	l.Close()
	own.Store(at)
	c, err := (&net.Dialer{LocalAddr: at, Timeout: 5 * time.Second}).Dial("tcp4", f.host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET "+answer+" HTTP/1.1\r\nHost: "+f.host+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Wait(soon(t)); err != nil {
		t.Fatal(err)
	}
}

// soon ends a wait that would take ten minutes.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestMain lets the test binary be another user's program.
func TestMain(m *testing.M) {
	answer := os.Getenv("WEBLOGIN_TEST_ANSWER")
	if answer == "" {
		os.Exit(m.Run())
	}
	resp, err := http.Get(answer)
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	_, _ = io.WriteString(os.Stdout, resp.Status)
	os.Exit(0)
}
