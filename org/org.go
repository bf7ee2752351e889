// Package org is the reference org: a server that speaks the org's side of the
// protocols of an app authenticator, of the sign-in pages and of OpenID
// Connect.
//
// This file and its neighbours are the composition root: they open the state,
// put the rooms together and hand out one HTTP handler. Rules live in the
// rooms: directory (who), device (with what), policy (what it takes), signin
// (the one sign-in engine), token and session (what comes of it), and the
// facades below api that translate.
package org

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/api/admin"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/park"
	"countersign.dev/org/signingkey"
	"countersign.dev/org/store"
)

// DefaultLoopbackPorts are the ports on which agents may listen for pages.
var DefaultLoopbackPorts = []int{8769, 65111, 65121, 65131, 65141, 65151}

// Config says how to run the org. BaseURL and StateDir are required.
type Config struct {
	BaseURL        string   // as browsers and agents reach it: scheme://host[:port]
	StateDir       string   // created with mode 0700
	Database       string   // SQLite file; empty: org.db in StateDir
	Demo           bool     // seed the demonstration's users and apps, once
	TrustedOrigins []string // further page origins that may call the org
	LoopbackPorts  []int    // nil: DefaultLoopbackPorts
	LegacyOnly     bool     // enrolment in its older shape alone, as orgs had it once
	Log            *slog.Logger
	Now            func() time.Time // nil: time.Now
}

const (
	databaseName   = "org.db"
	adminTokenName = "admin-token"
)

// Server is an open org.
type Server struct {
	config  Config
	lock    *os.File
	db      *store.DB
	lot     *park.Lot // agents that wait for a push
	keys    *signingkey.Ring
	token   okta.Secret
	handler http.Handler
	quiet   func() // ends the giving back of memory; nil before open
}

// Open opens the org's state, creating and seeding what is missing, and puts
// the rooms together. The caller serves Handler and then calls Close.
func Open(ctx context.Context, c Config) (*Server, error) {
	c, err := c.normal()
	if err != nil {
		return nil, err
	}
	if err := store.MakeStateDir(c.StateDir); err != nil {
		return nil, err
	}
	lock, err := store.Lock(c.StateDir)
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, c.Database)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s := &Server{config: c, lock: lock, db: db, lot: park.New(park.Config{Own: []string{"X-Okta-Request-Id"}, Log: c.Log})}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (c Config) normal() (Config, error) {
	u, err := url.Parse(c.BaseURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return c, fmt.Errorf("base URL %q: want http(s)://host[:port]", c.BaseURL)
	}
	// As a browser writes an origin: challenges and answers are compared with it.
	usual := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	c.BaseURL = u.Scheme + "://" + strings.TrimSuffix(strings.ToLower(u.Host), usual)
	if c.StateDir == "" {
		return c, errors.New("no state folder given")
	}
	if c.Database == "" {
		c.Database = filepath.Join(c.StateDir, databaseName)
	}
	if c.LoopbackPorts == nil {
		c.LoopbackPorts = slices.Clone(DefaultLoopbackPorts)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func (s *Server) open(ctx context.Context) error {
	var err error
	if s.token, err = adminToken(s.config.StateDir); err != nil {
		return err
	}
	if s.keys, err = signingkey.Open(ctx, s.db); err != nil {
		return err
	}
	// As many passwords at once as there are processors: more would only wait
	// for each other, with 19 MiB each.
	hasher := directory.NewHasher(runtime.GOMAXPROCS(0))
	if err := s.seed(ctx, hasher); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	registry := device.NewRegistry(s.db, s.config.BaseURL, s.config.Now)
	registry.OnNotice(s.lot.Notify)
	administrator := admin.New(admin.Deps{
		DB: s.db, Registry: registry, Keys: s.keys, Token: s.token, BaseURL: s.config.BaseURL,
		Notify: s.lot.Notify, Now: s.config.Now, Log: s.config.Log,
	})
	mux.Handle("/api/v1/", administrator)
	if err := s.mount(mux, registry, hasher, administrator); err != nil {
		return err
	}
	edge, err := httpx.Edge{BaseURL: s.config.BaseURL, Trusted: s.trustedOrigins, Log: s.config.Log}.Wrap(mux)
	if err != nil {
		return err
	}
	s.handler, s.quiet = givingBack(edge)
	return nil
}

// Handler serves the whole org.
func (s *Server) Handler() http.Handler { return s.handler }

// Returning is where connections come back on which an agent waited for a push.
// The caller serves it with the same http.Server as its other listeners; if it
// does not, such a connection ends with its answer.
func (s *Server) Returning() net.Listener { return s.lot.Listener() }

// Waiting says how many agents wait for a push.
func (s *Server) Waiting() int { return s.lot.Waiting() }

// AdminToken is the secret of the administrator's API.
func (s *Server) AdminToken() okta.Secret { return s.token }

// Close ends the use of the state. Requests still running fail; those that
// wait for a push are answered. It may be called more than once.
func (s *Server) Close() error {
	s.lot.Close()
	if s.quiet != nil {
		s.quiet()
	}
	err := s.db.Close()
	if e := s.lock.Close(); e != nil && !errors.Is(e, os.ErrClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// healthz says whether the org can serve, which takes an answering store.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := s.db.Ping(ctx); err != nil {
		s.config.Log.ErrorContext(ctx, "health check failed", "error", err)
		httpx.WriteJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "unavailable"})
		return
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// trustedOrigins reads the list for each request that carries an Origin, so
// that a change counts at once. Without an answer nobody is trusted.
func (s *Server) trustedOrigins(ctx context.Context) []string {
	var list []string
	err := s.db.Read(ctx, func(tx store.Tx) (err error) {
		list, err = directory.TrustedOrigins(ctx, tx)
		return err
	})
	if err != nil {
		s.config.Log.ErrorContext(ctx, "trusted origins unknown", "error", err)
		return nil
	}
	return list
}

// adminToken reads the administrator's token, or makes it the first time.
func adminToken(dir string) (okta.Secret, error) {
	for {
		b, err := store.ReadSecret(dir, adminTokenName, 256)
		if err == nil {
			token := strings.TrimSpace(string(b))
			if len(token) < 32 {
				return "", fmt.Errorf("reading %s: the token is too short; remove the file to get a new one", filepath.Join(dir, adminTokenName))
			}
			return okta.Secret(token), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("reading the admin token: %w", err)
		}
		if err := store.WriteSecret(dir, adminTokenName, []byte(ids.Secret()+"\n")); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("writing the admin token: %w", err)
		}
	}
}
