package helper

// On Windows no program may open a security key: Windows does, by webauthn.dll,
// and asks for PIN and touch in a window of its own. So one key is listed that
// stands for whatever Windows reaches, no PIN comes here, and there is nothing to
// be shut in against: what a key says is read by a service of the system.

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"

	"countersign.dev/authenticators/securitykey/wire"
)

// webauthn is that of the system, and of no other folder.
var (
	webauthn        = windows.NewLazySystemDLL("webauthn.dll")
	getVersion      = webauthn.NewProc("WebAuthNGetApiVersionNumber")
	makeCredential  = webauthn.NewProc("WebAuthNAuthenticatorMakeCredential")
	getAssertion    = webauthn.NewProc("WebAuthNAuthenticatorGetAssertion")
	freeAttestation = webauthn.NewProc("WebAuthNFreeCredentialAttestation")
	freeAssertion   = webauthn.NewProc("WebAuthNFreeAssertion")
	newCancellation = webauthn.NewProc("WebAuthNGetCancellationId")
	cancelCurrent   = webauthn.NewProc("WebAuthNCancelCurrentOperation")
	errorName       = webauthn.NewProc("WebAuthNGetErrorName")
)

// version is that of the interface, if it is there.
func version() (uint32, error) {
	for _, p := range []*windows.LazyProc{getVersion, makeCredential, getAssertion, freeAttestation, freeAssertion, newCancellation, cancelCurrent, errorName} {
		if err := p.Find(); err != nil {
			return 0, fail(wire.OldSystem, "%v", err)
		}
	}
	n, _, _ := getVersion.Call()
	if uint32(n) == 0 {
		return 0, fail(wire.OldSystem, "version 0 of webauthn.dll")
	}
	return uint32(n), nil
}

// held and line stand for the key, which Windows holds and talks to.
type (
	held struct{}
	line struct{}
)

func (*held) release() {}

// confine has nothing to shut out: no key is read in this process.
func (*session) confine() error { return nil }

// take refuses what was not listed.
func (s *session) take() error {
	if s.req.Device != wire.Windows {
		return fail(wire.NoKey, "no device of Windows")
	}
	if want := s.req.Expect; want != nil && want.Path != wire.Windows {
		return fail(wire.OtherKey, "another path is expected")
	}
	return nil
}

func (s *session) operate() (*wire.Result, error) {
	n, err := version()
	if err != nil {
		return nil, err
	}
	// What it is, nobody knows before it answers.
	key := wire.Info{Identity: wire.Identity{Path: wire.Windows, Product: "key that Windows asks for"}}
	switch s.req.Op {
	case wire.List:
		return &wire.Result{Keys: []wire.Info{key}}, nil
	case wire.Inspect:
		return &wire.Result{Info: &key}, nil
	case wire.Holds: // it stands for the one that does
		return &wire.Result{Found: true}, nil
	case wire.MakeCredential:
		return s.makeCredential()
	case wire.GetAssertion:
		return s.getAssertion(n)
	case wire.Select, wire.SetPIN, wire.ChangePIN, wire.Credentials, wire.DeleteCredential,
		wire.Fingerprints, wire.EnrolFingerprint, wire.DropFingerprint, wire.Reset:
		return nil, fail(wire.BySystem, "Windows does %s in its settings", s.req.Op)
	}
	return nil, fail(wire.BadRequest, "no operation %q", s.req.Op)
}

// cancellation gives the name by which an operation is cancelled, nil where there
// is none.
func cancellation() (id *winGUID, cancel func()) {
	id = &winGUID{}
	if hr, _, _ := newCancellation.Call(uintptr(unsafe.Pointer(id))); int32(hr) < 0 {
		return nil, func() {}
	}
	return id, func() { _, _, _ = cancelCurrent.Call(uintptr(unsafe.Pointer(id))) }
}

// window is where Windows puts its own in front of: that which the person looks at.
func window() uintptr {
	if w := windows.GetForegroundWindow(); w != 0 {
		return uintptr(w)
	}
	return uintptr(windows.GetDesktopWindow())
}

func (s *session) makeCredential() (*wire.Result, error) {
	id, cancel := cancellation()
	c, err := newCreation(s.req, id)
	if err != nil {
		return nil, err
	}
	var result *wire.Result
	err = s.call(cancel, true, func() (err error) {
		var made *winAttestation
		hr, _, _ := makeCredential.Call(window(), uintptr(unsafe.Pointer(&c.rp)), uintptr(unsafe.Pointer(&c.user)), uintptr(unsafe.Pointer(&c.parameters)),
			uintptr(unsafe.Pointer(&c.client)), uintptr(unsafe.Pointer(&c.options)), uintptr(unsafe.Pointer(&made)))
		runtime.KeepAlive(c)
		if err := answer(hr, made != nil); err != nil {
			return err
		}
		defer func() { _, _, _ = freeAttestation.Call(uintptr(unsafe.Pointer(made))) }()
		result, err = made.read()
		return err
	})
	if err != nil {
		return nil, err // the call may still be under way
	}
	return result, nil
}

func (s *session) getAssertion(version uint32) (*wire.Result, error) {
	id, cancel := cancellation()
	q, err := newRequest(s.req, id, version)
	if err != nil {
		return nil, err
	}
	var result *wire.Result
	err = s.call(cancel, true, func() (err error) {
		var got *winAssertion
		hr, _, _ := getAssertion.Call(window(), uintptr(unsafe.Pointer(q.rpID)), uintptr(unsafe.Pointer(&q.client)),
			uintptr(unsafe.Pointer(&q.options)), uintptr(unsafe.Pointer(&got)))
		runtime.KeepAlive(q)
		if err := answer(hr, got != nil); err != nil {
			return err
		}
		defer func() { _, _, _ = freeAssertion.Call(uintptr(unsafe.Pointer(got))) }()
		result, err = got.read()
		return err
	})
	if err != nil {
		return nil, err // the call may still be under way
	}
	return result, nil
}

// answer is the error of a call, if it is one.
func answer(hr uintptr, something bool) error {
	switch h := hresult(hr); {
	case int32(h) < 0:
		return h
	case !something:
		return errForeign
	}
	return nil
}

// noContact is never: Windows talks to the key.
func noContact(error) bool { return false }

// explain turns an error of Windows into one of the protocol.
func (s *session) explain(err error) error {
	var h hresult
	switch {
	case errors.As(err, &h):
		name, _, _ := errorName.Call(uintptr(h))
		return h.explain(text(name))
	case errors.Is(err, errForeign):
		return fail(wire.BadKey, "%v", err)
	}
	return err
}

// text reads what Windows keeps.
func text(at uintptr) string {
	if at == 0 {
		return ""
	}
	return windows.UTF16PtrToString(*(**uint16)(unsafe.Pointer(&at)))
}
