package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
)

const crowdPassword = "Countersign-Demo-1"

// crowd is an org's state with many users. It is written before the org is
// started, by the org's own rooms.
type crowd struct {
	state, url string
	logins     []string
	devices    []crowdDevice
}

// crowdDevice is an enrolled device that no agent belongs to.
type crowdDevice struct {
	enrolment, user string
	key             jose.Signer
}

// newCrowd makes an org at url with users, and if asked one device for each.
func newCrowd(state, url string, users int, devices bool) (_ *crowd, err error) {
	ctx := context.Background()
	// Opened once as the org itself does it: keys, apps, the demonstration.
	server, err := org.Open(ctx, org.Config{BaseURL: url, StateDir: state, Demo: true})
	if err != nil {
		return nil, fmt.Errorf("founding the org: %w", err)
	}
	if err := server.Close(); err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, filepath.Join(state, "org.db"))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	c := &crowd{state: state, url: url}
	hash, err := directory.NewHasher(1).Hash(ctx, crowdPassword)
	if err != nil {
		return nil, err
	}
	var info directory.OrgInfo
	var ids []string
	err = db.Write(ctx, func(tx store.Tx) error {
		if info, err = directory.Org(ctx, tx); err != nil {
			return err
		}
		for i := range users {
			login := "user" + strconv.Itoa(i) + "@example.com"
			u, err := directory.CreateUser(ctx, tx, directory.User{Login: login, Email: login, FirstName: "User", LastName: strconv.Itoa(i), PasswordHash: hash}, time.Now())
			if err != nil {
				return err
			}
			c.logins, ids = append(c.logins, login), append(ids, u.ID)
		}
		return nil
	})
	if err != nil || !devices {
		return c, err
	}
	registry := device.NewRegistry(db, url, nil)
	for _, id := range ids {
		key, pop, err := newKey()
		if err != nil {
			return nil, err
		}
		_, client, err := newKey()
		if err != nil {
			return nil, err
		}
		e, err := registry.Create(ctx, device.ByUser(id), okta.EnrolmentRequest{
			AuthenticatorID: info.Authenticators.OktaVerify,
			Device: okta.Device{ClientInstanceKey: client, Platform: "LINUX", OSVersion: "6.1", DisplayName: "listener",
				BundleID: "bench", Version: "1", SDKVersion: okta.DeviceSDK},
			Methods: okta.MethodRequests{Push: &okta.MethodRequest{PushToken: new(string), Keys: &okta.MethodKeys{ProofOfPossession: pop}}},
		})
		if err != nil {
			return nil, fmt.Errorf("enrolling a listener: %w", err)
		}
		c.devices = append(c.devices, crowdDevice{e.ID, id, key})
	}
	return c, nil
}

func newKey() (jose.Signer, *jose.JWK, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	kid := rand.Text()
	jwk, err := jose.NewJWK(kid, private.Public(), jose.ProtectionSoftware)
	return jose.SoftwareSigner(kid, private), &jwk, err
}

// proof is the token by which a device asks for its pending list.
func (d crowdDevice) proof(orgURL string) (string, error) {
	now := time.Now()
	return jose.Sign(context.Background(), d.key, okta.TypeEnrolmentUpdate, map[string]any{
		"iss": d.enrolment, "sub": d.user, "aud": orgURL, "jti": rand.Text(), "kid": d.key.KeyID(),
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "nbf": now.Add(-time.Minute).Unix(),
	})
}

// start runs the org on the prepared state.
func (c *crowd) start(b *bench, port int) (*process, error) {
	return start(b.program("countersign-org"), "serve", "--demo", "--state", c.state, "--listen", "127.0.0.1:"+strconv.Itoa(port), "--log-level", "error")
}
