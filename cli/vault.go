package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

func (a *app) vaultCommand() *cobra.Command {
	c := group("vault", "What protects the agent's state", `The agent keeps its accounts and keys in sealed files, its state. One key opens
them all; what protects that key while no agent runs was chosen at the first
start. countersign status shows it.`)
	c.AddCommand(a.vaultRekey())
	return c
}

// vaultKinds are what --to takes.
var vaultKinds = []string{"auto", "keyring", "tpm", "passphrase", "file"}

// maxPhraseFile is more than the agent takes for a passphrase.
const maxPhraseFile = 8 << 10

// rekeying is the command line of `vault rekey`.
type rekeying struct {
	to                      string
	passphrase, currentFile string // files; - is standard input
}

func (a *app) vaultRekey() *cobra.Command {
	var r rekeying
	c := &cobra.Command{
		Use: "rekey --to KIND", Short: "Protect the agent's state in another way", Args: takes(0, 0),
		Long: `Protect the agent's state in another way. KIND is

  keyring     the desktop's keyring, which your login unlocks
  tpm         the TPM of this computer: the state opens here only, and no more
              once the TPM was cleared
  passphrase  a passphrase, which the agent needs at each start, from a file
  file        a file beside the state, protected by its permissions only
  auto        the keyring; if that does not answer, whatever it is now

The accounts and keys stay, and so does the key that opens them: only its
protection changes. The new one is made and tried out first, then the old one is
removed; should the computer stop in between, one of them works, and the next
start tidies up. The same kind again makes it afresh: another passphrase,
another sealing by the TPM.

What somebody has copied before stays open to them: a vault.key, or the state
together with its passphrase. If that may have happened, enrol again with a new
state folder.

A new passphrase is asked for twice, or read from the first line of
--passphrase-file. To change or leave a passphrase, the one in force is needed,
too. - for a file is standard input.`,
		Example: "  countersign vault rekey --to tpm\n  countersign vault rekey --to passphrase --passphrase-file ~/.countersign-passphrase",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.rekey(cmd, r) },
	}
	c.Flags().StringVar(&r.to, "to", "", "keyring, tpm, passphrase, file or auto")
	c.Flags().StringVar(&r.passphrase, "passphrase-file", "", "file whose first line is the new passphrase")
	c.Flags().StringVar(&r.currentFile, "current-passphrase-file", "", "file whose first line is the passphrase in force")
	return c
}

func (a *app) rekey(cmd *cobra.Command, r rekeying) error {
	const tried = "protect the state in another way"
	switch {
	case r.to == "":
		return usageError(cmd, errors.New("--to says how: "+strings.Join(vaultKinds, ", ")))
	case oneOf(&cobra.Command{ValidArgs: vaultKinds}, []string{r.to}) != nil:
		return usageError(cmd, fmt.Errorf("--to is %q, not one of: %s", r.to, strings.Join(vaultKinds, ", ")))
	case r.passphrase != "" && r.to != "passphrase":
		return usageError(cmd, errors.New("--passphrase-file goes with --to passphrase"))
	case r.passphrase == "-" && r.currentFile == "-":
		return usageError(cmd, errors.New("only one passphrase can come from standard input"))
	}
	agent, err := a.agent()
	if err != nil {
		return err
	}
	defer agent.Close()
	ctx := cmd.Context()
	status, err := agent.Status(ctx)
	if err != nil {
		return failed(tried, err)
	}
	in := api.Rekey{Kind: r.to}
	if status.VaultKey.Kind == "passphrase" {
		if in.Current, err = a.passphrase(ctx, cmd, r.currentFile, "--current-passphrase-file", "passphrase in force:"); err != nil {
			return err
		}
	}
	if r.to == "passphrase" {
		if in.Passphrase, err = a.newPassphrase(ctx, cmd, r.passphrase); err != nil {
			return err
		}
	}
	done, err := agent.RekeyVault(ctx, in)
	if err != nil {
		return failed(tried, err)
	}
	return show(a, done, (*app).printRekeyed)
}

func (a *app) printRekeyed(r api.Rekeyed) {
	a.out.line("%s the state is protected by %s", a.out.paint(green, "changed:"), vaultKeyName(r.VaultKey))
	for _, hint := range r.Hints {
		a.out.hang("hint: ", 6, describe.Clean(hint, 400))
	}
}

func vaultKeyName(c api.Component) string {
	switch c.Kind {
	case "keyring":
		return "the desktop's keyring"
	case "tpm":
		return "the TPM of this computer"
	case "passphrase":
		return "a passphrase"
	case "file":
		return "file permissions only"
	}
	return clean(c.Kind)
}

// passphrase reads one from a file or asks for it.
func (a *app) passphrase(ctx context.Context, cmd *cobra.Command, file, flag, question string) (api.Passphrase, error) {
	if file != "" {
		line, err := a.firstLine(file)
		if err != nil {
			return "", failed("read the passphrase", err)
		}
		return api.Passphrase(line), nil
	}
	if _, ok := a.terminal(); !ok {
		return "", usageError(cmd, errors.New("there is no terminal to ask for the passphrase at; give it with "+flag))
	}
	line, err := a.askSecret(ctx, question)
	if err != nil {
		return "", failed("ask for the passphrase", err)
	}
	defer clear(line)
	if len(line) == 0 {
		return "", &failure{tried: "ask for the passphrase", err: errors.New("nothing was typed"), code: exitFailed}
	}
	return api.Passphrase(line), nil
}

// newPassphrase asks twice for one that is not in a file: a typing error would
// close the state for good.
func (a *app) newPassphrase(ctx context.Context, cmd *cobra.Command, file string) (api.Passphrase, error) {
	typed, err := a.passphrase(ctx, cmd, file, "--passphrase-file", "new passphrase:")
	if err != nil || file != "" {
		return typed, err
	}
	again, err := a.passphrase(ctx, cmd, "", "--passphrase-file", "the same again:")
	if err != nil {
		return "", err
	}
	if string(typed) != string(again) {
		return "", &failure{tried: "ask for the passphrase", err: errors.New("the two are not the same"), hint: "nothing was changed", code: exitFailed}
	}
	return typed, nil
}

// firstLine reads a passphrase file as the agent does at its start.
func (a *app) firstLine(file string) (string, error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	line, err := bufio.NewReader(io.LimitReader(in, maxPhraseFile)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if line == "" {
		return "", errors.New("its first line is empty")
	}
	return line, nil
}
