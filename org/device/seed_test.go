package device_test

import (
	"encoding/base32"
	"fmt"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

func (h *house) withCodes(a devicetest.Agent) okta.EnrolmentRequest {
	req := h.request(a)
	req.Methods.TOTP = &okta.MethodRequest{}
	return req
}

// secret is the seed that an answer of Create carries.
func secret(e device.Enrolment) string {
	m, _ := e.Method(okta.MethodTOTP)
	return m.SharedSecret.Reveal()
}

// seeds counts the rows of an enrolment's codes that have these values.
func (h *house) seeds(e device.Enrolment, secret string) (n int) {
	h.t.Helper()
	storetest.Read(h.t, h.db, func(tx store.Tx) error {
		return tx.QueryRowContext(h.t.Context(), `SELECT COUNT(*) FROM totp_secrets s JOIN enrolment_methods m ON m.id = s.method_id
			WHERE m.enrolment_id = ? AND s.secret = ? AND s.algorithm = 'SHA1' AND s.digits = 6 AND s.period = 30 AND s.last_step = 0`, e.ID, secret).Scan(&n)
	})
	return n
}

func TestCreateWithCodes(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	e, err := h.Create(t.Context(), device.ByUser(h.alice.ID), h.withCodes(a))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret(e))
	if err != nil || len(raw) != 20 || h.seeds(e, secret(e)) != 1 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	if m, _ := e.Method(okta.MethodTOTP); len(m.Keys) != 0 || len(m.TransactionTypes) != 0 || fmt.Sprintf("%v %+v", m, e) == "" {
		t.Errorf("%+v", m)
	}
	if len(e.Methods) != 3 {
		t.Errorf("%d methods", len(e.Methods))
	}
	// The answer got lost.
	again, err := h.Create(t.Context(), device.ByUser(h.alice.ID), h.withCodes(a))
	if err != nil || again.ID != e.ID || secret(again) != secret(e) {
		t.Errorf("repeated: %+v, %v", again, err)
	}
	other, err := h.Create(t.Context(), device.ByUser(h.bob.ID), h.withCodes(devicetest.New(t)))
	if err != nil || secret(other) == secret(e) || secret(other) == "" {
		t.Errorf("another enrolment: %v", err)
	}
	// Nobody else is told.
	updated, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, patch(t, `{"methods":{"totp":{}}}`))
	if err != nil || secret(updated) != "" {
		t.Errorf("update tells the secret: %v", err)
	}
	storetest.Read(t, h.db, func(tx store.Tx) error {
		e, err := device.ByID(t.Context(), tx, e.ID)
		if secret(e) != "" {
			t.Error("reading tells the secret")
		}
		return err
	})
	// Neither is whoever repeats the request after the first code was taken.
	storetest.Write(t, h.db, func(tx store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE totp_secrets SET last_step = 1`)
		return err
	})
	if late, err := h.Create(t.Context(), device.ByUser(h.alice.ID), h.withCodes(a)); err != nil || late.ID != e.ID || secret(late) != "" {
		t.Errorf("after a code was taken: %v", err)
	}
}

// Each way in which a device, having lost the answer, asks for it once more.
func TestLostSecretByLink(t *testing.T) {
	h := newHouse(t)
	l, a := h.link(h.alice), devicetest.New(t)
	first, err := h.Create(t.Context(), device.ByLink(l.Token), h.withCodes(a))
	if err != nil || secret(first) == "" {
		t.Fatal(err)
	}
	h.pass(time.Hour)
	again, err := h.Create(t.Context(), device.ByLink(l.Token), h.withCodes(a))
	if err != nil || secret(again) != secret(first) {
		t.Errorf("%v", err)
	}
}

func TestPatchOfCodes(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	e, err := h.Create(t.Context(), device.ByUser(h.alice.ID), h.withCodes(a))
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{
		`{"methods":{"totp":null}}`,
		`{"methods":{"totp":{"pushToken":"x"}}}`,
		`{"methods":{"totp":{"capabilities":{"transactionTypes":["LOGIN"]}}}}`,
		`{"methods":{"totp":{"keys":null}}}`,
		`{"methods":{"totp":{"keys":{"userVerification":` + string(a.UV.Raw(t)) + `}}}}`,
		`{"methods":{"totp":{"keys":{"proofOfPossession":` + string(a.UV.Raw(t)) + `}}}}`,
	} {
		_, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, patch(t, body))
		h.wantCode(body, err, okta.CodeValidation)
	}
}

// A suspended enrolment keeps its secret, one that is gone does not, however
// it went.
func TestSecretsEndWithTheirEnrolment(t *testing.T) {
	h := newHouse(t)
	var e [3]device.Enrolment
	for i := range e {
		var err error
		if e[i], err = h.Create(t.Context(), device.ByUser(h.alice.ID), h.withCodes(devicetest.New(t))); err != nil {
			t.Fatal(err)
		}
	}
	storetest.Write(t, h.db, func(tx store.Tx) error {
		return device.SetStatus(t.Context(), tx, e[0].ID, device.StatusSuspended, h.clock())
	})
	if err := h.Delete(t.Context(), device.AsUser(h.alice.ID), e[1].ID); err != nil {
		t.Fatal(err)
	}
	h.setDevice(e[2].Device.ID, device.StatusDeleted)
	for i, want := range []int{1, 0, 0} {
		if got := h.seeds(e[i], secret(e[i])); got != want {
			t.Errorf("%d: %d secrets, want %d", i, got, want)
		}
	}
}
