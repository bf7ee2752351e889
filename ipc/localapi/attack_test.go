package localapi_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// A2, D1: nothing that a browser could send gets in, even if the API were on
// TCP one day.
func TestBrowsersAreRefused(t *testing.T) {
	agent := sample()
	socket := start(t, agent, nil)
	decision := `{"action":"approve"}`
	for name, headers := range map[string][]string{
		"Host localhost":  {"Host: localhost", asJSON},
		"Host with port":  {"Host: agent:80", asJSON},
		"Host upper case": {"Host: AGENT", asJSON},
		"Host with dot":   {"Host: agent.", asJSON},
		"Host empty":      {"Host: ", asJSON},
		"Origin":          {"Host: agent", asJSON, "Origin: http://agent"},
		"Origin null":     {"Host: agent", asJSON, "Origin: null"},
		"Origin empty":    {"Host: agent", asJSON, "Origin:"},
		"Referer":         {"Host: agent", asJSON, "Referer: http://agent/"},
		"Sec-Fetch-Mode":  {"Host: agent", asJSON, "Sec-Fetch-Mode: navigate"},
		"sec-fetch-site":  {"Host: agent", asJSON, "sec-fetch-site: none"},
	} {
		for _, target := range []string{"POST /v1/prompts/p-1/decision", "GET /v1/status", "GET /nowhere", "OPTIONS /v1/status"} {
			method, path, _ := strings.Cut(target, " ")
			body := ""
			if method == "POST" {
				body = decision
			}
			if got := ask(t, socket, method, path, body, headers...); got.status != 403 {
				t.Errorf("%s: %s: %d, want 403", name, target, got.status)
			}
		}
	}
	if got := ask(t, socket, "GET", "http://evil.example/v1/status", ""); got.status != 403 {
		t.Errorf("a whole URL: %d", got.status)
	}
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
	}{
		"form":           {"POST", "/v1/prompts/p-1/decision", "action=approve", []string{"Content-Type: application/x-www-form-urlencoded"}, 415},
		"text":           {"POST", "/v1/prompts/p-1/decision", decision, []string{"Content-Type: text/plain"}, 415},
		"no type":        {"POST", "/v1/prompts/p-1/decision", decision, nil, 415},
		"two types":      {"POST", "/v1/prompts/p-1/decision", decision, []string{asJSON, asJSON}, 415},
		"code by GET":    {"GET", "/v1/codes/acc-1/code", "", nil, 405},
		"code by form":   {"POST", "/v1/codes/acc-1/code", "", []string{"Content-Type: application/x-www-form-urlencoded"}, 415},
		"code, no body":  {"POST", "/v1/codes/acc-1/code", "", []string{asJSON}, 400},
		"by GET":         {"GET", "/v1/prompts/p-1/decision", "", nil, 405},
		"by GET, query":  {"GET", "/v1/prompts/p-1/decision?action=approve", "", nil, 405},
		"body of GET":    {"GET", "/v1/status", "{}", []string{asJSON}, 400},
		"other path":     {"POST", "/v1/prompts/p-1/decision/", decision, []string{asJSON}, 404},
		"dots":           {"POST", "/v1/x/../prompts/p-1/decision", decision, []string{asJSON}, 404},
		"no id":          {"POST", "/v1/prompts//decision", decision, []string{asJSON}, 404},
		"id with zero":   {"POST", "/v1/prompts/%00/decision", decision, []string{asJSON}, 400},
		"unknown query":  {"GET", "/v1/status?verbose=1", "", nil, 400},
		"query twice":    {"GET", "/v1/prompts?front_end=a&front_end=b", "", nil, 400},
		"front end name": {"GET", "/v1/prompts?front_end=%1b%5b2J", "", nil, 400},
		"not a boolean":  {"GET", "/v1/audit?follow=yes", "", nil, 400},
		"not a number":   {"GET", "/v1/audit?from=-1", "", nil, 400},
		"server-wide":    {"OPTIONS", "*", "", nil, 404},
	} {
		if got := ask(t, socket, c.method, c.path, c.body, c.headers...); got.status != c.status || got.err.Code == "" {
			t.Errorf("%s: %d %s, want %d", name, got.status, got.body, c.status)
		}
	}
	if len(agent.Decided) != 0 {
		t.Errorf("decided: %v", agent.Decided)
	}
}

// D4: bodies that are not exactly one decision decide nothing.
func TestHostileBodies(t *testing.T) {
	agent := sample()
	socket := start(t, agent, nil)
	for _, body := range []string{
		``, ` `, `null`, `true`, `"approve"`, `[]`, `{}`, `{"action":""}`, `{"action":null}`, `{"action":"APPROVE"}`, `{"action":"approved"}`,
		`{"action":"approve "}`, `{"action":1}`, `{"action":["approve"]}`, `{"action":{"x":"approve"}}`, `{"Action":"approve"}`, `{"ACTION":"approve"}`,
		`{"action":"deny","action":"approve"}`, `{"action":"approve","action":"approve"}`, `{"action":"deny","Action":"approve"}`,
		`{"action":"approve","extra":1}`, `{"action":"approve","report":"yes"}`, `{"action":"approve","pin":null}`, `{"action":"approve"`,
		`{"action":"approve"}}`, `{"action":"approve"}{}`, `{"action":"approve"} x`, `{"action":"approve",}`, `{'action':'approve'}`,
		"{\"action\":\"approve\",\"number\":\"\xff\"}", "\xef\xbb\xbf{\"action\":\"approve\"}", `{"action":"approve"}//`, `{"a\u0063tion":"deny","action":"approve"}`,
		strings.Repeat(`{"a":`, 10000), `{"action":"approve","pin":` + strings.Repeat("[", 20000),
	} {
		if got := ask(t, socket, "POST", "/v1/prompts/p-1/decision", body, asJSON); got.status != 400 || got.err.Code == "" {
			t.Errorf("%.60q: %d %s, want 400", body, got.status, got.body)
		}
	}
	large := `{"action":"approve","pin":"` + strings.Repeat("1", 64<<10) + `"}`
	if got := ask(t, socket, "POST", "/v1/prompts/p-1/decision", large, asJSON); got.status != 413 {
		t.Errorf("a large body: %d", got.status)
	}
	chunked := ask(t, socket, "POST", "/v1/prompts/p-1/decision", "", asJSON, "Transfer-Encoding: chunked", "", fmt.Sprintf("%x", len(large)), large, "0", "")
	if chunked.status != 413 {
		t.Errorf("a large body in chunks: %d", chunked.status)
	}
	if len(agent.Decided) != 0 {
		t.Fatalf("decided: %v", agent.Decided)
	}
	if got := ask(t, socket, "POST", "/v1/prompts/p-1/decision", ` {"action" : "deny" , "report" : true } `, asJSON); got.status != 200 || !agent.Decided["p-1"].Report {
		t.Errorf("a good body: %d %s", got.status, got.body)
	}
}

// D4: a connection that sends nothing, or garbage, harms nobody else.
func TestGarbage(t *testing.T) {
	socket := start(t, sample(), nil)
	for _, garbage := range []string{"", "\x00\x01\x02", "GET", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00", strings.Repeat("A: b\r\n", 10000)} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, garbage)
		c.Close()
	}
	if got := ask(t, socket, "GET", "/v1/status", "", "Host: agent", "X: "+strings.Repeat("x", 64<<10)); got.status != http.StatusRequestHeaderFieldsTooLarge && got.status != 0 {
		t.Errorf("large headers: %d", got.status)
	}
	if got := ask(t, socket, "GET", "/v1/status", ""); got.status != 200 {
		t.Errorf("after garbage: %d", got.status)
	}
}

// F2: what wipes or deletes is not done for a program that has asked nobody, nor
// by a request that anything but this API's own clients would make.
func TestF2NothingIsDestroyedUnconfirmed(t *testing.T) {
	agent := sample()
	agent.Plugged[0].PIN = "2580"
	socket := start(t, agent, nil)
	for _, r := range []struct{ method, path, body string }{
		{"POST", "/v1/securitykeys/k1/reset", ""},
		{"POST", "/v1/securitykeys/k1/reset", `{}`},
		{"POST", "/v1/securitykeys/k1/reset", `{"confirm":""}`},
		{"POST", "/v1/securitykeys/k1/reset", `{"confirm":"Test key","Confirm":"Test key"}`},
		{"POST", "/v1/securitykeys/k1/reset", `{"confirm":"yes"}`},
		{"POST", "/v1/securitykeys/k1/reset", `{"confirm":true}`},
		{"POST", "/v1/securitykeys//reset", `{"confirm":"Test key"}`},
		{"GET", "/v1/securitykeys/k1/reset", ""},
		{"DELETE", "/v1/securitykeys/k1", ""},
		{"DELETE", "/v1/securitykeys/k1/credentials", ""},
		{"DELETE", "/v1/securitykeys/k1/credentials", `{"pin":"2580","id":"AQ"}`},
		{"DELETE", "/v1/securitykeys/k1/credentials", `{"pin":"2580","id":"","confirm":"id.example.com"}`},
		{"DELETE", "/v1/securitykeys/k1/credentials", `{"pin":"2580","id":"AQ","confirm":"yes"}`},
		{"DELETE", "/v1/securitykeys/k1/credentials", `{"id":"AQ","confirm":"id.example.com"}`},
	} {
		if got := ask(t, socket, r.method, r.path, r.body, asJSON); got.status < 400 {
			t.Errorf("%s %s %s: %d", r.method, r.path, r.body, got.status)
		}
	}
	if got := ask(t, socket, "POST", "/v1/securitykeys/k1/reset", `{"confirm":"Test key"}`, asJSON, "Origin: https://id.example.com"); got.status != 403 {
		t.Errorf("a page: %d", got.status)
	}
	if k := agent.Plugged[0]; k.PIN == "" || len(k.Credentials) != 1 {
		t.Errorf("something was destroyed: %+v", k)
	}
}
