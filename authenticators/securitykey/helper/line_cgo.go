//go:build cgo && !windows

package helper

/*
#include <fido.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/keys-pub/go-libfido2"
)

// number is an error of the library.
type number int

func (n number) Error() string { return fmt.Sprintf("libfido2 error %d", int(n)) }

func check(r C.int) error {
	if r == C.FIDO_OK {
		return nil
	}
	return number(r)
}

// line is a key that stays open: to open it takes two messages, and on a real key
// each costs as much as all of our own work.
type line struct {
	mu  sync.Mutex // guards dev, which is nil while it is not open
	dev *C.fido_dev_t
}

func (l *line) get() *C.fido_dev_t {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dev
}

func (l *line) cancel() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dev != nil {
		C.fido_dev_cancel(l.dev)
	}
}

func (l *line) open(path string) error {
	var words texts
	defer words.free()
	dev := C.fido_dev_new()
	if dev == nil {
		return number(C.FIDO_ERR_INTERNAL)
	}
	if err := check(C.fido_dev_open(dev, words.c(path))); err != nil {
		C.fido_dev_free(&dev)
		return err
	}
	// A signal that arrives while the library waits for the key would be an error of
	// the key's: another thread is to have it.
	var all C.sigset_t
	C.sigfillset(&all)
	_ = C.fido_dev_set_sigmask(dev, &all) // some systems have no such thing
	l.mu.Lock()
	l.dev = dev
	l.mu.Unlock()
	return nil
}

func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dev != nil {
		C.fido_dev_close(l.dev)
		C.fido_dev_free(&l.dev)
	}
}

// What the key said of itself when it was opened.
func (l *line) fido2() bool  { return bool(C.fido_dev_is_fido2(l.dev)) }
func (l *line) hasUV() bool  { return bool(C.fido_dev_has_uv(l.dev)) }
func (l *line) hasPIN() bool { return bool(C.fido_dev_has_pin(l.dev)) }
func (l *line) noPIN() bool  { return bool(C.fido_dev_supports_pin(l.dev)) && !l.hasPIN() }
func (l *line) firmware() string {
	return fmt.Sprintf("%d.%d.%d", C.fido_dev_major(l.dev), C.fido_dev_minor(l.dev), C.fido_dev_build(l.dev))
}

// info asks the key what it is, in full.
func (l *line) info() (*libfido2.DeviceInfo, error) {
	info := C.fido_cbor_info_new()
	defer C.fido_cbor_info_free(&info)
	if err := check(C.fido_dev_get_cbor_info(l.dev, info)); err != nil {
		return nil, err
	}
	out := &libfido2.DeviceInfo{
		AAGUID:     octets(C.fido_cbor_info_aaguid_ptr(info), C.fido_cbor_info_aaguid_len(info)),
		Versions:   list(C.fido_cbor_info_versions_ptr(info), C.fido_cbor_info_versions_len(info)),
		Extensions: list(C.fido_cbor_info_extensions_ptr(info), C.fido_cbor_info_extensions_len(info)),
	}
	names := list(C.fido_cbor_info_options_name_ptr(info), C.fido_cbor_info_options_len(info))
	values := unsafe.Slice(C.fido_cbor_info_options_value_ptr(info), len(names))
	for i, name := range names {
		value := libfido2.False
		if values[i] {
			value = libfido2.True
		}
		out.Options = append(out.Options, libfido2.Option{Name: name, Value: value})
	}
	return out, nil
}

func (l *line) retries() (int, error) {
	var n C.int
	err := check(C.fido_dev_get_retry_count(l.dev, &n))
	return int(n), err
}

// question is what an assertion is asked for with.
type question struct {
	rpID  string
	hash  []byte   // of the client data
	allow [][]byte // IDs of credentials
	salts []byte
	quiet bool // without a touch
	uv    bool
	pin   string
}

// answer is an assertion. Its authenticator data is a CBOR byte string.
type answer struct{ id, auth, sig, user, secret []byte }

func (l *line) assert(q question) (*answer, error) {
	var words texts
	defer words.free()
	a := C.fido_assert_new()
	if a == nil {
		return nil, number(C.FIDO_ERR_INTERNAL)
	}
	defer C.fido_assert_free(&a)
	steps := []C.int{
		C.fido_assert_set_rp(a, words.c(q.rpID)),
		C.fido_assert_set_clientdata_hash(a, first(q.hash), C.size_t(len(q.hash))),
		C.fido_assert_set_uv(a, yes(q.uv)),
	}
	for _, id := range q.allow {
		steps = append(steps, C.fido_assert_allow_cred(a, first(id), C.size_t(len(id))))
	}
	if q.quiet {
		steps = append(steps, C.fido_assert_set_up(a, C.FIDO_OPT_FALSE))
	}
	if len(q.salts) > 0 {
		steps = append(steps, C.fido_assert_set_extensions(a, C.FIDO_EXT_HMAC_SECRET),
			C.fido_assert_set_hmac_salt(a, first(q.salts), C.size_t(len(q.salts))))
	}
	for _, r := range steps {
		if err := check(r); err != nil {
			return nil, err
		}
	}
	if err := check(C.fido_dev_get_assert(l.dev, a, words.orNil(q.pin))); err != nil {
		return nil, err
	}
	return &answer{
		id:     octets(C.fido_assert_id_ptr(a, 0), C.fido_assert_id_len(a, 0)),
		auth:   octets(C.fido_assert_authdata_ptr(a, 0), C.fido_assert_authdata_len(a, 0)),
		sig:    octets(C.fido_assert_sig_ptr(a, 0), C.fido_assert_sig_len(a, 0)),
		user:   octets(C.fido_assert_user_id_ptr(a, 0), C.fido_assert_user_id_len(a, 0)),
		secret: octets(C.fido_assert_hmac_secret_ptr(a, 0), C.fido_assert_hmac_secret_len(a, 0)),
	}, nil
}

// wish is what a credential is made for.
type wish struct {
	rpID, rpName     string
	hash             []byte // of the client data
	userID           []byte
	userName         string
	userDisplayName  string
	algorithm        int
	resident, secret bool
	uv               bool
	pin              string
}

// credential is a new one. Its authenticator data is a CBOR byte string.
type credential struct {
	format              string
	algorithm           int
	id, auth, sig, cert []byte
}

func (l *line) make(w wish) (*credential, error) {
	var words texts
	defer words.free()
	c := C.fido_cred_new()
	if c == nil {
		return nil, number(C.FIDO_ERR_INTERNAL)
	}
	defer C.fido_cred_free(&c)
	steps := []C.int{
		C.fido_cred_set_type(c, C.int(w.algorithm)),
		C.fido_cred_set_clientdata_hash(c, first(w.hash), C.size_t(len(w.hash))),
		C.fido_cred_set_rp(c, words.c(w.rpID), words.orNil(w.rpName)),
		C.fido_cred_set_user(c, first(w.userID), C.size_t(len(w.userID)), words.c(w.userName), words.orNil(w.userDisplayName), nil),
		C.fido_cred_set_rk(c, yes(w.resident)),
		C.fido_cred_set_uv(c, yes(w.uv)),
	}
	if w.secret {
		steps = append(steps, C.fido_cred_set_extensions(c, C.FIDO_EXT_HMAC_SECRET))
	}
	for _, r := range steps {
		if err := check(r); err != nil {
			return nil, err
		}
	}
	if err := check(C.fido_dev_make_cred(l.dev, c, words.orNil(w.pin))); err != nil {
		return nil, err
	}
	return &credential{
		format:    C.GoString(C.fido_cred_fmt(c)),
		algorithm: int(C.fido_cred_type(c)),
		id:        octets(C.fido_cred_id_ptr(c), C.fido_cred_id_len(c)),
		auth:      octets(C.fido_cred_authdata_ptr(c), C.fido_cred_authdata_len(c)),
		sig:       octets(C.fido_cred_sig_ptr(c), C.fido_cred_sig_len(c)),
		cert:      octets(C.fido_cred_x5c_ptr(c), C.fido_cred_x5c_len(c)),
	}, nil
}

func (l *line) setPIN(pin, old string) error {
	var words texts
	defer words.free()
	return check(C.fido_dev_set_pin(l.dev, words.c(pin), words.orNil(old)))
}

func (l *line) reset() error { return check(C.fido_dev_reset(l.dev)) }

// texts are strings for C. Some of them are PINs: all are wiped.
type texts []*C.char

func (t *texts) c(s string) *C.char {
	c := C.CString(s)
	*t = append(*t, c)
	return c
}

// orNil is for what may be missing.
func (t *texts) orNil(s string) *C.char {
	if s == "" {
		return nil
	}
	return t.c(s)
}

func (t *texts) free() {
	for _, c := range *t {
		C.memset(unsafe.Pointer(c), 0, C.strlen(c))
		C.free(unsafe.Pointer(c))
	}
}

// first points to bytes for C.
func first(b []byte) *C.uchar { return (*C.uchar)(unsafe.SliceData(b)) }

// octets copies bytes of C.
func octets(p *C.uchar, n C.size_t) []byte { return C.GoBytes(unsafe.Pointer(p), C.int(n)) }

// list copies strings of C.
func list(p **C.char, n C.size_t) []string {
	var out []string
	for _, s := range unsafe.Slice(p, n) {
		out = append(out, C.GoString(s))
	}
	return out
}

// yes is an option that is asked for, or not named at all.
func yes(is bool) C.fido_opt_t {
	if is {
		return C.FIDO_OPT_TRUE
	}
	return C.FIDO_OPT_OMIT
}

// opened opens the key, if it is not yet. It is closed by the end of the process, or
// by alone.
func (s *session) opened() error {
	if s.line.get() != nil {
		return nil
	}
	return s.quick(func() error { return s.line.open(s.req.Device) })
}

// quick is a call that waits for nobody; slow is one that may wait for a touch.
func (s *session) quick(do func() error) error { return s.call(s.line.cancel, false, do) }
func (s *session) slow(do func() error) error  { return s.call(s.line.cancel, true, do) }
