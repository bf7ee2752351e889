package client_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"syscall"
	"testing"

	"countersign.dev/okta/client"
)

// While an answer is waited for, the kernel finds out within a minute that
// nobody is there any more.
func TestDeadConnectionsShow(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	defer client.CloseIdle()
	idle, interval, count := 0, 0, 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		raw, err := info.Conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Error(err)
			return
		}
		_ = raw.Control(func(fd uintptr) {
			idle, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
			interval, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL)
			count, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT)
		})
	}})
	org := newOrg(t, server.URL, client.Options{})
	_, _ = org.Pending(ctx, client.Bearer("s"), server.URL+"/p", client.PendingRequest{Wait: true})
	if took := idle + interval*count; idle < 30 || took > 60 {
		t.Fatalf("asked after %d s, given up after %d", idle, took)
	}
}
