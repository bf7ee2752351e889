// Package client talks to the agent over its local API; the command line and
// the tray share it. It makes sure that the agent is the user's own before it
// says a word: a prompt's number or a PIN must not reach somebody else's
// program that happens to listen at the path.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/peer"
)

const (
	dialTimeout = 2 * time.Second
	// quick bounds what the agent answers from memory, slow what may ask an
	// org or the person, patient a sign-in in the browser.
	quick     = 10 * time.Second
	slow      = 5 * time.Minute
	patient   = 12 * time.Minute
	maxAnswer = 16 << 20
)

// ErrNotRunning says that no agent answers at the socket.
var ErrNotRunning = errors.New("the agent is not running")

// NotRunningError is ErrNotRunning with where it was looked for and why nothing
// was found. Looking in the wrong place is the usual reason.
type NotRunningError struct {
	Socket string
	Err    error
}

func (e *NotRunningError) Error() string {
	why := ""
	switch {
	case errors.Is(e.Err, fs.ErrNotExist):
		why = "there is no socket " + e.Socket
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		why = "nobody answers at " + e.Socket
	case errors.Is(e.Err, fs.ErrPermission):
		why = "this user may not open " + e.Socket
	case errors.Is(e.Err, os.ErrDeadlineExceeded), errors.Is(e.Err, context.DeadlineExceeded):
		why = "no answer in time at " + e.Socket
	default:
		why = e.Socket + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%v (%s)", ErrNotRunning, why)
}

// Is makes errors.Is(err, ErrNotRunning) true.
func (e *NotRunningError) Is(target error) bool { return target == ErrNotRunning }

func (e *NotRunningError) Unwrap() error { return e.Err }

// ForeignError says that what answers at the socket is not the user's own
// agent. Nothing was sent to it.
type ForeignError struct {
	Socket string
	Detail string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("the socket %s is not this user's: %s", e.Socket, e.Detail)
}

// Client calls one agent. It may be used by several goroutines.
type Client struct {
	socket string
	http   *http.Client
}

// New makes a client for the agent at socket. Nothing is dialled yet.
func New(socket string) *Client {
	c := &Client{socket: socket}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
			DisableCompression: true,
			MaxIdleConns:       1,
			IdleConnTimeout:    30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// Socket is the path or pipe that the client dials.
func (c *Client) Socket() string { return c.socket }

// Close drops kept connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := dial(ctx, c.socket)
	if foreign := (*ForeignError)(nil); errors.As(err, &foreign) {
		foreign.Socket = c.socket
		return nil, foreign
	} else if err != nil {
		return nil, &NotRunningError{Socket: c.socket, Err: err}
	}
	// The file may have been swapped after it was looked at; the connection
	// cannot be. (On Windows the pipe's owner was read from the connection.)
	if runtime.GOOS != "windows" {
		if p, err := peer.OfConn(conn); err != nil || !p.Mine() {
			conn.Close()
			return nil, &ForeignError{Socket: c.socket, Detail: fmt.Sprintf("a program of user %d answers", p.UID)}
		}
	}
	return conn, nil
}

// Status is the agent at a glance.
func (c *Client) Status(ctx context.Context) (s api.Status, err error) {
	err = c.call(ctx, quick, http.MethodGet, api.PathStatus, nil, nil, &s)
	return s, err
}

// Accounts lists all accounts.
func (c *Client) Accounts(ctx context.Context) (l api.AccountList, err error) {
	err = c.call(ctx, quick, http.MethodGet, api.PathAccounts, nil, nil, &l)
	return l, err
}

// Account is one account.
func (c *Client) Account(ctx context.Context, id string) (a api.Account, err error) {
	err = c.call(ctx, quick, http.MethodGet, withID(api.PathAccount, id), nil, nil, &a)
	return a, err
}

// AddAccount enrols with a link.
func (c *Client) AddAccount(ctx context.Context, add api.AddAccount) (a api.Account, err error) {
	err = c.call(ctx, slow, http.MethodPost, api.PathAccounts, nil, struct {
		api.AddAccount
		PIN string `json:"pin,omitempty"`
	}{add, add.PIN.Reveal()}, &a)
	return a, err
}

// BeginEnrolment makes the address where a person signs in to be enrolled.
func (c *Client) BeginEnrolment(ctx context.Context, b api.BeginEnrolment) (e api.Enrolment, err error) {
	err = c.call(ctx, slow, http.MethodPost, api.PathEnrolments, nil, struct {
		api.BeginEnrolment
		PIN string `json:"pin,omitempty"`
	}{b, b.PIN.Reveal()}, &e)
	return e, err
}

// AwaitEnrolment waits for the person and returns the account.
func (c *Client) AwaitEnrolment(ctx context.Context, id string) (a api.Account, err error) {
	err = c.call(ctx, patient, http.MethodGet, withID(api.PathEnrolment, id), nil, nil, &a)
	return a, err
}

// CancelEnrolment ends the wait for the person.
func (c *Client) CancelEnrolment(ctx context.Context, id string) error {
	return c.call(ctx, quick, http.MethodDelete, withID(api.PathEnrolment, id), nil, nil, nil)
}

// RenameAccount changes the name shown for an account.
func (c *Client) RenameAccount(ctx context.Context, id, name string) (a api.Account, err error) {
	err = c.call(ctx, quick, http.MethodPatch, withID(api.PathAccount, id), nil, api.RenameAccount{Name: name}, &a)
	return a, err
}

// RemoveAccount ends an enrolment; localOnly leaves the org alone.
func (c *Client) RemoveAccount(ctx context.Context, id string, localOnly bool) error {
	var query url.Values
	if localOnly {
		query = url.Values{"local_only": {"true"}}
	}
	return c.call(ctx, slow, http.MethodDelete, withID(api.PathAccount, id), query, nil, nil)
}

// ResumePushes lets the pushes of an account through again.
func (c *Client) ResumePushes(ctx context.Context, id string) (a api.Account, err error) {
	err = c.call(ctx, quick, http.MethodPost, withID(api.PathResume, id), nil, nil, &a)
	return a, err
}

// Prompts lists what waits for the person. A non-empty frontEnd says that the
// person is being shown them.
func (c *Client) Prompts(ctx context.Context, frontEnd string) (l api.PromptList, err error) {
	err = c.call(ctx, quick, http.MethodGet, api.PathPrompts, frontEndQuery(frontEnd), nil, &l)
	return l, err
}

// DecidePrompt answers a prompt.
func (c *Client) DecidePrompt(ctx context.Context, id string, d api.Decision) (o api.PromptOutcome, err error) {
	err = c.call(ctx, slow, http.MethodPost, withID(api.PathDecision, id), nil, struct {
		api.Decision
		PIN string `json:"pin,omitempty"`
	}{d, d.PIN.Reveal()}, &o)
	return o, err
}

// ShowPrompt opens the dialog of a prompt on the desktop.
func (c *Client) ShowPrompt(ctx context.Context, id string) error {
	return c.call(ctx, quick, http.MethodPost, withID(api.PathShowPrompt, id), nil, api.ShowOnDesktop{}, nil)
}

// ShowDoctor shows the report of a self-examination in a window on the desktop.
func (c *Client) ShowDoctor(ctx context.Context) error {
	return c.call(ctx, slow, http.MethodPost, api.PathShowDoctor, nil, api.ShowOnDesktop{}, nil)
}

// Pause makes the agent ask nothing and sign nothing for a while.
func (c *Client) Pause(ctx context.Context, p api.Pause) (h api.Hold, err error) {
	err = c.call(ctx, quick, http.MethodPost, api.PathPause, nil, p, &h)
	return h, err
}

// Unpause ends a pause.
func (c *Client) Unpause(ctx context.Context) error {
	return c.call(ctx, quick, http.MethodDelete, api.PathPause, nil, nil, nil)
}

// Verification is how the person can be verified.
func (c *Client) Verification(ctx context.Context) (l api.VerificationList, err error) {
	err = c.call(ctx, quick, http.MethodGet, api.PathVerification, nil, nil, &l)
	return l, err
}

// EnableVerification turns a method on or off; pin may be empty.
func (c *Client) EnableVerification(ctx context.Context, method string, enabled bool, pin api.PIN) (l api.VerificationList, err error) {
	return c.SwitchVerification(ctx, method, api.EnableVerification{Enabled: enabled, PIN: pin})
}

// SwitchVerification is EnableVerification with all that it may take.
func (c *Client) SwitchVerification(ctx context.Context, method string, e api.EnableVerification) (l api.VerificationList, err error) {
	err = c.call(ctx, slow, http.MethodPost, withID(api.PathMethod, method), nil, struct {
		Enabled bool   `json:"enabled"`
		PIN     string `json:"pin,omitempty"`
		KeyPIN  string `json:"keyPin,omitempty"`
	}{e.Enabled, e.PIN.Reveal(), e.KeyPIN.Reveal()}, &l)
	return l, err
}

// SetPIN sets the PIN, or changes it from old.
func (c *Client) SetPIN(ctx context.Context, pin, old api.PIN) (s api.PINSet, err error) {
	return c.ReplacePIN(ctx, api.SetPIN{PIN: pin, OldPIN: old})
}

// ReplacePIN is SetPIN with all that it may take.
func (c *Client) ReplacePIN(ctx context.Context, set api.SetPIN) (s api.PINSet, err error) {
	err = c.call(ctx, slow, http.MethodPost, api.PathPIN, nil, struct {
		PIN    string `json:"pin"`
		OldPIN string `json:"oldPin,omitempty"`
		KeyPIN string `json:"keyPin,omitempty"`
	}{set.PIN.Reveal(), set.OldPIN.Reveal(), set.KeyPIN.Reveal()}, &s)
	return s, err
}

// RemovePIN removes the PIN.
func (c *Client) RemovePIN(ctx context.Context, pin api.PIN) (l api.VerificationList, err error) {
	err = c.call(ctx, slow, http.MethodDelete, api.PathPIN, nil, struct {
		PIN string `json:"pin"`
	}{pin.Reveal()}, &l)
	return l, err
}

// ResetPIN forgets the PIN, and deletes the keys that it unlocks.
func (c *Client) ResetPIN(ctx context.Context) (r api.PINReset, err error) {
	err = c.call(ctx, slow, http.MethodPost, api.PathResetPIN, nil, api.ResetPIN{}, &r)
	return r, err
}

// Codes lists what there are one-time codes for.
func (c *Client) Codes(ctx context.Context) (l api.CodeList, err error) {
	err = c.call(ctx, quick, http.MethodGet, api.PathCodes, nil, nil, &l)
	return l, err
}

// Code is the one-time code of this moment; name is a code's id, its login or
// its account's name.
func (c *Client) Code(ctx context.Context, name string) (code api.Code, err error) {
	err = c.call(ctx, quick, http.MethodPost, withID(api.PathCode, name), nil, api.GetCode{}, &code)
	return code, err
}

// RekeyVault protects the agent's state in another way.
func (c *Client) RekeyVault(ctx context.Context, r api.Rekey) (done api.Rekeyed, err error) {
	err = c.call(ctx, slow, http.MethodPost, api.PathRekey, nil, r, &done)
	return done, err
}

// Device is what orgs can be told of this device.
func (c *Client) Device(ctx context.Context) (d api.Device, err error) {
	err = c.call(ctx, quick, http.MethodGet, api.PathDevice, nil, nil, &d)
	return d, err
}

// Doctor asks for a self-examination; an empty topic means everything.
func (c *Client) Doctor(ctx context.Context, topic string) (r api.Report, err error) {
	var query url.Values
	if topic != "" {
		query = url.Values{"topic": {topic}}
	}
	err = c.call(ctx, slow, http.MethodGet, api.PathDoctor, query, nil, &r)
	return r, err
}

func withID(pattern, id string) string {
	return strings.Replace(pattern, "{id}", url.PathEscape(id), 1)
}

func frontEndQuery(name string) url.Values {
	if name == "" {
		return nil
	}
	return url.Values{"front_end": {name}}
}

// call does one operation and decodes its answer into out.
func (c *Client) call(ctx context.Context, timeout time.Duration, method, path string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, err := c.do(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	if err := decodeAnswer(res, out); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

// do sends one request and turns refusals into *api.Error.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	target := "http://" + api.Host + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		// The URL in net/http's error says nothing to a person.
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, err
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	var refused api.ErrorBody
	if decodeAnswer(res, &refused) != nil || refused.Error == nil {
		return nil, fmt.Errorf("the agent answered %s", strconv.Itoa(res.StatusCode))
	}
	refused.Error.Status = res.StatusCode
	return nil, refused.Error
}

func decodeAnswer(res *http.Response, out any) error {
	return json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(out)
}
