package command_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/command"
	"countersign.dev/program"
)

type ready struct {
	Ready      bool
	URL        string
	AdminToken *string
}

// server is a running "serve".
type server struct {
	ready
	stop func() int // stops it and returns the exit code
	logs *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func serve(t *testing.T, args ...string) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &server{logs: &lockedBuffer{}}
	out, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- program.Run(ctx, command.New(), append([]string{"serve"}, args...), w, s.logs)
		w.Close()
	}()
	s.stop = sync.OnceValue(func() int { cancel(); return <-code })
	t.Cleanup(func() { s.stop() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("no ready line; exit code %d; %s", s.stop(), s.logs)
	}
	if err := json.Unmarshal(lines.Bytes(), &s.ready); err != nil || !s.Ready {
		t.Fatalf("%s: %v", lines.Text(), err)
	}
	return s
}

func run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = program.Run(context.Background(), command.New(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func get(t *testing.T, c *http.Client, url string) int {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestServeAndLink(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	s := serve(t, "--listen", "127.0.0.1:0", "--state", state, "--demo")
	if !strings.HasPrefix(s.URL, "http://localhost:") || s.AdminToken == nil || strings.HasSuffix(s.URL, ":0") {
		t.Fatalf("%+v", s.ready)
	}
	if code := get(t, http.DefaultClient, s.URL+"/healthz"); code != 200 {
		t.Errorf("health: %d", code)
	}
	code, out, errs := run("enrolment-link", "--url", s.URL, "--token", *s.AdminToken, "--user", "alice@example.com")
	link, err := okta.ParseEnrolmentLink(out)
	if code != 0 || err != nil || link.OrgURL != s.URL || strings.Count(out, "\n") != 1 || errs != "" {
		t.Errorf("%d %q %q %v", code, out, errs, err)
	}
	code, out, _ = run("enrolment-link", "--url", s.URL, "--token-file", filepath.Join(state, "admin-token"), "--user", "bob@example.com", "--json")
	var doc struct{ URL, ExpiresAt string }
	if err := json.Unmarshal([]byte(out), &doc); code != 0 || err != nil || doc.URL == "" || doc.ExpiresAt == "" {
		t.Errorf("%d %q %v", code, out, err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"wrong token":          {[]string{"--token", "x", "--user", "alice@example.com"}, 1, "hint: the admin token"},
		"unknown user":         {[]string{"--token", *s.AdminToken, "--user", "nobody"}, 1, "no such user"},
		"no user":              {[]string{"--token", "x"}, 2, "--user"},
		"plain http elsewhere": {[]string{"--token", "x", "--user", "u", "--url", "http://id.example.com"}, 1, "http"},
		"nobody there":         {[]string{"--token", "x", "--user", "u", "--url", "http://127.0.0.1:1"}, 1, "hint: is the org running"},
	} {
		args := append([]string{"enrolment-link", "--url", s.URL}, c.args...)
		code, out, errs := run(args...)
		if code != c.code || out != "" || !strings.Contains(errs, c.says) || !strings.HasPrefix(errs, "countersign-org: ") {
			t.Errorf("%s: %d %q %q", name, code, out, errs)
		}
	}
	began := time.Now()
	if code := s.stop(); code != 0 || time.Since(began) > 2*time.Second {
		t.Errorf("stopped with %d after %v: %s", code, time.Since(began), s.logs)
	}
	if strings.Contains(s.logs.String(), *s.AdminToken) {
		t.Error("the logs hold the admin token")
	}
}

func TestTokenStaysOutOfTheReadyLine(t *testing.T) {
	s := serve(t, "--listen", "127.0.0.1:0", "--state", filepath.Join(t.TempDir(), "state"))
	if s.AdminToken != nil {
		t.Error("the admin token was printed without --demo")
	}
}

// A client that never finishes its request cannot keep the server from stopping.
func TestStopsInTime(t *testing.T) {
	s := serve(t, "--listen", "127.0.0.1:0", "--state", filepath.Join(t.TempDir(), "state"))
	body, hang := io.Pipe()
	defer hang.Close()
	go func() {
		resp, err := http.Post(s.URL+"/idp/idx/introspect", "application/json", body)
		if err == nil {
			resp.Body.Close()
		}
	}()
	if _, err := hang.Write([]byte("{")); err != nil { // the request is under way
		t.Fatal(err)
	}
	began := time.Now()
	if code := s.stop(); code != 0 || time.Since(began) > 2*time.Second {
		t.Errorf("stopped with %d after %v", code, time.Since(began))
	}
}

func TestServeTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key, pool := certificate(t, dir)
	s := serve(t, "--listen", "", "--tls-listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--state", filepath.Join(dir, "state"))
	if !strings.HasPrefix(s.URL, "https://localhost:") {
		t.Fatal(s.URL)
	}
	if _, _, errs := run("enrolment-link", "--url", s.URL, "--token", "x", "--user", "a"); !strings.Contains(errs, "hint: this machine does not trust the org's certificate") {
		t.Errorf("an unknown certificate: %q", errs)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	if code := get(t, &http.Client{Transport: transport}, s.URL+"/healthz"); code != 200 {
		t.Errorf("health: %d", code)
	}
}

func TestDatabaseFlag(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "my.db")
	serve(t, "--listen", "127.0.0.1:0", "--database", path).stop()
	for _, p := range []string{path, filepath.Join(filepath.Dir(path), "admin-token")} {
		if info, err := os.Stat(p); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestUsage(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	busy := serve(t, "--listen", "127.0.0.1:0", "--state", filepath.Join(t.TempDir(), "state"))
	port := busy.URL[strings.LastIndex(busy.URL, ":"):]
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"unknown command":      {[]string{"bogus"}, 2, `unknown command "bogus"`},
		"unknown flag":         {[]string{"serve", "--bogus"}, 2, "--bogus"},
		"argument":             {[]string{"serve", "x"}, 2, "unknown command"},
		"half of TLS":          {[]string{"serve", "--tls-listen", ":0"}, 2, "belong together"},
		"nothing to listen on": {[]string{"serve", "--listen", ""}, 2, "nothing to listen on"},
		"two places":           {[]string{"serve", "--state", "a", "--database", "b"}, 2, "exclude each other"},
		"postgres":             {[]string{"serve", "--database", "postgres://db/x"}, 2, "not supported yet"},
		"bad port":             {[]string{"serve", "--loopback-ports", "70000"}, 2, "not a port"},
		"bad level":            {[]string{"serve", "--log-level", "loud", "--state", state}, 2, "--log-level"},
		"bad origin":           {[]string{"serve", "--listen", "127.0.0.1:0", "--state", state, "--trusted-origin", "https://*.x"}, 1, "origin"},
		"bad base URL":         {[]string{"serve", "--listen", "127.0.0.1:0", "--state", state, "--base-url", "ftp://x"}, 2, "--base-url"},
		"origin with a path":   {[]string{"serve", "--listen", "127.0.0.1:0", "--state", state, "--trusted-origin", "https://x/y"}, 2, "--trusted-origin"},
		"no address":           {[]string{"serve", "--listen", "here", "--state", state}, 2, "hint: --listen wants HOST:PORT"},
		"no port":              {[]string{"serve", "--listen", "127.0.0.1:99999", "--state", state}, 2, "hint: --listen wants HOST:PORT"},
		"ports that are none":  {[]string{"serve", "--loopback-ports", "x"}, 2, "\"--loopback-ports\" flag\nhint: see: countersign-org serve --help\n"},
		"nobody there":         {[]string{"enrolment-link", "--url", "http://localhost:1", "--token", "x", "--user", "a"}, 1, "enrolment link: dial tcp"},
		"not the org's URL":    {[]string{"enrolment-link", "--url", "http://127.0.0.1" + port, "--token", "x", "--user", "a"}, 1, "hint: an org answers to the URL of its ready line"},
		"token of two lines":   {[]string{"enrolment-link", "--url", busy.URL, "--token", "x\ny", "--user", "a"}, 1, "no token has"},
		"busy port":            {[]string{"serve", "--listen", "127.0.0.1" + port, "--state", state}, 1, "hint: another program"},
		"no certificate":       {[]string{"serve", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--tls-cert", "/nowhere", "--tls-key", "/nowhere", "--state", state}, 1, "certificate"},
	} {
		code, out, errs := run(c.args...)
		if code != c.code || out != "" || !strings.Contains(errs, c.says) || !strings.HasPrefix(errs, "countersign-org: ") {
			t.Errorf("%s: %d %q %q", name, code, out, errs)
		}
	}
}

// C6: a state folder that others can write to is refused, with a remedy.
func TestUnsafeState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	code, _, errs := run("serve", "--listen", "127.0.0.1:0", "--state", dir)
	if code != 1 || !strings.Contains(errs, "hint: the state must belong to you") {
		t.Errorf("%d %q", code, errs)
	}
}

// A damaged database is refused with a remedy, and stays as it is.
func TestDamagedDatabase(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	serve(t, "--listen", "127.0.0.1:0", "--state", state).stop()
	path := filepath.Join(state, "org.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string][]byte{"truncated": whole[:len(whole)/3], "overwritten": append([]byte("XXXXXXXX"), whole[8:]...)} {
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, errs := run("serve", "--listen", "127.0.0.1:0", "--state", state)
		if code != 1 || !strings.Contains(errs, "hint: the database is damaged") {
			t.Errorf("%s: %d %q", name, code, errs)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, broken) {
			t.Errorf("%s: the file was written over", name)
		}
	}
}

func TestVersionHelpCompletion(t *testing.T) {
	code, out, _ := run("version", "--json")
	var doc map[string]string
	if err := json.Unmarshal([]byte(out), &doc); code != 0 || err != nil || doc["version"] == "" || doc["program"] != "countersign-org" {
		t.Errorf("%d %q %v", code, out, err)
	}
	for _, args := range [][]string{{"version"}, {"help"}, {"--help"}, {}, {"completion", "bash"}, {"completion", "zsh"}, {"serve", "--help"}} {
		if code, out, errs := run(args...); code != 0 || out == "" || errs != "" {
			t.Errorf("%v: %d %d bytes %q", args, code, len(out), errs)
		}
	}
}

func certificate(t *testing.T, dir string) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(cert)
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER), pool
}
