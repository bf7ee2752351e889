//go:build linux

// Package faults breaks what stands between an agent and its org, and beneath
// each of them, at every step of an enrolment and of an answer: the network,
// names, certificates, clocks, disks, the org's database, the org itself.
//
// Org and agent run in this process, with their real doors: the org behind a
// proxy that speaks TLS and misbehaves when told to, under a name that only the
// resolver of this process knows. What must hold after each fault is written
// once, in world.mustHold: no account lost, no approval twice or unasked for, no
// answer without a record, and a sign-in that works.
//
// COUNTERSIGN_SLOW=1 runs each table whole; without it a selection is run.
package faults

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// slow says whether the whole tables are wanted.
var slow = os.Getenv("COUNTERSIGN_SLOW") == "1"

// domain is where the orgs of this process live.
const domain = "countersign.test"

var (
	ca      authority // the one that this process trusts
	names   nameserver
	doors   sync.Map // host:port of an org -> where it really listens
	scratch string   // a folder of this process
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if code, ran := inside(); ran {
		return code
	}
	flag.Parse()
	// Most of what is waited for is a deadline.
	err := flag.Set("test.parallel", "12")
	if err == nil {
		err = setup()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	}
	code := m.Run()
	unmountAll()
	if err := os.RemoveAll(scratch); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
	}
	return code
}

// inside runs this program again where it may mount file systems, if the system
// has such a place for it: namespaces of its own.
func inside() (code int, ran bool) {
	const mark = "COUNTERSIGN_FAULTS_INSIDE"
	if os.Getenv(mark) != "" {
		return 0, false
	}
	for _, attr := range ownNamespaces() {
		again := exec.Command("/proc/self/exe", os.Args[1:]...)
		again.Env = append(os.Environ(), mark+"=1")
		again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
		again.SysProcAttr = attr
		if err := again.Start(); err != nil {
			continue
		}
		err := again.Wait()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit):
			return max(1, exit.ExitCode()), true
		case err != nil:
			fmt.Fprintln(os.Stderr, "faults:", err)
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

func setup() (err error) {
	syscall.Umask(0o077) // copies of an org's state are private, too
	if scratch, err = os.MkdirTemp("", "cs-faults-"); err != nil {
		return err
	}
	if ca, err = newAuthority(); err != nil {
		return err
	}
	// The authority is trusted the way a machine's administrator does it. This
	// is read once, at the first use.
	file := filepath.Join(scratch, "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), 0o600); err != nil {
		return err
	}
	if err := errors.Join(os.Setenv("SSL_CERT_FILE", file), os.Setenv("SSL_CERT_DIR", scratch+"/none")); err != nil {
		return err
	}
	if err := names.start(); err != nil {
		return err
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: names.dial}
	// Pages reach the org by the back door: what is broken here is the agent's
	// way to it.
	http.DefaultTransport = &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			door, ok := doors.Load(address)
			if !ok {
				return nil, fmt.Errorf("no org at %s", address)
			}
			return new(net.Dialer).DialContext(ctx, network, door.(string))
		},
	}
	return nil
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority() (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fault matrix"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return authority{cert, key}, err
}

// issue makes a server's certificate for one name, valid until then.
func (a authority) issue(name string, until time.Time) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	}, nil
}
