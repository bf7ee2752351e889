package softkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"sync"
	"time"
)

// CA is a maker of keys: its certificate is what a relying party has to know to
// believe what the keys say of themselves.
type CA struct {
	Certificate *x509.Certificate
	maker       string
	key         *ecdsa.PrivateKey

	mu     sync.Mutex
	issued map[[16]byte]attestor
}

// attestor signs for all keys of a model.
type attestor struct {
	der []byte
	key *ecdsa.PrivateKey
}

// NewCA makes one, by a name like "Example Keys".
func NewCA(maker string) *CA {
	ca := &CA{maker: maker, key: newP256(), issued: map[[16]byte]attestor{}}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Country: []string{"SE"}, Organization: []string{maker}, CommonName: maker + " Root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	ca.Certificate = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, t, t, &ca.key.PublicKey, ca.key))))
	return ca
}

func newP256() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// model gives the certificate of a model (WebAuthn 2, 8.2.1).
func (ca *CA) model(aaguid [16]byte) attestor {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if a, done := ca.issued[aaguid]; done {
		return a
	}
	a := attestor{key: newP256()}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(int64(2 + len(ca.issued))),
		Subject: pkix.Name{
			Country: []string{"SE"}, Organization: []string{ca.maker}, OrganizationalUnit: []string{"Authenticator Attestation"},
			CommonName: ca.maker + " Batch",
		},
		NotBefore: ca.Certificate.NotBefore, NotAfter: ca.Certificate.NotAfter, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{
			// id-fido-gen-ce-aaguid
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}, Value: must(asn1.Marshal(aaguid[:]))},
			// id-fido-u2f-ce-transports: USB
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 2, 1, 1}, Value: must(asn1.Marshal(asn1.BitString{Bytes: []byte{0x20}, BitLength: 4}))},
		},
	}
	a.der = must(x509.CreateCertificate(rand.Reader, t, ca.Certificate, &a.key.PublicKey, ca.key))
	ca.issued[aaguid] = a
	return a
}
