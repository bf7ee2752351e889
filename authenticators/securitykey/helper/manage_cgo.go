//go:build cgo && !windows

package helper

import (
	"encoding/hex"

	"github.com/keys-pub/go-libfido2"

	"countersign.dev/authenticators/securitykey/wire"
)

// manages refuses a key that names none of the options.
func (k *key) manages(options ...string) error {
	info, err := k.info()
	if err != nil {
		return err
	}
	for _, o := range options {
		// Of fingerprints, "false" is: none yet.
		if option(info, o) != libfido2.Default {
			return nil
		}
	}
	return fail(wire.Unsupported, "the key has none of %q", options)
}

// alone has go-libfido2 do something, which opens the key for each call: ours has to
// be closed then.
func (k *key) alone(do func(*libfido2.Device) error) error {
	if k.ctx.Err() != nil { // a call may hang, and must keep what it uses
		return k.cause()
	}
	k.line.close()
	dev, err := libfido2.NewDevice(k.req.Device)
	if err != nil {
		return fail(wire.BadRequest, "%v", err)
	}
	return k.call(func() { _ = dev.Cancel() }, false, func() error { return do(dev) })
}

func (k *key) credentials() (*wire.Result, error) {
	if err := k.manages("credMgmt", "credentialMgmtPreview"); err != nil {
		return nil, err
	}
	pin, err := k.pin()
	if err != nil {
		return nil, err
	}
	result := &wire.Result{}
	var meta *libfido2.CredentialsInfo
	if err := k.alone(func(dev *libfido2.Device) (err error) {
		meta, err = dev.CredentialsInfo(pin)
		return err
	}); err != nil {
		return nil, err
	}
	result.Left = int(max(0, min(meta.RKRemaining, 1<<20)))
	var parties []*libfido2.RelyingParty
	if meta.RKExisting > 0 {
		if err := k.alone(func(dev *libfido2.Device) (err error) {
			parties, err = dev.RelyingParties(pin)
			return err
		}); err != nil && !is(err, wire.NoCredential) {
			return nil, err
		}
	}
	for _, rp := range parties {
		if rp.ID == "" {
			continue // too long for the key to remember
		}
		var found []*libfido2.Credential
		if err := k.alone(func(dev *libfido2.Device) (err error) {
			found, err = dev.Credentials(rp.ID, pin)
			return err
		}); err != nil && !is(err, wire.NoCredential) {
			return nil, err
		}
		for _, c := range found {
			result.Credentials = append(result.Credentials, wire.Credential{
				ID: c.ID, RPID: rp.ID, RP: rp.Name, User: wire.User{ID: c.User.ID, Name: c.User.Name, DisplayName: c.User.DisplayName},
			})
		}
	}
	return result, nil
}

func (k *key) deleteCredential() error {
	if len(k.req.CredentialIDs) != 1 || len(k.req.CredentialIDs[0]) == 0 {
		return fail(wire.BadRequest, "%d credentials to delete", len(k.req.CredentialIDs))
	}
	if err := k.manages("credMgmt", "credentialMgmtPreview"); err != nil {
		return err
	}
	pin, err := k.pin()
	if err != nil {
		return err
	}
	return k.alone(func(dev *libfido2.Device) error { return dev.DeleteCredential(k.req.CredentialIDs[0], pin) })
}

func (k *key) fingerprints() (*wire.Result, error) {
	if err := k.manages("bioEnroll", "userVerificationMgmtPreview"); err != nil {
		return nil, err
	}
	if option(k.asked, "bioEnroll") == libfido2.False || option(k.asked, "userVerificationMgmtPreview") == libfido2.False {
		return &wire.Result{}, nil // none yet; asked for them, a key says that this is no option
	}
	pin, err := k.pin()
	if err != nil {
		return nil, err
	}
	var found []libfido2.BioTemplate
	if err := k.alone(func(dev *libfido2.Device) (err error) {
		found, err = dev.BioList(pin)
		return err
	}); err != nil {
		return nil, err
	}
	result := &wire.Result{}
	for _, f := range found {
		result.Fingerprints = append(result.Fingerprints, wire.Fingerprint{ID: f.ID, Name: f.Name})
	}
	return result, nil
}

func (k *key) enrolFingerprint() (*wire.Result, error) {
	if err := k.manages("bioEnroll", "userVerificationMgmtPreview"); err != nil {
		return nil, err
	}
	pin, err := k.pin()
	if err != nil {
		return nil, err
	}
	id, err := k.readFinger(pin)
	if err != nil {
		return nil, err
	}
	print := wire.Fingerprint{ID: hex.EncodeToString(id)}
	if k.req.Name != "" {
		if err := k.alone(func(dev *libfido2.Device) error { return dev.BioSetTemplateName(pin, print.ID, k.req.Name) }); err != nil {
			return nil, err
		}
		print.Name = k.req.Name
	}
	return &wire.Result{Fingerprints: []wire.Fingerprint{print}}, nil
}

func (k *key) dropFingerprint() error {
	if id, err := hex.DecodeString(k.req.Template); err != nil || len(id) == 0 {
		return fail(wire.BadRequest, "no id of a fingerprint")
	}
	if err := k.manages("bioEnroll", "userVerificationMgmtPreview"); err != nil {
		return err
	}
	pin, err := k.pin()
	if err != nil {
		return err
	}
	return k.alone(func(dev *libfido2.Device) error { return dev.BioDelete(pin, k.req.Template) })
}
