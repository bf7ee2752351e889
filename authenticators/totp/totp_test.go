package totp_test

import (
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"countersign.dev/authenticators/totp"
)

// The vectors of RFC 6238, appendix B.
func TestVectors(t *testing.T) {
	seed := func(n int) totp.Seed {
		b := make([]byte, n)
		for i := range b {
			b[i] = "1234567890"[i%10]
		}
		return totp.Seed(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
	}
	for _, c := range []struct {
		unix                 int64
		sha1, sha256, sha512 string
	}{
		{59, "94287082", "46119246", "90693936"},
		{1111111109, "07081804", "68084774", "25091201"},
		{1111111111, "14050471", "67062674", "99943326"},
		{1234567890, "89005924", "91819424", "93441116"},
		{2000000000, "69279037", "90698825", "38618901"},
		{20000000000, "65353130", "77737706", "47863826"},
	} {
		for _, v := range []struct {
			p    totp.Parameters
			want string
		}{
			{totp.Parameters{Seed: seed(20), Algorithm: totp.SHA1, Digits: 8, Period: 30}, c.sha1},
			{totp.Parameters{Seed: seed(32), Algorithm: totp.SHA256, Digits: 8, Period: 30}, c.sha256},
			{totp.Parameters{Seed: seed(64), Algorithm: totp.SHA512, Digits: 8, Period: 30}, c.sha512},
		} {
			code, left, err := v.p.Code(time.Unix(c.unix, 0))
			if err != nil || code != v.want {
				t.Errorf("%s at %d: %s, %v; want %s", v.p.Algorithm, c.unix, code, err, v.want)
			}
			if want := time.Duration(30-c.unix%30) * time.Second; left != want {
				t.Errorf("at %d the code is good for %v, want %v", c.unix, left, want)
			}
		}
	}
}

func TestParametersRefused(t *testing.T) {
	good := totp.Parameters{Seed: "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", Algorithm: totp.SHA1, Digits: 6, Period: 30}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*totp.Parameters){
		"zero":        func(p *totp.Parameters) { *p = totp.Parameters{} },
		"no seed":     func(p *totp.Parameters) { p.Seed = "" },
		"short seed":  func(p *totp.Parameters) { p.Seed = "JBSWY3DP" },
		"not base32":  func(p *totp.Parameters) { p.Seed = "0189!JBSWY3DPEHPK3PXP" },
		"algorithm":   func(p *totp.Parameters) { p.Algorithm = "MD5" },
		"five digits": func(p *totp.Parameters) { p.Digits = 5 },
		"nine digits": func(p *totp.Parameters) { p.Digits = 9 },
		"no period":   func(p *totp.Parameters) { p.Period = 0 },
		"long period": func(p *totp.Parameters) { p.Period = 1 << 20 },
	} {
		p := good
		change(&p)
		if _, _, err := p.Code(time.Now()); !errors.Is(err, totp.ErrParameters) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := good.Code(time.Unix(-1, 0)); !errors.Is(err, totp.ErrClock) || errors.Is(err, totp.ErrParameters) {
		t.Errorf("before 1970: %v", err)
	}
}

func TestSeedNeverPrints(t *testing.T) {
	p := totp.Parameters{Seed: "JBSWY3DPEHPK3PXP", Algorithm: totp.SHA1, Digits: 6, Period: 30}
	printed := fmt.Sprintf("%v %+v %#v %s %q %x %v", p, p, p, p.Seed, p.Seed, p.Seed, &p)
	if containsSeed(printed) {
		t.Errorf("the seed is printed: %s", printed)
	}
}

func containsSeed(s string) bool {
	return strings.Contains(s, "JBSWY3DPEHPK3PXP") || strings.Contains(s, fmt.Sprintf("%x", "JBSWY3DPEHPK3PXP"))
}
