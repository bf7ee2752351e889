package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"countersign.dev/okta/oktatest"
)

// BenchmarkChallenge is one silent challenge over loopback: verified, claimed
// on disk, signed, delivered. Making the challenge is not counted.
func BenchmarkChallenge(b *testing.B) {
	org := oktatest.NewOrg(b)
	a := startAgent(b, testConfig(b))
	a.enrol(b, org)
	url := fmt.Sprintf("http://127.0.0.1:%d/challenge", a.port())
	tokens := make([][]byte, b.N)
	for i := range tokens {
		tokens[i], _ = json.Marshal(map[string]string{"challengeRequest": org.Challenge(nil)})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, body := range tokens {
		r, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
		r.Header["Content-Type"], r.Header["Origin"] = []string{"application/json"}, []string{org.URL}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status)
		}
	}
}
