package account

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/software"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/vault"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// inRoom is a vault that keeps a store's keys in a room of another name.
type inRoom struct {
	*vault.Vault
	name string
}

func (r inRoom) Load(_ string, dst any) error   { return r.Vault.Load(r.name, dst) }
func (r inRoom) Save(_ string, value any) error { return r.Vault.Save(r.name, value) }

// stores has two kinds of keys, of which one passes for hardware: it is a
// software store in a room of its own. Each kind can be lost or unwell. What
// keys demand lies in a room of its own too, and costs no time to check.
type stores struct {
	kind  devicekey.Kind // of new keys
	vault *vault.Vault

	mu    sync.Mutex
	parts map[devicekey.Kind]*software.Store
	wrong map[devicekey.Kind]string // the state of a store that is not ready
	full  int                       // keys that can be made still; less than 0: any number
}

func newStores(v *vault.Vault) *stores {
	return &stores{kind: devicekey.KindSoftware, vault: v, full: -1, wrong: map[devicekey.Kind]string{}, parts: map[devicekey.Kind]*software.Store{
		devicekey.KindSoftware: software.New(v), devicekey.KindTPM: software.New(inRoom{v, "tpmkeys"}),
	}}
}

// set brings a kind into a state; "" is ready.
func (s *stores) set(kind devicekey.Kind, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong[kind] = state
}

func (s *stores) part(kind devicekey.Kind) (*software.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state := s.wrong[kind]; state != "" {
		return nil, &devicekey.StateError{State: devicekey.State{Kind: kind, State: state}}
	}
	if part := s.parts[kind]; part != nil {
		return part, nil
	}
	return nil, devicekey.ErrUnsupported
}

func inner(ref devicekey.Ref) devicekey.Ref {
	return devicekey.Ref{Kind: devicekey.KindSoftware, ID: ref.ID}
}

func (s *stores) Create(ctx context.Context, spec devicekey.Spec) (devicekey.Key, devicekey.Evidence, error) {
	return s.CreateIn(ctx, s.kind, spec)
}

func (s *stores) CreateIn(ctx context.Context, kind devicekey.Kind, spec devicekey.Spec) (devicekey.Key, devicekey.Evidence, error) {
	part, err := s.part(kind)
	if err == nil && s.full == 0 {
		err = &devicekey.StateError{State: devicekey.State{Kind: kind, State: devicekey.Busy, Hint: "try again"}}
	}
	if err != nil {
		return nil, devicekey.Evidence{}, err
	}
	s.full--
	if spec.UserVerification != (len(spec.Authorisation.Secret) > 0) {
		return nil, devicekey.Evidence{}, devicekey.ErrUnauthorised
	}
	k, evidence, err := part.Create(ctx, devicekey.Spec{Role: spec.Role})
	if err == nil && spec.UserVerification {
		err = s.demand(k.Ref().ID, string(spec.Authorisation.Secret))
	}
	return kinded{k, kind, s}, evidence, err
}

// demands are what keys demand, by id.
func (s *stores) demands() map[string]string {
	all := map[string]string{}
	_ = s.vault.Load("demands", &all)
	return all
}

func (s *stores) demand(id, secret string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.demands()
	all[id] = secret
	return s.vault.Save("demands", all)
}

func (s *stores) Open(ctx context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	part, err := s.part(ref.Kind)
	if err != nil {
		return nil, err
	}
	k, err := part.Open(ctx, inner(ref))
	return kinded{k, ref.Kind, s}, err
}

func (s *stores) Delete(ctx context.Context, ref devicekey.Ref) error {
	s.mu.Lock()
	part := s.parts[ref.Kind] // whatever state it is in
	s.mu.Unlock()
	return part.Delete(ctx, inner(ref))
}

func (s *stores) Reauthorise(context.Context, []devicekey.Ref, devicekey.Authorisation, devicekey.Authorisation) error {
	return devicekey.ErrUnsupported
}

func (s *stores) StateOf(_ context.Context, kind devicekey.Kind) devicekey.State {
	state := devicekey.State{Kind: kind, State: devicekey.Ready}
	var unwell *devicekey.StateError
	if _, err := s.part(kind); errors.As(err, &unwell) {
		state = unwell.State
	}
	return state
}

func (s *stores) State(context.Context) devicekey.State {
	return devicekey.State{Kind: s.kind, State: devicekey.Ready}
}

// kinded is a key of that kind.
type kinded struct {
	devicekey.Key
	kind   devicekey.Kind
	stores *stores
}

func (k kinded) Sign(ctx context.Context, digest []byte, auth devicekey.Authorisation) ([]byte, error) {
	if k.stores.demands()[k.Key.Ref().ID] != string(auth.Secret) {
		return nil, devicekey.ErrUnauthorised
	}
	return k.Key.Sign(ctx, digest, devicekey.Authorisation{})
}

func (k kinded) Ref() devicekey.Ref { return devicekey.Ref{Kind: k.kind, ID: k.Key.Ref().ID} }

func (k kinded) Protection() jose.Protection {
	if k.kind == devicekey.KindTPM {
		return jose.ProtectionHardware
	}
	return jose.ProtectionSoftware
}

// storedKeys counts the private keys in the vault, the PIN's anchor aside.
func (m *machine) storedKeys(t *testing.T) int {
	t.Helper()
	n := 0
	for _, name := range []string{"keys", "tpmkeys"} {
		var room struct {
			Keys []json.RawMessage `json:"keys"`
		}
		if err := m.vault.Load(name, &room); err == nil {
			n += len(room.Keys)
		}
	}
	return n
}

const thePIN = "314159"

// service verifies by the PIN, which is set.
func (m *machine) service(t testing.TB) *verification.Service {
	t.Helper()
	anchors := newStores(m.vault)
	anchors.parts[devicekey.KindSoftware] = software.New(inRoom{m.vault, "anchors"})
	s, err := verification.Open(verification.Options{Rooms: m.vault, Keys: anchors})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetPIN(context.Background(), devicekey.Secret(thePIN), nil); err != nil && !errors.Is(err, verification.ErrPINSet) {
		t.Fatal(err)
	}
	return s
}

// byPIN is the presence of a person who types that PIN.
func byPIN(s *verification.Service, pin string) Presence {
	return func(ctx context.Context) ([]verification.Verified, error) {
		v, err := s.Verify(ctx, verification.Request{Purpose: "a change of keys", Method: verification.PIN, PIN: devicekey.Secret(pin)})
		if err != nil {
			return nil, err
		}
		return []verification.Verified{v}, nil
	}
}

// byPlace lists the keys of an account by place.
func (a *Account) byPlace() map[string]devicekey.Ref {
	all := map[string]devicekey.Ref{}
	for _, m := range a.Methods {
		m.Keys(func(role okta.KeyType, ref devicekey.Ref) { all[okta.KeyPlace(m.Type, role)] = ref })
	}
	if a.Device.Key.ID != "" {
		all[okta.PlaceClientInstance] = a.Device.Key
	}
	return all
}
