package unlock

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	configVersion = 1
	maxConfig     = 16 << 10
)

// ConfigError says that vault.json cannot be used.
type ConfigError struct{ Reason string }

func (e *ConfigError) Error() string { return ConfigFile + ": " + e.Reason }

// config is vault.json: public parameters, no secret.
type config struct {
	Version    int      `json:"version"`
	ID         string   `json:"id"`
	Kind       Kind     `json:"kind"`
	Check      string   `json:"check"`
	Passphrase *wrapped `json:"passphrase,omitempty"`
	TPM        *sealed  `json:"tpm,omitempty"`
	// Leftovers are kinds whose secret may still lie where it was, though it
	// is not in force any more, or never came to be: Settle removes it.
	Leftovers []Kind `json:"leftovers,omitempty"`
}

func (c config) encode() ([]byte, error) {
	data, err := json.MarshalIndent(c, "", "  ")
	return append(data, '\n'), err
}

// parseConfig refuses everything that encode would not write.
func parseConfig(data []byte) (config, error) {
	var c config
	if len(data) > maxConfig {
		return config{}, errors.New("too large")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return config{}, err
	}
	if _, err := d.Token(); err != io.EOF {
		return config{}, errors.New("more than one value")
	}
	if c.Version != configVersion {
		return config{}, fmt.Errorf("version %d is not known to this agent", c.Version)
	}
	if c.ID == "" || len(c.ID) > 64 || !plain(c.ID) {
		return config{}, errors.New("unusable id")
	}
	if b, err := hex.DecodeString(c.Check); err != nil || len(b) != 16 {
		return config{}, errors.New("unusable key check")
	}
	if c.Kind != Passphrase && c.Passphrase != nil {
		return config{}, fmt.Errorf("passphrase parameters beside kind %s", c.Kind)
	}
	if c.Kind != TPM && c.TPM != nil {
		return config{}, fmt.Errorf("a sealed key beside kind %s", c.Kind)
	}
	switch c.Kind {
	case Keyring, File:
	case Passphrase:
		if c.Passphrase == nil {
			return config{}, errors.New("no passphrase parameters")
		}
		if err := c.Passphrase.check(); err != nil {
			return config{}, err
		}
	case TPM:
		if c.TPM == nil {
			return config{}, errors.New("no sealed key")
		}
		if err := c.TPM.check(); err != nil {
			return config{}, err
		}
	default:
		return config{}, fmt.Errorf("unknown kind of vault key %q", c.Kind)
	}
	for i, kind := range c.Leftovers {
		// What is in force is never a leftover: Settle would remove it.
		if !leavesSecret(kind) || kind == c.Kind || slices.Contains(c.Leftovers[:i], kind) {
			return config{}, errors.New("unusable list of leftovers")
		}
	}
	return c, nil
}

// plain says whether s is made of letters and digits only.
func plain(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return false
		}
	}
	return true
}
