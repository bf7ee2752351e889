// Package softkey is a security key in software, for tests: what a USB FIDO2 key
// with U2F does, as its owner and its host see it, down to the HID reports. The
// programs under test talk to it through the real libfido2 and cannot tell the
// difference; the test can, since it decides each touch, pulls the key out at any
// step, and makes it misbehave by name.
//
// A [Key] is the thing on the key ring: what it remembers survives
// [Port.Unplug]. [Key.Plug] powers it up at the end of a pty, whose path libfido2
// opens like a hidraw device. A [Hub] is a fake USB tree (umockdev) in which
// unmodified programs find plugged keys by enumeration as /dev/hidraw0 and so on.
// [Fault] is one kind of misbehaviour; [Key.Break] chooses the message at which it
// happens.
//
//	finger := softkey.NewFinger()
//	key := softkey.New(softkey.Options{PIN: "1234", Touch: finger.Touch})
//	hub, err := softkey.NewHub(ctx, 2)          // started with hub.Env(), a program finds
//	_, err = hub.Plug(0, key)                   // the key as hub.Device(0)
//	key.Break(softkey.Hang, softkey.When{Step: softkey.StepAssert, Times: 1})
//	ask, err := finger.Wanted(ctx)              // the key blinks
//	ask.Touch()
//
// The key is as strict as the strictest of the real ones, so that what works with
// it proves something: requests must be canonical CBOR, a resident credential
// needs the PIN that was set, tokens are held to their permissions and relying
// party and are spent by use, a reset is taken only within ten seconds of
// power-up and with a touch.
//
// It implements CTAP 2.1 (https://fidoalliance.org/specs/fido-v2.1-ps-20210615/),
// the previews of credential management and fingerprints that older libraries
// use, and U2F 1.2 raw messages. Left out: large blobs, enterprise attestation,
// credBlob, minPinLength as an extension, NFC.
package softkey
