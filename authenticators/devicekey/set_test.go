package devicekey_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// fakeStore keeps which secret each key demands, and fails on demand.
type fakeStore struct {
	kind   devicekey.Kind
	state  string
	keys   map[string]string
	failed []error // of the next calls of Reauthorise
	log    *[]string
}

var errStore = errors.New("broken")

func (f *fakeStore) Create(_ context.Context, spec devicekey.Spec) (devicekey.Key, devicekey.Evidence, error) {
	if f.state != devicekey.Ready {
		return nil, devicekey.Evidence{}, &devicekey.StateError{State: devicekey.State{Kind: f.kind, State: f.state}}
	}
	f.keys["new"] = string(spec.Authorisation.Secret)
	return nil, devicekey.Evidence{}, nil
}

func (f *fakeStore) Open(_ context.Context, ref devicekey.Ref) (devicekey.Key, error) {
	if _, ok := f.keys[ref.ID]; !ok || ref.Kind != f.kind {
		return nil, devicekey.ErrNotFound
	}
	return nil, nil
}

func (f *fakeStore) Delete(_ context.Context, ref devicekey.Ref) error {
	delete(f.keys, ref.ID)
	return nil
}

func (f *fakeStore) Reauthorise(ctx context.Context, refs []devicekey.Ref, from, to devicekey.Authorisation) error {
	*f.log = append(*f.log, string(f.kind)+" "+string(from.Secret)+">"+string(to.Secret))
	if len(f.failed) > 0 {
		err := f.failed[0]
		f.failed = f.failed[1:]
		if err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, ref := range refs {
		if f.keys[ref.ID] != string(from.Secret) {
			return devicekey.ErrUnauthorised
		}
	}
	for _, ref := range refs {
		f.keys[ref.ID] = string(to.Secret)
	}
	return nil
}

func (f *fakeStore) State(context.Context) devicekey.State {
	return devicekey.State{Kind: f.kind, State: f.state}
}

func secret(s string) devicekey.Authorisation {
	return devicekey.Authorisation{Secret: devicekey.Secret(s)}
}

func newSet(newIn devicekey.Kind) (*devicekey.Set, *fakeStore, *fakeStore, *[]string) {
	log := &[]string{}
	soft := &fakeStore{kind: devicekey.KindSoftware, state: devicekey.Ready, keys: map[string]string{"s": "old"}, log: log}
	hard := &fakeStore{kind: devicekey.KindTPM, state: devicekey.Ready, keys: map[string]string{"t": "old"}, log: log}
	return devicekey.NewSet(newIn, map[devicekey.Kind]devicekey.Store{devicekey.KindTPM: hard, devicekey.KindSoftware: soft}), soft, hard, log
}

var (
	inSoftware = devicekey.Ref{Kind: devicekey.KindSoftware, ID: "s"}
	inTPM      = devicekey.Ref{Kind: devicekey.KindTPM, ID: "t"}
	nowhere    = devicekey.Ref{Kind: "enclave", ID: "s"}
)

// A key is looked for where its Ref says, and nowhere else.
func TestSetRoutes(t *testing.T) {
	s, soft, hard, _ := newSet(devicekey.KindTPM)
	for _, ref := range []devicekey.Ref{inSoftware, inTPM} {
		if _, err := s.Open(t.Context(), ref); err != nil {
			t.Errorf("%+v: %v", ref, err)
		}
	}
	for _, ref := range []devicekey.Ref{{Kind: devicekey.KindTPM, ID: "s"}, {Kind: devicekey.KindSoftware, ID: "t"}} {
		if _, err := s.Open(t.Context(), ref); !errors.Is(err, devicekey.ErrNotFound) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
	if _, err := s.Open(t.Context(), nowhere); !errors.Is(err, devicekey.ErrUnsupported) {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), nowhere); !errors.Is(err, devicekey.ErrUnsupported) {
		t.Error(err)
	}
	if err := s.Reauthorise(t.Context(), []devicekey.Ref{inSoftware, nowhere}, secret("old"), secret("new")); !errors.Is(err, devicekey.ErrUnsupported) || soft.keys["s"] != "old" {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), inSoftware); err != nil || len(soft.keys) != 0 || len(hard.keys) != 1 {
		t.Error(err, soft.keys, hard.keys)
	}
}

// C4: new keys go where they were to go, or nowhere.
func TestSetNeverSwitches(t *testing.T) {
	s, soft, hard, _ := newSet(devicekey.KindTPM)
	hard.state = devicekey.Busy
	var named *devicekey.StateError
	if _, _, err := s.Create(t.Context(), devicekey.Spec{Role: okta.KeyProofOfPossession}); !errors.As(err, &named) || named.State.State != devicekey.Busy {
		t.Errorf("%v", err)
	}
	if len(soft.keys) != 1 {
		t.Error("made in software")
	}
	if _, _, err := s.CreateIn(t.Context(), devicekey.KindSoftware, devicekey.Spec{}); err != nil || len(soft.keys) != 2 {
		t.Errorf("asked for software: %v", err)
	}
	if _, _, err := s.CreateIn(t.Context(), "enclave", devicekey.Spec{}); !errors.Is(err, devicekey.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if state := s.State(t.Context()); state.Kind != devicekey.KindTPM || state.State != devicekey.Busy || s.Kind() != devicekey.KindTPM {
		t.Errorf("%+v", state)
	}
	all := s.States(t.Context())
	if len(all) != 2 || all[0].Kind != devicekey.KindTPM || all[1].Kind != devicekey.KindSoftware {
		t.Errorf("%+v", all)
	}
	if state := s.StateOf(t.Context(), "enclave"); state.State != devicekey.Unavailable {
		t.Errorf("%+v", state)
	}
	defer func() {
		if recover() == nil {
			t.Error("a set without a place for new keys")
		}
	}()
	devicekey.NewSet(devicekey.KindTPM, nil)
}

// Keys of two kinds change together: software finds out that the secret is wrong
// before the TPM counts it, and what was changed is changed back.
func TestSetReauthorise(t *testing.T) {
	both := []devicekey.Ref{inTPM, inSoftware}
	for _, row := range []struct {
		name       string
		prepare    func(soft, hard *fakeStore)
		from       string
		want       error // nil: it works
		soft, hard string
		log        []string
	}{
		{"both", nil, "old", nil, "new", "new", []string{"software old>new", "tpm old>new"}},
		{"wrong secret", nil, "wrong", devicekey.ErrUnauthorised, "old", "old", []string{"software wrong>new"}},
		{"the TPM fails", func(_, hard *fakeStore) { hard.failed = []error{errStore} }, "old", errStore, "old", "old", []string{"software old>new", "tpm old>new", "software new>old"}},
		{"and so does changing back", func(soft, hard *fakeStore) {
			soft.failed, hard.failed = []error{nil, errStore}, []error{devicekey.ErrTooManyTries}
		},
			"old", devicekey.ErrTooManyTries, "new", "old", []string{"software old>new", "tpm old>new", "software new>old"}},
	} {
		s, soft, hard, log := newSet(devicekey.KindTPM)
		if row.prepare != nil {
			row.prepare(soft, hard)
		}
		err := s.Reauthorise(t.Context(), both, secret(row.from), secret("new"))
		if !errors.Is(err, row.want) || soft.keys["s"] != row.soft || hard.keys["t"] != row.hard || !slices.Equal(*log, row.log) {
			t.Errorf("%s: %v, software %s, tpm %s, %q", row.name, err, soft.keys["s"], hard.keys["t"], *log)
		}
	}
	s, soft, _, log := newSet(devicekey.KindTPM)
	if err := s.Reauthorise(t.Context(), []devicekey.Ref{inTPM}, secret("old"), secret("new")); err != nil || soft.keys["s"] != "old" || len(*log) != 1 {
		t.Errorf("of one kind: %v, %q", err, *log)
	}
	if err := s.Reauthorise(t.Context(), nil, secret("old"), secret("new")); err != nil {
		t.Error(err)
	}
	// A caller who leaves in the middle does not keep it from being changed back.
	_, soft, hard, _ := newSet(devicekey.KindTPM)
	ctx, cancel := context.WithCancel(t.Context())
	leaving := &leavingStore{hard, cancel}
	s = devicekey.NewSet(devicekey.KindTPM, map[devicekey.Kind]devicekey.Store{devicekey.KindTPM: leaving, devicekey.KindSoftware: soft})
	if err := s.Reauthorise(ctx, both, secret("old"), secret("new")); !errors.Is(err, context.Canceled) || soft.keys["s"] != "old" {
		t.Errorf("%v, software %s", err, soft.keys["s"])
	}
}

type leavingStore struct {
	*fakeStore
	leave func()
}

func (l *leavingStore) Reauthorise(ctx context.Context, refs []devicekey.Ref, from, to devicekey.Authorisation) error {
	l.leave()
	return l.fakeStore.Reauthorise(ctx, refs, from, to)
}
