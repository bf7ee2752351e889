//go:build unix && !linux

package tpm

import "errors"

// at finds a TPM that somebody names; these systems have none of their own.
func at(address string) door {
	if address == "" {
		return none{}
	}
	return named(address)
}

type named string

func (n named) door() door          { return socketOr(string(n), none{}) }
func (n named) probe() error        { return n.door().probe() }
func (n named) open() (port, error) { return n.door().open() }

type none struct{}

func (none) probe() error        { return errNone }
func (none) open() (port, error) { return nil, errNone }

var errNone = errors.Join(errAbsent, errors.New("no TPM is known at that address on this system"))
