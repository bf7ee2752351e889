//go:build linux

package keysignin

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"countersign.dev/e2e/harness"
	"countersign.dev/e2e/softkey"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
)

// Bob has no second factor: the org asks for one, his key is enrolled from the
// terminal, and from then on he signs in with it.
func TestEnrolAndSignInFromTheTerminal(t *testing.T) {
	w := newWorld(t)
	key, finger := w.plug(0, "Soft Key")

	// What is missing is said one by one, before the key is bothered.
	w.signIn(w.stage.Org.URL, "", "").refused("the org asks for the password")
	w.signIn(w.stage.Org.URL, harness.Password, "").refused("this takes the PIN of the security key")
	if n := key.PINRetries(); n != 8 {
		t.Errorf("%d tries are left", n)
	}
	w.enrol(finger)
	held := key.Credentials()
	if len(held) != 1 || held[0].RP.ID != "localhost" || held[0].User.Name != harness.Bob || !held[0].Resident {
		t.Fatalf("on the key: %+v", held)
	}

	// With the key; the password alone lets nobody in any more.
	s := w.signIn(w.stage.Org.URL, harness.Password, keyPIN, "--no-enrol", "--json")
	s.told("Soft Key")
	w.touch(finger)
	out, _, err := s.end()
	w.must(err)
	var done api.KeySignedIn
	w.must(json.Unmarshal([]byte(out), &done))
	if done.User != harness.Bob || done.Enrolled || done.Key != "Soft Key" || done.Org != w.stage.Org.URL || done.UserID == "" ||
		!slices.Contains(done.AMR, "pwd") || !slices.Contains(done.AMR, "pop") || !slices.Contains(done.AMR, "mfa") {
		t.Errorf("%+v", done)
	}
	if n := len(key.Credentials()); n != 1 {
		t.Errorf("%d credentials are on the key", n)
	}
	// What the key keeps is seen, and deleted; the org does not know of that, and the
	// key says so.
	var kept api.KeyCredentialList
	w.says(&kept, "securitykey", "credential", "list", "--pin-stdin")
	if len(kept.Credentials) != 1 || kept.Credentials[0].RPID != "localhost" || kept.Credentials[0].User != harness.Bob {
		t.Fatalf("%+v", kept)
	}
	_, err = w.agent.Tell(w.ctx, keyPIN+"\n", "securitykey", "credential", "delete", kept.Credentials[0].ID, "--confirm", "localhost", "--pin-stdin")
	w.must(err)
	w.says(&kept, "securitykey", "credential", "list", "--pin-stdin")
	if len(kept.Credentials) != 0 || len(key.Credentials()) != 0 {
		t.Fatalf("%+v, %+v", kept, key.Credentials())
	}
	w.signIn(w.stage.Org.URL, harness.Password, keyPIN, "--no-enrol").refused("this security key is not enrolled for you at the org")
	var outcomes []string
	for _, r := range w.outcomes() {
		outcomes = append(outcomes, r.Outcome)
	}
	if strings.Join(outcomes, " ") != "done done failed" {
		t.Errorf("on record: %v", outcomes)
	}
}

// A wrong password and a wrong PIN are one try each, and said.
func TestWrongPINIsOneTry(t *testing.T) {
	w := newWorld(t)
	key, finger := w.plug(0, "Soft Key")
	w.enrol(finger)
	w.signIn(w.stage.Org.URL, harness.Password, "271828").refused("the PIN of the security key is wrong, 7 tries left")
	if n := key.PINRetries(); n != 7 {
		t.Errorf("%d tries are left", n)
	}
	out, errs, err := w.signIn(w.stage.Org.URL, "wrong", keyPIN).end()
	if err == nil || out != "" || !strings.Contains(errs, "the org refused the sign-in: ") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
	if n := key.PINRetries(); n != 7 {
		t.Errorf("%d tries are left", n)
	}
	if list := w.outcomes(); len(list) != 3 || list[1].Outcome != "wrong" || list[2].Outcome != "wrong" || strings.Contains(list[1].Reason+list[2].Reason, "271828") {
		t.Errorf("on record: %+v", list)
	}
}

// The key is pulled out at each moment: one clear sentence, and the next sign-in
// works.
func TestKeyPulledMidway(t *testing.T) {
	for _, fault := range softkey.UnplugFaults[:4] { // after the answer it does not matter
		t.Run(fault.Name, func(t *testing.T) {
			w := newWorld(t)
			key, finger := w.plug(0, "Soft Key")
			w.enrol(finger)
			key.Break(fault, softkey.When{Step: softkey.StepAssert, Times: 1})
			s := w.signIn(w.stage.Org.URL, harness.Password, keyPIN)
			if fault.Name != softkey.UnplugBefore.Name && fault.Name != softkey.UnplugAtTouch.Name {
				w.touch(finger)
			}
			s.refused("the security key was pulled out")
			if n := key.Mend(); n != 1 {
				t.Fatalf("the fault happened %d times", n)
			}
			_, err := w.hub.Plug(0, key)
			w.must(err)
			s = w.signIn(w.stage.Org.URL, harness.Password, keyPIN)
			w.touch(finger)
			if out, errs, err := s.end(); err != nil || !strings.HasPrefix(out, "signed in: ") {
				t.Errorf("%v: %s\n%s", err, out, errs)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		w := newWorld(t)
		w.signIn(w.stage.Org.URL, harness.Password, keyPIN).refused("no security key is plugged in")
	})
}

// Of several keys the enrolled one is asked without being named, and no PIN goes
// to another one. Another key than bob's does not sign in.
func TestOtherKey(t *testing.T) {
	w := newWorld(t)
	bobs, finger := w.plug(0, "Bob's Key")
	other, _ := w.plug(1, "Other Key")
	// Both could be enrolled: the person has to say.
	w.signIn(w.stage.Org.URL, harness.Password, keyPIN).refused("several security keys are plugged in, and a PIN is for one of them")
	agent := client.New(w.agent.Socket)
	defer agent.Close()
	list, err := agent.SecurityKeys(w.ctx)
	w.must(err)
	ids := map[string]string{}
	for _, k := range list.Keys {
		ids[k.Product] = k.ID
	}
	s := w.signIn(w.stage.Org.URL, harness.Password, keyPIN, "--key", ids["Bob's Key"])
	w.touch(finger)
	if out, errs, err := s.end(); err != nil || !strings.Contains(out, "with the Bob's Key") {
		t.Fatalf("%v: %s\n%s", err, out, errs)
	}
	other.Steps()
	s = w.signIn(w.stage.Org.URL, harness.Password, keyPIN)
	w.touch(finger)
	if out, errs, err := s.end(); err != nil || !strings.Contains(out, "with the Bob's Key") {
		t.Errorf("%v: %s\n%s", err, out, errs)
	}
	if steps := other.Steps(); slices.Contains(steps, softkey.StepPINToken) || other.PINRetries() != 8 {
		t.Errorf("the PIN went to another key: %v, %d tries are left", steps, other.PINRetries())
	}
	w.signIn(w.stage.Org.URL, harness.Password, keyPIN, "--key", ids["Other Key"]).refused("this security key is not enrolled for you at the org")
	w.must(w.hub.Unplug(0))
	w.signIn(w.stage.Org.URL, harness.Password, keyPIN).refused("this security key is not enrolled for you at the org")
	if n := len(bobs.Credentials()) + len(other.Credentials()); n != 1 {
		t.Errorf("%d credentials are on the keys", n)
	}
}

// A5: a page that relays everything to the org and back, with its own address in
// place of the org's, gets a signature that is for itself: the org refuses it.
func TestA5RelayedKeySignIn(t *testing.T) {
	w := newWorld(t)
	_, finger := w.plug(0, "Soft Key")
	w.enrol(finger)
	relay := newRelay(t, w.stage.Org.URL)
	s := w.signIn(relay.URL, harness.Password, keyPIN)
	w.touch(finger)
	out, errs, err := s.end()
	if err == nil || out != "" || !strings.Contains(errs, "countersign: sign in with a security key: the org does not accept the security key: ") {
		t.Fatalf("%v: %s\n%s", err, out, errs)
	}
	if tail := w.stage.Org.Tail(); !strings.Contains(tail, "phishing attempt declined") {
		t.Errorf("the org did not see it:\n%s", tail)
	}
	if !relay.answered {
		t.Error("no signature came to the org")
	}
	if list := w.outcomes(); list[len(list)-1].Outcome != "failed" || list[len(list)-1].Origin != relay.URL {
		t.Errorf("on record: %+v", list)
	}
}

// relay passes everything on, and puts its address in the place of the org's.
type relay struct {
	*httptest.Server
	answered bool
}

func newRelay(t *testing.T, orgURL string) *relay {
	t.Helper()
	target, err := url.Parse(orgURL)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{}
	swap := func(b []byte, from, to string) []byte { return bytes.ReplaceAll(b, []byte(from), []byte(to)) }
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Host = target.Host
			p.Out.Header.Del("Accept-Encoding")
			body, _ := io.ReadAll(p.In.Body)
			r.answered = r.answered || bytes.Contains(body, []byte("signatureData"))
			p.Out.Body, p.Out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		},
		ModifyResponse: func(res *http.Response) error {
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			body = swap(body, orgURL, r.URL)
			res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			res.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return err
		},
	}
	r.Server = httptest.NewServer(proxy)
	r.URL = strings.Replace(r.URL, "127.0.0.1", "localhost", 1)
	t.Cleanup(r.Close)
	return r
}

// A key that knows U2F only is enrolled and signs in; a PIN was never its own.
func TestOldKey(t *testing.T) {
	w := newWorld(t)
	finger := softkey.NewFinger()
	key := softkey.New(softkey.Options{Kind: softkey.U2FOnly, Name: "Old Key", Touch: finger.Touch})
	_, err := w.hub.Plug(0, key)
	w.must(err)
	for _, want := range []string{"the key was enrolled there on the way", ", with the Old Key"} {
		s := w.signIn(w.stage.Org.URL, harness.Password, "")
		w.touch(finger)
		if out, errs, err := s.end(); err != nil || !strings.Contains(out, want) {
			t.Fatalf("%v: %s\n%s", err, out, errs)
		}
	}
	if n := len(key.Credentials()); n != 1 {
		t.Errorf("%d credentials are on the key", n)
	}
	var keys []struct {
		Profile struct{ Attestation string }
	}
	w.must(w.stage.Org.Administer(w.ctx, "GET", "/api/v1/users/"+harness.Bob+"/factors", nil, &keys))
	if len(keys) != 1 || keys[0].Profile.Attestation != "basic_full" {
		t.Errorf("the org has %+v", keys)
	}
}

// Ctrl-C while the key blinks: the key blinks no more, the org gets no answer,
// and the next sign-in works.
func TestInterruptedWhileItBlinks(t *testing.T) {
	w := newWorld(t)
	_, finger := w.plug(0, "Soft Key")
	s := w.signIn(w.stage.Org.URL, harness.Password, keyPIN)
	ask, err := finger.Wanted(w.ctx)
	w.must(err)
	w.must(s.cmd.Process.Signal(os.Interrupt))
	out, errs, err := s.end()
	if err == nil || out != "" || !strings.Contains(errs, "countersign: sign in with a security key: interrupted\n") {
		t.Errorf("%v: %s\n%s", err, out, errs)
	}
	select {
	case <-ask.Over:
	case <-w.ctx.Done():
		t.Fatal("the key still blinks")
	}
	w.enrol(finger)
	if list := w.outcomes(); len(list) != 2 || list[0].Outcome != "failed" || list[1].Outcome != "done" {
		t.Errorf("on record: %+v", list)
	}
}
