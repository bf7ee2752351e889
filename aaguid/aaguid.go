// Package aaguid knows the names of security keys by the number of their model
// (AAGUID). The agent shows them, and so does the org; neither imports the other,
// so the table is a room of its own.
//
// A name is what a key claims: only an attestation that is checked proves it.
package aaguid

import "strings"

// models are from the metadata that makers publish. Where a maker has several
// numbers for what is one model to its owner, they share a name.
var models = map[string]string{
	"cb69481e-8ff7-4039-93ec-0a2729a154a8": "YubiKey 5 Series",
	"ee882879-721c-4913-9775-3dfcce97072a": "YubiKey 5 Series",
	"19083c3d-8383-4b18-bc03-8f1c9ab2fd1b": "YubiKey 5 Series",
	"ff4dac45-ede8-4ec2-aced-cf66103f4335": "YubiKey 5 Series",
	"fa2b99dc-9e39-4257-8f92-4a30d23c4118": "YubiKey 5 Series with NFC",
	"2fc0579f-8113-47ea-b116-bb5a8db9202a": "YubiKey 5 Series with NFC",
	"a25342c0-3cdc-4414-8e46-f4807fca511c": "YubiKey 5 Series with NFC",
	"d7781e5d-e353-46aa-afe2-3ca49f13332a": "YubiKey 5 Series with NFC",
	"662ef48a-95e2-4aaa-a6c1-5b9c40375824": "YubiKey 5 Series with NFC, Enhanced PIN",
	"c5ef55ff-ad9a-4b9f-b580-adebafe026d0": "YubiKey 5 Series with Lightning",
	"a02167b9-ae71-4ac7-9a07-06432ebb6f1c": "YubiKey 5 Series with Lightning",
	"24673149-6c86-42e7-98d9-433fb5b73296": "YubiKey 5 Series with Lightning",
	"c1f9a0bc-1dd2-404a-b27f-8e29047a43fd": "YubiKey 5 FIPS Series with NFC",
	"fcc0118f-cd45-435b-8da1-9782b2da0715": "YubiKey 5 FIPS Series with NFC",
	"73bb0cd4-e502-49b8-9c6f-b59445bf720b": "YubiKey 5 FIPS Series",
	"57f7de54-c807-4eab-b1c6-1c9be7984e92": "YubiKey 5 FIPS Series",
	"85203421-48f9-4355-9bc8-8a53846e5083": "YubiKey 5 FIPS Series with Lightning",
	"7b96457d-e3cd-432b-9ceb-c9fdd7ef7432": "YubiKey 5 FIPS Series with Lightning",
	"d8522d9f-575b-4866-88a9-ba99fa02f35b": "YubiKey Bio Series",
	"dd86a2da-86a0-4cbe-b462-4bd31f57bc6f": "YubiKey Bio Series",
	"7409272d-1ff9-4e10-9fc9-ac0019c124fd": "YubiKey Bio Series",
	"90636e1f-ef82-43bf-bdcf-5255f139d12f": "YubiKey Bio Series",
	"34744913-4f57-4e6e-a527-e9ec3c4b94e6": "YubiKey Bio Series",
	"f8a011f3-8c0a-4d15-8006-17111f9edc7d": "Security Key by Yubico",
	"b92c3f9a-c014-4056-887f-140a2501163b": "Security Key by Yubico",
	"6d44ba9b-f6ec-2e49-b930-0c8fe920cb73": "Security Key by Yubico with NFC",
	"149a2021-8ef6-4133-96b8-81f8d5b7f1f5": "Security Key by Yubico with NFC",
	"a4e9fc6d-4cbe-4758-b8ba-37598bb5bbaa": "Security Key NFC by Yubico",
	"e77e3c64-05e3-428b-8824-0cbeb04b829d": "Security Key NFC by Yubico",
	"b7d3f68e-88a6-471e-9ecf-2df26d041ede": "Security Key NFC by Yubico",
	"0bb43545-fd2c-4185-87dd-feb0b2916ace": "Security Key NFC by Yubico, Enterprise Edition",
	"47ab2fb4-66ac-4184-9ae1-86be814012d5": "Security Key NFC by Yubico, Enterprise Edition",
	"ed042a3a-4b22-4455-bb69-a267b652ae7e": "Security Key NFC by Yubico, Enterprise Edition",
	"42b4fb4a-2866-43b2-9bf7-6c6669c2e5d3": "Google Titan Security Key v2",
	"8876631b-d4a0-427f-5773-0ec71c9e0279": "Solo",
	"8976631b-d4a0-427f-5773-0ec71c9e0279": "Solo Tap",
	"9d3df6ba-282f-11ed-a261-0242ac120002": "Arculus FIDO2/U2F Key Card",
	"c39efba6-fcf4-4c3e-828b-fc4a6115a0ff": "Nitrokey FIDO2",
	"2cd2f727-f6ca-44da-8f48-5c2e5da000a2": "Nitrokey 3",
	"ec99db19-cd1f-4c06-a2a9-940f17a6a30b": "Nitrokey 3",
	"998f358b-2dd2-4cbe-a43a-e8107438dfb3": "OnlyKey",
	"ee041bce-25e5-4cdb-8f86-897fd6418464": "Feitian ePass FIDO2-NFC",
	"12ded745-4bed-47d4-abaa-e713f51d6393": "Feitian AllinOne FIDO2",
	"77010bd7-212a-4fc9-b236-d2ca5e9d4084": "Feitian BioPass FIDO2",
	"ab32f0c6-2239-afbb-c470-d2ef4e254db7": "Token2 FIDO2",
	"636f756e-7465-7273-6967-6e20736f6674": "Countersign Soft Key (for tests)",
}

// Name is the name that goes with an AAGUID, in any case of letters; "" if none is
// known.
func Name(aaguid string) string { return models[strings.ToLower(aaguid)] }
