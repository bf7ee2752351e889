package securitykey

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// These run on Windows, and under Wine by `make wine`.

// TestF5HelperThatOthersMayChange: what decides is who owns it and who may write.
func TestF5HelperThatOthersMayChange(t *testing.T) {
	me, err := windows.StringToSid("S-1-5-21-1-2-3-1001")
	if err != nil {
		t.Fatal(err)
	}
	const own = "O:S-1-5-21-1-2-3-1001D:"
	for name, c := range map[string]struct {
		sddl, why string
		rights    windows.ACCESS_MASK
	}{
		"as installed":             {"O:BAD:(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x1200a9;;;BU)(A;;FA;;;S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464)", "", changing},
		"the system's":             {"O:SYD:(A;;FA;;;SY)", "", changing},
		"the user's":               {own + "(A;;FA;;;S-1-5-21-1-2-3-1001)(A;;FA;;;SY)(A;;FR;;;WD)", "", changing},
		"denied":                   {own + "(D;;FA;;;WD)(A;;FA;;;S-1-5-21-1-2-3-1001)", "", changing},
		"what is put into it":      {own + "(A;OIIOCI;FA;;;WD)(A;;FA;;;S-1-5-21-1-2-3-1001)", "", changing | deleteChild},
		"nobody's":                 {own, "", changing},
		"another user's":           {"O:S-1-5-21-1-2-3-1002D:(A;;FA;;;SY)", "belongs to another user (S-1-5-21-1-2-3-1002)", changing},
		"everybody's":              {own + "(A;;FA;;;WD)", "may be changed by others (S-1-1-0)", changing},
		"written by everybody":     {own + "(A;;0x2;;;WD)", "(S-1-1-0)", changing},
		"appended to by users":     {own + "(A;;0x4;;;BU)", "(S-1-5-32-545)", changing},
		"deleted by users":         {own + "(A;;SD;;;BU)", "(S-1-5-32-545)", changing},
		"given rights by users":    {own + "(A;;WD;;;AU)", "(S-1-5-11)", changing},
		"taken by users":           {own + "(A;;WO;;;AU)", "(S-1-5-11)", changing},
		"generic writing":          {own + "(A;;GW;;;AU)", "(S-1-5-11)", changing},
		"generic all":              {own + "(A;;GA;;;AU)", "(S-1-5-11)", changing},
		"emptied by users":         {own + "(A;;0x40;;;BU)", "(S-1-5-32-545)", changing | deleteChild},
		"a drive, put into":        {own + "(A;;0x4;;;AU)", "", replacing | deleteChild},
		"a drive, emptied":         {own + "(A;;0x40;;;AU)", "(S-1-5-11)", replacing | deleteChild},
		"allowed on conditions":    {own + `(XA;;FA;;;WD;(@User.clearance == "1"))`, "rights of kind 9", changing},
		"no owner, as of a floppy": {"D:(A;;FA;;;SY)", "has no known owner", changing},
	} {
		sd, err := windows.SecurityDescriptorFromString(c.sddl)
		if err != nil {
			if strings.HasPrefix(c.sddl, own+"(XA") { // Wine cannot write such a list
				continue
			}
			t.Fatalf("%s: %v", name, err)
		}
		if why := changeable(sd, me, c.rights); c.why == "" && why != "" || !strings.Contains(why, c.why) {
			t.Errorf("%s: %q, want %q", name, why, c.why)
		}
	}
	open, err := windows.NewSecurityDescriptor()
	if err != nil || open.SetOwner(me, false) != nil || open.SetDACL(nil, true, false) != nil {
		t.Fatal("no descriptor", err)
	}
	if why := changeable(open, me, changing); !strings.Contains(why, "no list of rights") {
		t.Errorf("without a list: %q", why)
	}
}

// A helper is refused by its name, with what is wrong.
func TestF5HelperOnWindows(t *testing.T) {
	folder, err := os.MkdirTemp("", "") // Wine cannot remove that of the test
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(folder)
	path := filepath.Join(folder, "countersign-sk.exe")
	refused := func(helper, why string) {
		t.Helper()
		ks := New(Options{Helper: helper})
		defer ks.Close()
		_, err := ks.List(t.Context())
		var e *HelperError
		if !errors.As(err, &e) || !strings.Contains(e.Why, why) {
			t.Errorf("%v, want %q", err, why)
		}
	}
	refused("countersign-sk.exe", "absolute path")
	refused(path, missing)
	refused(filepath.Join(folder, "no", "countersign-sk.exe"), missing)
	refused(folder, "is no program")
	if err := os.WriteFile(path, []byte("MZ"), 0o700); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	everybody, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := everybody.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil); err != nil {
		t.Fatal(err)
	}
	refused(path, "may be changed by others (S-1-1-0)")
}
