package tpm

import (
	"bytes"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
)

// open returns the agent's side of a TPM, which ends with the test and leaves
// nothing in it.
func open(t testing.TB, x *tpmtest.TPM) *TPM {
	t.Helper()
	c := New(Options{Address: x.Socket})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestSeal(t *testing.T) {
	x := tpmtest.New(t)
	c := open(t, x)
	if state := c.Detect(); state.State != devicekey.Ready {
		t.Fatal(state)
	}
	secret := []byte("the key of a vault, 32 bytes long")
	blob, err := c.Seal(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(blob, secret) {
		t.Error("in the clear")
	}
	for range 3 {
		got, err := c.Unseal(t.Context(), blob)
		if err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	// After a restart of computer and agent.
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := x.Loaded(); err != nil || len(left) != 0 {
		t.Errorf("left in the TPM: %x, %v", left, err)
	}
	if err := x.Restart(); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, x).Unseal(t.Context(), blob)
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("%q, %v", got, err)
	}
}
