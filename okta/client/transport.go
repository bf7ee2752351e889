package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

const (
	maxDocument = 1 << 20  // discovery, keys, enrolments, pending lists
	maxAnswer   = 64 << 10 // answers to answers, and every error
)

// keepAlive has the kernel find out within a minute that the other end of a
// connection is gone without a word, while an answer is waited for. Nobody else
// has to wake up for that.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// sharedTransport keeps the connections of all orgs of the process: a
// challenge should find one open.
var sharedTransport = sync.OnceValue(func() http.RoundTripper {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAliveConfig: keepAlive}
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    5 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // a bomb needs a decompressor
	}
})

// CloseIdle closes the kept connections that nobody uses, of all orgs. An agent
// calls it when no sign-in is near, to keep neither memory nor timers for them.
func CloseIdle() {
	if t, ok := sharedTransport().(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// proxy is the environment's, but never for this machine.
func proxy(r *http.Request) (*url.URL, error) {
	if loopback(r.URL.Hostname()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// call is one request.
type call struct {
	method, url string
	auth        Authorization
	accept      string
	contentType string
	body        []byte
	limit       int64 // of a 2xx body
	discard     bool  // the body of a 2xx answer does not matter
	oauth       bool  // errors have the shape of RFC 6749
	header      map[string]string
	timeout     time.Duration // 0: the client's
	conditional bool          // 304 is an answer
	documents   bool          // refusals are answers, too: documents with their own status
}

// answer is a 2xx answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends c and returns the 2xx answer, or one of the package's errors.
func (o *Org) do(ctx context.Context, c call) (answer, error) {
	timeout := o.timeout
	if c.timeout > 0 {
		timeout = c.timeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var body io.Reader
	if c.body != nil {
		body = bytes.NewReader(c.body)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, c.url, body)
	if err != nil {
		return answer{}, fmt.Errorf("%w: cannot be requested", ErrURL)
	}
	if err := secure(req.URL); err != nil {
		return answer{}, err
	}
	if req.URL.Host == "" || req.URL.User != nil {
		return answer{}, fmt.Errorf("%w: no host, or user information", ErrURL)
	}
	// An empty value keeps net/http from naming itself.
	req.Header["User-Agent"] = []string{o.userAgent}
	if c.accept != "" {
		req.Header["Accept"] = []string{c.accept}
	}
	if c.contentType != "" {
		req.Header["Content-Type"] = []string{c.contentType}
	}
	if c.auth.scheme != "" {
		req.Header["Authorization"] = []string{c.auth.scheme + " " + c.auth.value.Reveal()}
	}
	if c.auth.proof != nil {
		proof, err := c.auth.proof.proof(req, c.auth.value)
		if err != nil {
			return answer{}, fmt.Errorf("prove the key of a token: %w", err)
		}
		req.Header["Dpop"] = []string{proof}
	}
	for name, value := range c.header {
		req.Header[name] = []string{value}
	}
	resp, err := o.http.Do(req)
	if err != nil {
		return answer{}, unreachable(req.URL.Host, err)
	}
	defer resp.Body.Close()
	return read(resp, req.URL.Host, c)
}

// read takes the answer in, all of it unless it is too large, so that the
// connection can be used again.
func read(resp *http.Response, host string, c call) (answer, error) {
	unexpected := func(kind, detail string) error {
		return &UnexpectedAnswer{Host: host, Status: resp.StatusCode, Kind: kind, Detail: detail}
	}
	success := resp.StatusCode/100 == 2
	refused := c.documents && resp.StatusCode/100 == 4
	limit := int64(maxAnswer)
	if success || refused {
		limit = c.limit
	}
	body, err := readBody(resp, limit)
	switch {
	case errors.Is(err, errTooLarge):
		return answer{}, unexpected(KindTooLarge, fmt.Sprintf("at most %d bytes", limit))
	case err != nil:
		return answer{}, unreachable(host, err)
	}
	if resp.StatusCode == http.StatusNotModified && c.conditional {
		return answer{resp.StatusCode, resp.Header, nil}, nil
	}
	if resp.StatusCode/100 == 3 {
		return answer{}, unexpected(KindRedirect, redirectTarget(resp))
	}
	kind := bodyKind(resp.Header.Get("Content-Type"), body)
	if kind == KindHTML {
		return answer{}, unexpected(KindHTML, "")
	}
	if success {
		if kind != "" && !c.discard {
			return answer{}, unexpected(kind, "")
		}
		return answer{resp.StatusCode, resp.Header, body}, nil
	}
	if kind != "" {
		return answer{}, unexpected(kind, "")
	}
	if refused {
		return answer{resp.StatusCode, resp.Header, body}, nil
	}
	return answer{}, refusal(resp, body, c.oauth, unexpected)
}

var errTooLarge = errors.New("too large")

func readBody(resp *http.Response, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, errTooLarge
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, errTooLarge
	}
	return body, nil
}

// bodyKind returns "" for JSON, else what it is instead.
func bodyKind(contentType string, body []byte) string {
	media, _, _ := mime.ParseMediaType(contentType)
	trimmed := bytes.TrimLeft(body, " \t\r\n\ufeff")
	switch {
	case media == "text/html" || media == "application/xhtml+xml" || len(trimmed) > 0 && trimmed[0] == '<':
		return KindHTML
	case media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json"):
		if len(trimmed) > 0 {
			return ""
		}
	}
	return KindNotJSON
}

// refusal turns the org's error object into an error. Every member of it is
// optional, since challenge verification may answer another shape.
func refusal(resp *http.Response, body []byte, oauth bool, unexpected func(kind, detail string) error) error {
	if oauth {
		te := okta.TokenError{HTTPStatus: resp.StatusCode, RetryAt: retryAt(resp.Header, time.Now()), Nonce: resp.Header.Get("DPoP-Nonce")}
		if err := jose.DecodeStrict(body, &te, maxAnswer); err == nil && te.Code != "" {
			return &te
		}
	}
	e := okta.Error{HTTPStatus: resp.StatusCode, RetryAt: retryAt(resp.Header, time.Now())}
	if err := jose.DecodeStrict(body, &e, maxAnswer); err != nil {
		return unexpected(KindNotJSON, "")
	}
	return &e
}

// retryAt reads when a rate limit ends; zero when the org does not say.
func retryAt(h http.Header, now time.Time) time.Time {
	if s, err := strconv.ParseInt(h.Get("X-Rate-Limit-Reset"), 10, 64); err == nil && s > 0 && h.Get("X-Rate-Limit-Remaining") == "0" {
		return time.Unix(s, 0)
	}
	if s, err := strconv.ParseUint(h.Get("Retry-After"), 10, 31); err == nil {
		return now.Add(time.Duration(s) * time.Second)
	}
	return time.Time{}
}

// redirectTarget names where a redirect leads, without path and query.
func redirectTarget(resp *http.Response) string {
	u, err := resp.Location()
	if err != nil {
		return ""
	}
	return "to " + Origin(u)
}

func unreachable(host string, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // its text would repeat the URL with its query
	}
	var ne net.Error
	slow := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
	return &Unreachable{Host: host, Slow: slow, Err: err}
}

// decode reads a document of an answer.
func (o *Org) decode(a answer, dst any) error {
	if err := jose.DecodeStrict(a.body, dst, maxDocument); err != nil {
		return &UnexpectedAnswer{Host: o.url, Status: a.status, Kind: KindNotJSON, Detail: err.Error()}
	}
	return nil
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	return b, nil
}
