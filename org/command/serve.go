package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"countersign.dev/org"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/store"
	"countersign.dev/program"
)

// shutdownTime is what requests get to finish after a signal; the whole
// program ends within 2 s.
const shutdownTime = 1200 * time.Millisecond

type serveFlags struct {
	listen, baseURL, state, database string
	tlsListen, tlsCert, tlsKey       string
	demo, legacy                     bool
	origins                          []string
	ports                            []int
	logLevel                         string
}

func serveCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the org server",
		Long: `Run the org server until SIGTERM or SIGINT.

When it is ready it prints one line of JSON on standard output: the org's URL
and, with --demo, the admin token, which otherwise lies in STATE/admin-token.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return serve(c, f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:8080", "address for http; port 0 takes a free one; empty: none")
	fl.StringVar(&f.baseURL, "base-url", "", "URL by which browsers and agents reach the org (default localhost and the port)")
	fl.StringVar(&f.state, "state", "", "folder of the org's state (default "+defaultState()+")")
	fl.StringVar(&f.database, "database", "", "SQLite file, in place of --state")
	fl.BoolVar(&f.demo, "demo", false, "seed demonstration users and apps, once; print the admin token")
	fl.BoolVar(&f.legacy, "legacy", false, "serve enrolment in its older shape only, for trying agents")
	fl.StringArrayVar(&f.origins, "trusted-origin", nil, "page origin that may call the org; may be repeated")
	fl.StringVar(&f.tlsListen, "tls-listen", "", "address for https")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "certificate chain, PEM")
	fl.StringVar(&f.tlsKey, "tls-key", "", "private key, PEM")
	fl.IntSliceVar(&f.ports, "loopback-ports", org.DefaultLoopbackPorts, "ports on which agents may listen for pages")
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

// readyLine is what scripts wait for. The token is a plain string on purpose:
// printing it is the point.
type readyLine struct {
	Ready      bool   `json:"ready"`
	URL        string `json:"url"`
	AdminToken string `json:"adminToken,omitempty"`
}

func serve(c *cobra.Command, f serveFlags) error {
	ctx := c.Context()
	config, err := f.config()
	if err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	config.Log = slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level}))

	listeners, url, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range listeners {
			l.Close() // the servers have closed them already, unless we never got there
		}
	}()
	config.BaseURL = url
	server, err := org.Open(ctx, config)
	if err != nil {
		return openFailure(err)
	}
	defer server.Close()
	if plainAndRemote(url) {
		config.Log.WarnContext(ctx, "base URL is plain http on a host that is not this machine; agents will refuse it", "url", url)
	}

	ready := readyLine{Ready: true, URL: url}
	if f.demo {
		ready.AdminToken = server.AdminToken().Reveal()
	}
	if err := program.PrintJSON(c.OutOrStdout(), ready); err != nil {
		return &program.Failure{Err: fmt.Errorf("print the ready line: %w", err)}
	}
	config.Log.InfoContext(ctx, "org ready", "url", url, "state", config.StateDir)
	return run(ctx, append(listeners, server.Returning()), httpx.NewServer(server.Handler(), config.Log))
}

// run serves until ctx ends or a listener fails, and waits for requests that
// are being answered.
func run(ctx context.Context, listeners []net.Listener, server *http.Server) error {
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- server.Serve(l) }()
	}
	running := len(listeners)
	var broken error
	select {
	case <-ctx.Done():
	case broken = <-failed:
		running--
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		server.Close() // somebody is too slow to wait for
	}
	for range running {
		<-failed
	}
	if broken != nil && !errors.Is(broken, http.ErrServerClosed) {
		return &program.Failure{Err: fmt.Errorf("serve: %w", broken)}
	}
	return nil
}

// config checks the flags that need no listening.
func (f serveFlags) config() (org.Config, error) {
	config := org.Config{Demo: f.demo, LegacyOnly: f.legacy, TrustedOrigins: f.origins, LoopbackPorts: f.ports}
	switch {
	case f.listen == "" && f.tlsListen == "":
		return config, errors.New("nothing to listen on: give --listen or --tls-listen")
	case (f.tlsListen == "") != (f.tlsCert == "") || (f.tlsCert == "") != (f.tlsKey == ""):
		return config, errors.New("--tls-listen, --tls-cert and --tls-key belong together")
	case f.state != "" && f.database != "":
		return config, errors.New("--state and --database exclude each other")
	}
	for _, origin := range f.origins {
		if u, err := url.Parse(origin); err != nil && !strings.HasSuffix(origin, ":*") || err == nil && (u.Scheme == "" || u.Host == "" || strings.TrimPrefix(origin, u.Scheme+"://") != u.Host) {
			return config, fmt.Errorf("--trusted-origin: %q is not an origin such as https://app.example.com", origin)
		}
	}
	if u, err := url.Parse(f.baseURL); f.baseURL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil) {
		return config, fmt.Errorf("--base-url: %q is not a URL such as https://id.example.com", f.baseURL)
	}
	for _, p := range f.ports {
		if p < 1 || p > 65535 {
			return config, fmt.Errorf("--loopback-ports: %d is not a port", p)
		}
	}
	config.StateDir = f.state
	if config.StateDir == "" {
		config.StateDir = defaultState()
	}
	if f.database != "" {
		path, err := sqlitePath(f.database)
		if err != nil {
			return config, err
		}
		config.StateDir, config.Database = filepath.Dir(path), path
	}
	if config.StateDir == "" {
		return config, errors.New("there is no home folder to keep state in: give --state")
	}
	return config, nil
}

// sqlitePath accepts a path, bare or as "sqlite:PATH".
func sqlitePath(database string) (string, error) {
	path, isSQLite := strings.CutPrefix(database, "sqlite:")
	if isSQLite {
		path = strings.TrimPrefix(path, "//")
	} else if scheme, _, hasScheme := strings.Cut(database, "://"); hasScheme {
		return "", &program.Failure{
			Err:  fmt.Errorf("--database: %s databases are not supported yet", scheme),
			Hint: "give the path of a SQLite file, or --state DIR", Code: program.Usage,
		}
	}
	if path == "" || strings.ContainsAny(path, "?#") {
		return "", errors.New("--database: want the path of a SQLite file")
	}
	return filepath.Abs(path)
}

// open listens, and says under which URL the org is reached: localhost, since
// a browser treats that name as secure and as one site, unlike an address.
func (f serveFlags) open(ctx context.Context) ([]net.Listener, string, error) {
	var listeners []net.Listener
	fail := func(err error) ([]net.Listener, string, error) {
		for _, l := range listeners {
			l.Close()
		}
		return nil, "", err
	}
	var base string
	var config net.ListenConfig
	if f.listen != "" {
		l, err := config.Listen(ctx, "tcp", f.listen)
		if err != nil {
			return fail(listenFailure("--listen", f.listen, err))
		}
		listeners = append(listeners, l)
		base = "http://localhost" + portSuffix(l, "80")
	}
	if f.tlsListen != "" {
		cert, err := tls.LoadX509KeyPair(f.tlsCert, f.tlsKey)
		if err != nil {
			return fail(&program.Failure{Err: fmt.Errorf("load the certificate: %w", err)})
		}
		l, err := config.Listen(ctx, "tcp", f.tlsListen)
		if err != nil {
			return fail(listenFailure("--tls-listen", f.tlsListen, err))
		}
		base = "https://localhost" + portSuffix(l, "443")
		// The listener is told, so that one server serves both kinds.
		listeners = append(listeners, tls.NewListener(l, &tls.Config{
			Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		}))
	}
	if f.baseURL != "" {
		base = strings.TrimSuffix(f.baseURL, "/")
	}
	return listeners, base, nil
}

// listenFailure says why an address cannot be listened on: one that is none is
// wrong usage.
func listenFailure(flag, address string, err error) error {
	why := err
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Err != nil {
		why = op.Err // the address is said already
	}
	if system := (*os.SyscallError)(nil); errors.As(err, &system) {
		f := &program.Failure{Err: fmt.Errorf("listen on %s: %w", address, system.Err)}
		if errors.Is(err, syscall.EADDRINUSE) {
			f.Hint = "another program uses the port; " + flag + " 127.0.0.1:0 takes a free one"
		}
		return f
	}
	return &program.Failure{Err: fmt.Errorf("listen on %q: %w", address, why), Hint: flag + " wants HOST:PORT, e.g. 127.0.0.1:8080", Code: program.Usage}
}

func portSuffix(l net.Listener, usual string) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if port == usual {
		return ""
	}
	return ":" + port
}

// openFailure adds what to do to the failures that have a remedy.
func openFailure(err error) error {
	f := &program.Failure{Err: fmt.Errorf("open the org: %w", err)}
	if errors.Is(err, store.ErrUnsafe) {
		f.Hint = "the state must belong to you and to nobody else: chmod 700 the folder, chmod 600 the files, or give another --state"
	}
	// The numbers are SQLite's: corrupt, and not a database.
	if coded := (interface{ Code() int })(nil); errors.As(err, &coded) && (coded.Code()&0xff == 11 || coded.Code()&0xff == 26) {
		f.Hint = "the database is damaged, nothing was written: put a backup in its place, or give another --state"
	}
	if errors.Is(err, store.ErrInUse) {
		f.Hint = "stop the org that runs on this state, or give another --state"
	}
	return f
}

func plainAndRemote(base string) bool {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
}

// defaultState is where state lies when nobody says otherwise.
func defaultState() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name)
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		if dir, err := os.UserConfigDir(); err == nil {
			return filepath.Join(dir, name)
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", name)
}
