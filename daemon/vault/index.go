package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// Index is what a locked agent may know in order to answer a browser's probe:
// which orgs and page origins are ours, and which enrolments. It is not sealed
// and holds no names. Nothing is decided by it but which question to ask.
type Index struct {
	Accounts []IndexEntry `json:"accounts"`
}

// IndexEntry is one account of the index.
type IndexEntry struct {
	OrgURL      string   `json:"orgUrl"`
	Origins     []string `json:"origins"`
	EnrolmentID string   `json:"enrolmentId"`
}

const (
	indexFile = "index.json"
	maxIndex  = 1 << 20
)

// SaveIndex replaces the index; it works on a locked vault too.
func (v *Vault) SaveIndex(i Index) error {
	data, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return fmt.Errorf("save index: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return ErrClosed
	}
	if err := v.dir.Replace(indexFile, append(data, '\n'), ""); err != nil {
		return fmt.Errorf("save index: %w", err)
	}
	return nil
}

// LoadIndex reads the index; a missing one is empty. The unlocked vault is the
// truth: a damaged index is an error to report and to write anew from there.
func (v *Vault) LoadIndex() (Index, error) {
	data, err := v.dir.Read(indexFile, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return Index{}, nil
	}
	if err != nil {
		return Index{}, fmt.Errorf("load index: %w", err)
	}
	var i Index
	if err := json.Unmarshal(data, &i); err != nil {
		return Index{}, fmt.Errorf("load index: %w", err)
	}
	return i, nil
}
