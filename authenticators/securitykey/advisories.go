package securitykey

import (
	"strconv"
	"strings"
)

// yubico is the maker's number on USB.
const yubico = 0x1050

// Advisories are what is publicly known to be wrong with a key, by maker and
// firmware. They are sentences for the person.
func (k *Key) Advisories() []string {
	if k.VendorID == yubico && k.AAGUID != "" && before(k.Firmware, 5, 7, 0) {
		return []string{"Firmware before 5.7 can leak ECDSA keys to somebody who has the key in hand and opens it " +
			"(EUCLEAK, YSA-2024-03). It cannot be updated; replace the key where that matters."}
	}
	return nil
}

// before says whether a version is known and lower.
func before(version string, than ...int) bool {
	parts := strings.Split(version, ".")
	if len(parts) != len(than) {
		return false
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n > than[i] {
			return false
		}
		if n < than[i] {
			return true
		}
	}
	return false
}
