package tpm

import (
	"context"
	"errors"
	"sync"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/windowstpm"
	"github.com/google/go-tpm/tpmutil/tbs"
)

// at finds the system's TPM behind TPM Base Services; there is no other.
func at(string) door { return services{} }

type services struct{}

func (services) probe() error {
	info, err := tbs.GetDeviceInfo()
	if err != nil {
		return err
	}
	if info.TPMVersion != tbs.TPMVersion20 {
		return errTooOld
	}
	return nil
}

func (services) open() (port, error) {
	c, err := windowstpm.Open()
	if errors.Is(err, windowstpm.ErrNotTPM20) {
		return nil, errTooOld
	}
	if err != nil {
		return nil, err
	}
	return &servicesPort{tpm: c}, nil
}

type servicesPort struct {
	tpm  transport.TPMCloser
	once sync.Once
}

func (*servicesPort) managed() bool { return true }

// send cannot be cut short.
func (p *servicesPort) send(_ context.Context, command []byte) ([]byte, error) {
	return p.tpm.Send(command)
}

func (p *servicesPort) Close() (err error) {
	p.once.Do(func() { err = p.tpm.Close() })
	return err
}

func is(err error, any ...tbs.Error) bool {
	for _, e := range any {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func absent(err error) bool {
	return is(err, tbs.ErrTPMNotFound, tbs.ErrServiceDisabled, tbs.ErrServiceNotRunning)
}

func forbidden(err error) bool { return is(err, tbs.ErrAccessDenied) }

func occupied(err error) bool {
	return is(err, tbs.ErrTooManyTBSContexts, tbs.ErrTooManyResources, tbs.ErrServiceStartPending, tbs.ErrCommandCanceled)
}
