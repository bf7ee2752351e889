package signin_test

import (
	"testing"

	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
)

// C5: where the org lists models, a key enrols whose maker says that it is one of
// them, and no other.
func TestC5ListedModels(t *testing.T) {
	ours, others := [16]byte{1}, [16]byte{2}
	w := signintest.New(t).TakeKeys(t, func(s *directory.WebAuthnSettings) {
		s.AAGUIDGroups = []directory.AAGUIDGroup{{Name: "ours", AAGUIDs: []string{"01000000-0000-0000-0000-000000000000"}}}
	})
	made := func(says [16]byte, by *signintest.Maker, edits ...func(*signintest.KeyAnswer)) func(signin.View) factor.KeyAttestation {
		k := signintest.NewSoftKey()
		k.AAGUID = says
		edits = append(edits, func(a *signintest.KeyAnswer) { a.Maker = by })
		return func(v signin.View) factor.KeyAttestation { return k.Make(v.Key, signintest.BaseURL, edits...) }
	}
	const untrusted, model = "authfactor.webauthn.error.attestation", "authfactor.webauthn.error.model"
	v := toEnrol(t, w, signintest.Web)
	for _, c := range []struct {
		name string
		key  func(signin.View) factor.KeyAttestation
		want string
	}{
		{"another model", made(others, signintest.NewMaker(others)), model},
		{"another model that says it is ours", made(ours, signintest.NewMaker(others)), untrusted},
		{"ours, by itself", made(ours, nil), untrusted},
		{"ours, and its maker's word is about another answer", made(ours, signintest.NewMaker(ours), func(a *signintest.KeyAnswer) { a.Signature = []byte{0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01} }), untrusted},
	} {
		v = must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, c.key(v)))
		if v.Step != signin.StepEnrol || v.Message == nil || v.Message.Key != c.want || len(keysOf(t, w, w.Bob.ID)) != 0 {
			t.Fatalf("%s: at %s with %+v", c.name, v.Step, v.Message)
		}
	}
	at(t, must(t)(w.Engine.EnrolKey(ctx, v.StateHandle, made(ours, signintest.NewMaker(ours))(v))), signin.StepDone, "")
	if k := keysOf(t, w, w.Bob.ID)[0]; k.Attestation != "basic_full" || k.AAGUID != "01000000-0000-0000-0000-000000000000" {
		t.Errorf("stored %+v", k)
	}
}
