package account

import (
	"errors"
	"testing"

	"countersign.dev/authenticators/devicekey"
)

// Another change is asked for while one is unsettled: it begins where that ends.
// A rotation does not take keys out of the store that a migration put them into.
func TestChangeAfterAnUnsettledOne(t *testing.T) {
	for _, row := range []struct {
		first, then Change
		kind        devicekey.Kind
	}{
		{Change{Action: Migrate}, Change{Action: Rotate}, devicekey.KindTPM},
		{Change{Action: Migrate}, Change{Action: AddVerification}, devicekey.KindTPM},
		{Change{Action: Migrate}, Change{Action: Migrate}, devicekey.KindTPM},
		{Change{Action: Migrate, To: devicekey.KindTPM}, Change{Action: Migrate}, devicekey.KindTPM},
		{Change{Action: Migrate}, Change{Action: Migrate, To: devicekey.KindSoftware}, devicekey.KindSoftware},
		{Change{Action: Rotate}, Change{Action: Migrate}, devicekey.KindTPM},
		{Change{Action: AddVerification}, Change{Action: Migrate}, devicekey.KindTPM},
	} {
		org, m, a, s := rig(t, false)
		org.set(func() { org.down = 500 })
		if _, err := m.Rekey(t.Context(), a.ID, row.first, alice(byPIN(s, thePIN))); !errors.Is(err, ErrUnsettled) {
			t.Fatal(err)
		}
		org.set(func() { org.down = 0 })
		now, err := m.Rekey(t.Context(), a.ID, row.then, alice(byPIN(s, thePIN)))
		if err != nil {
			t.Fatalf("%+v: %v", row, err)
		}
		for place, ref := range now.byPlace() {
			if ref.Kind != row.kind {
				t.Errorf("%+v: %s is in %s", row, place, ref.Kind)
			}
		}
		m.settled(t, org)
	}
}
