package unlock

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/99designs/keyring"

	"countersign.dev/daemon/vault/unlock/busguard"
)

// ring is what this package needs of the desktop's keyring. get returns
// ErrKeyMissing for an item that is not there, both return ErrKeyringLocked or
// ErrKeyringUnavailable when there is no telling.
type ring interface {
	get(ctx context.Context, name string) ([]byte, error)
	set(ctx context.Context, name string, secret []byte) error
	remove(ctx context.Context, name string) error
}

// itemName is the label of the vault's item. The login keyring is shared by all
// programs, and other users of the library name their items just as freely.
func (m *Method) itemName() string { return "countersign vault " + m.config.ID }

// intoKeyring stores the key and reads it back.
func (m *Method) intoKeyring(ctx context.Context, key Key) error {
	m.config.Kind = Keyring
	text := hex.AppendEncode(nil, key.Bytes())
	defer clear(text)
	if err := m.ring.set(ctx, m.itemName(), text); err != nil {
		return err
	}
	back, err := m.fromKeyring(ctx)
	if err != nil {
		return err
	}
	defer back.Wipe()
	if checkOf(back) != m.config.Check {
		return fmt.Errorf("%w: it returned another secret than it was given", ErrKeyringUnavailable)
	}
	return nil
}

func (m *Method) fromKeyring(ctx context.Context) (Key, error) {
	text, err := m.ring.get(ctx, m.itemName())
	if err != nil {
		return Key{}, err
	}
	defer clear(text)
	b := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(b, text); err != nil {
		return Key{}, fmt.Errorf("%w: not a key", ErrWrongKey)
	}
	return keyFrom(b)
}

// helper reaches the keyring through a child process.
type helper struct{}

// reply is the one line the child writes to its standard output.
type reply struct {
	State  string `json:"state"` // "done", "missing", "locked", "unavailable"
	Detail string `json:"detail,omitempty"`
	Secret []byte `json:"secret,omitempty"`
}

const maxReply = 16 << 10

func (helper) get(ctx context.Context, name string) ([]byte, error) {
	r, err := runHelper(ctx, "get", name, nil)
	return r.Secret, err
}

func (helper) set(ctx context.Context, name string, secret []byte) error {
	_, err := runHelper(ctx, "set", name, secret)
	return err
}

func (helper) remove(ctx context.Context, name string) error {
	_, err := runHelper(ctx, "delete", name, nil)
	return err
}

func runHelper(ctx context.Context, operation, name string, secret []byte) (reply, error) {
	exe, err := self()
	if err != nil {
		return reply{}, fmt.Errorf("%w: %w", ErrKeyringUnavailable, err)
	}
	cmd := exec.CommandContext(ctx, exe, busguard.HelperCommand, operation, name)
	cmd.Dir = string(os.PathSeparator)
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe() // stays open: its end tells the child that we died
	if err != nil {
		return reply{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return reply{}, err
	}
	if err := cmd.Start(); err != nil {
		return reply{}, fmt.Errorf("%w: start keyring helper: %w", ErrKeyringUnavailable, err)
	}
	line := append(append([]byte(nil), secret...), '\n')
	stdin.Write(line) // a child that died shows in its reply
	clear(line)
	data, _ := io.ReadAll(io.LimitReader(stdout, maxReply))
	defer clear(data)
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return reply{}, fmt.Errorf("%w in time: %w", ErrKeyringUnavailable, ctx.Err())
	}
	var r reply
	if err := json.Unmarshal(data, &r); err != nil {
		return reply{}, fmt.Errorf("%w: keyring helper: %w", ErrKeyringUnavailable, errors.Join(waitErr, err))
	}
	switch r.State {
	case "done":
		return r, nil
	case "missing":
		return reply{}, fmt.Errorf("%w: no item %q in the OS keyring", ErrKeyMissing, name)
	case "locked":
		return reply{}, fmt.Errorf("%w: %s", ErrKeyringLocked, r.Detail)
	}
	return reply{}, fmt.Errorf("%w: %s", ErrKeyringUnavailable, r.Detail)
}

// self is the running program, also after its file was replaced by an update.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

func init() {
	if busguard.IsHelper() {
		os.Exit(helperMain())
	}
	busguard.Restore()
}

// helperMain is the whole life of the child: one operation, one line out.
func helperMain() int {
	ProtectMemory() // best effort here: the process lives for milliseconds
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "the keyring helper is started by the agent only")
		return 2
	}
	in := bufio.NewReaderSize(os.Stdin, maxPassphrase)
	secret, err := in.ReadSlice('\n')
	if err != nil {
		return 2
	}
	secret = append([]byte(nil), secret[:len(secret)-1]...)
	go func() { // the agent went away: nobody waits for an answer
		io.Copy(io.Discard, in)
		os.Exit(1)
	}()
	r := access(os.Args[2], os.Args[3], secret)
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return 1
	}
	return 0
}

func access(operation, name string, secret []byte) reply {
	k, err := keyring.Open(keyring.Config{
		// Never the library's other back ends: a file or a kernel keyring is
		// not what "OS keyring" promises.
		AllowedBackends: []keyring.BackendType{keyring.SecretServiceBackend, keyring.KeychainBackend, keyring.WinCredBackend},
		ServiceName:     "countersign",
		// The one collection that login unlocks. Left empty the library makes
		// a new one, for which the desktop asks another password.
		LibSecretCollectionName:        "login",
		WinCredPrefix:                  "countersign",
		KeychainTrustApplication:       true,
		KeychainSynchronizable:         false,
		KeychainAccessibleWhenUnlocked: true,
	})
	if err != nil {
		return failure(err)
	}
	switch operation {
	case "get":
		item, err := k.Get(name)
		if err != nil {
			return failure(err)
		}
		return reply{State: "done", Secret: item.Data}
	case "set":
		item := keyring.Item{Key: name, Data: secret, Label: name, Description: "unlocks the Countersign agent's vault"}
		if err := k.Set(item); err != nil {
			return failure(err)
		}
		return reply{State: "done"}
	case "delete":
		if err := k.Remove(name); err != nil {
			return failure(err)
		}
		return reply{State: "done"}
	}
	return reply{State: "unavailable", Detail: "unknown operation"}
}

// failure sorts an error of the library. The Secret Service has a name for
// "locked", but the library passes on the text only.
func failure(err error) reply {
	switch {
	case errors.Is(err, keyring.ErrKeyNotFound):
		return reply{State: "missing"}
	case strings.Contains(strings.ToLower(err.Error()), "locked"):
		return reply{State: "locked", Detail: err.Error()}
	}
	return reply{State: "unavailable", Detail: err.Error()}
}
