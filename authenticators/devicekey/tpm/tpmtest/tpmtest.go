// Package tpmtest runs swtpm, a TPM 2.0 in software, for tests: a bare one, with
// room for three objects and without a resource manager, which forgives no
// object that is left behind.
package tpmtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// TPM is one TPM. Its state outlives the process that runs it.
type TPM struct {
	Dir    string // its state; to be copied only while it is stopped
	Socket string // its address

	mu  sync.Mutex
	cmd *exec.Cmd // nil while it is stopped
}

// New starts a fresh TPM, which ends with the test.
func New(t testing.TB) *TPM {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	x, err := Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Kill)
	return x
}

// Start runs the TPM whose state is in dir, a new one if dir is empty. Whoever
// starts it stops it.
func Start(dir string) (*TPM, error) {
	x := &TPM{Dir: dir, Socket: filepath.Join(dir, "sock")}
	return x, x.Start()
}

// Start runs it again. A TPM that runs already is left alone.
func (x *TPM) Start() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cmd != nil {
		return nil
	}
	// The socket is ours, so that it takes connections from the first moment.
	if err := os.Remove(x.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: x.Socket, Net: "unix"})
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close()
	file, err := listener.File()
	if err != nil {
		return err
	}
	defer file.Close()
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+x.Dir,
		"--server", "type=unixio,fd=3", "--flags", "not-need-init,startup-clear")
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("the package swtpm is needed: %w", err)
		}
		return err
	}
	x.cmd = cmd
	return nil
}

// Stop shuts it down in good order, as a computer does that is switched off.
func (x *TPM) Stop() error {
	_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(x)
	x.Kill()
	return err
}

// Kill ends it as a power cut does: a TPM that was asked for a secret since its
// start counts that as a wrong try. Its socket stays, and answers nobody.
func (x *TPM) Kill() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cmd == nil {
		return
	}
	_ = x.cmd.Process.Kill()
	_ = x.cmd.Wait()
	x.cmd = nil
}

// Restart is Stop and Start.
func (x *TPM) Restart() error { return errors.Join(x.Stop(), x.Start()) }

// Send is transport.TPM: what a program beside the agent would send.
func (x *TPM) Send(command []byte) ([]byte, error) {
	for {
		answer, err := x.exchange(command)
		if err != nil {
			return nil, err
		}
		// A TPM says so before it writes to its memory; at once it is ready.
		if len(answer) >= 10 && tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:])) == tpm2.TPMRCRetry {
			continue
		}
		return answer, nil
	}
}

func (x *TPM) exchange(command []byte) ([]byte, error) {
	conn, err := net.Dial("unix", x.Socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(command); err != nil {
		return nil, err
	}
	answer := make([]byte, 4096) // swtpm sends it in one piece
	n, err := conn.Read(answer)
	return answer[:n], err
}

var _ transport.TPM = (*TPM)(nil)

// Clear forgets the owner's keys, as the firmware set-up does on demand.
func (x *TPM) Clear() error {
	_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(x)
	return err
}

// SetOwnerAuth gives the owner hierarchy a password.
func (x *TPM) SetOwnerAuth(password string) error {
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: []byte(password)},
	}.Execute(x)
	return err
}

// KeepRoot has the TPM keep an SRK of the standard template at 0x81000001, as
// many systems do.
func (x *TPM) KeepRoot() error {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(x)
	if err != nil {
		return err
	}
	_, err = tpm2.EvictControl{
		Auth:             tpm2.TPMRHOwner,
		ObjectHandle:     tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name},
		PersistentHandle: 0x81000001,
	}.Execute(x)
	if _, flush := (tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}).Execute(x); err == nil {
		err = flush
	}
	return err
}

// Lockout is the state of the dictionary-attack protection.
type Lockout struct{ Counter, Max, Interval, Recovery uint32 }

// Lockout reads it.
func (x *TPM) Lockout() (Lockout, error) {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTLockoutCounter), PropertyCount: 4}.Execute(x)
	if err != nil {
		return Lockout{}, err
	}
	list, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		return Lockout{}, err
	}
	var l Lockout
	for _, p := range list.TPMProperty {
		switch p.Property {
		case tpm2.TPMPTLockoutCounter:
			l.Counter = p.Value
		case tpm2.TPMPTMaxAuthFail:
			l.Max = p.Value
		case tpm2.TPMPTLockoutInterval:
			l.Interval = p.Value
		case tpm2.TPMPTLockoutRecovery:
			l.Recovery = p.Value
		}
	}
	return l, nil
}

// SetLockout sets how many wrong tries lock the TPM, and in how many seconds one
// is forgotten. Real TPMs allow about 32, swtpm 3.
func (x *TPM) SetLockout(max, interval, recovery uint32) error {
	var parameters []byte
	for _, n := range []uint32{max, interval, recovery} {
		parameters = binary.BigEndian.AppendUint32(parameters, n)
	}
	return x.asLockout(tpm2.TPMCCDictionaryAttackParameters, parameters)
}

// ResetLockout forgets all wrong tries.
func (x *TPM) ResetLockout() error { return x.asLockout(tpm2.TPMCCDictionaryAttackLockReset, nil) }

// asLockout sends a command with the lockout hierarchy's empty password. go-tpm
// has no types for these.
func (x *TPM) asLockout(code tpm2.TPMCC, parameters []byte) error {
	b := []byte{0x80, 0x02, 0, 0, 0, 0}
	for _, n := range []uint32{uint32(code), uint32(tpm2.TPMRHLockout), 9, uint32(tpm2.TPMRSPW)} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	b = append(append(b, 0, 0, 0, 0, 0), parameters...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	answer, err := x.Send(b)
	if err != nil {
		return err
	}
	if len(answer) < 10 {
		return errors.New("a short answer")
	}
	if rc := tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:])); rc != tpm2.TPMRCSuccess {
		return rc
	}
	return nil
}

// Loaded lists the objects and sessions that lie in the TPM.
func (x *TPM) Loaded() ([]tpm2.TPMHandle, error) {
	var all []tpm2.TPMHandle
	for _, first := range []tpm2.TPMHandle{0x80000000, 0x02000000, 0x03000000} {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: uint32(first), PropertyCount: 64}.Execute(x)
		if err != nil {
			return nil, err
		}
		list, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			return nil, err
		}
		for _, h := range list.Handle {
			if h>>24 == first>>24 {
				all = append(all, h)
			}
		}
	}
	return all, nil
}
