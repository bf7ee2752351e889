//go:build unix

package tpm

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
)

// BenchmarkSign: one signature by a silent key that is in use, beside what
// go-tpm alone takes for it on the same TPM in the same run: with its own
// salted session that is kept (x_salted) and with none, an empty password
// (x_plain). The TPM has an SRK at the usual handle, so that all keys have room.
func BenchmarkSign(b *testing.B) {
	x := tpmtest.New(b)
	if err := x.KeepRoot(); err != nil {
		b.Fatal(err)
	}
	k, _, err := NewStore(open(b, x), newRooms()).Create(b.Context(), quiet)
	if err != nil {
		b.Fatal(err)
	}
	raw, err := linuxudstpm.Open(x.Socket)
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Close()
	bare := bareKey(b, raw)
	salted, end, err := tpm2.HMACSession(raw, tpm2.TPMAlgSHA256, 16, tpm2.Salted(persistentSRK, bare.root))
	if err != nil {
		b.Fatal(err)
	}
	defer end()

	const batch = 10
	var ours, withSession, plain []time.Duration
	timed := func(list *[]time.Duration, sign func() error) {
		begin := time.Now()
		for range batch {
			if err := sign(); err != nil {
				b.Fatal(err)
			}
		}
		*list = append(*list, time.Since(begin))
	}
	for b.Loop() {
		timed(&plain, func() error { return bare.sign(raw, tpm2.PasswordAuth(nil)) })
		timed(&withSession, func() error { return bare.sign(raw, salted) })
		timed(&ours, func() error {
			_, err := k.Sign(b.Context(), digest[:], devicekey.Authorisation{})
			return err
		})
	}
	p50 := func(list []time.Duration) float64 {
		slices.Sort(list)
		return float64(list[len(list)/2].Microseconds()) / batch
	}
	b.ReportMetric(p50(ours), "p50_us")
	b.ReportMetric(p50(ours)/p50(withSession), "x_salted")
	b.ReportMetric(p50(ours)/p50(plain), "x_plain")
}

// rawKey is a key as go-tpm alone has it.
type rawKey struct {
	root tpm2.TPMTPublic
	key  tpm2.NamedHandle
}

func bareKey(b *testing.B, raw transport.TPM) rawKey {
	b.Helper()
	public, err := tpm2.ReadPublic{ObjectHandle: persistentSRK}.Execute(raw)
	if err != nil {
		b.Fatal(err)
	}
	root, err := public.OutPublic.Contents()
	if err != nil {
		b.Fatal(err)
	}
	parent := tpm2.NamedHandle{Handle: persistentSRK, Name: public.Name}
	made, err := tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(template(true))}.Execute(raw)
	if err != nil {
		b.Fatal(err)
	}
	loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: made.OutPrivate, InPublic: made.OutPublic}.Execute(raw)
	if err != nil {
		b.Fatal(err)
	}
	return rawKey{*root, tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}}
}

func (k rawKey) sign(raw transport.TPM, auth tpm2.Session) error {
	_, err := tpm2.Sign{
		KeyHandle: tpm2.AuthHandle{Handle: k.key.Handle, Name: k.key.Name, Auth: auth},
		Digest:    tpm2.TPM2BDigest{Buffer: digest[:]}, InScheme: ecdsaSHA256,
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
	}.Execute(raw)
	return err
}
