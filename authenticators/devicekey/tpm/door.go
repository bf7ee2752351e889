package tpm

import "context"

// door is where a TPM is found.
type door interface {
	// probe says whether the TPM is there and may be opened, without a command.
	probe() error
	open() (port, error)
}

// port is an open TPM: it takes one command at a time.
type port interface {
	// send returns the answer to a command. ctx has a deadline; a port that
	// cannot keep it returns late.
	send(ctx context.Context, command []byte) ([]byte, error)
	// managed says whether a resource manager stands before the TPM, which
	// gives each connection the whole room and empties it when it is closed.
	managed() bool
	Close() error
}
