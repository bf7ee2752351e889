package softkey

import "github.com/fxamacker/cbor/v2"

// Step names a message from the host by what it asks for. Those with a subcommand
// are two words, of which the first alone stands for all of the kind.
type Step string

// The steps.
const (
	StepAny    Step = ""
	StepInit   Step = "init"
	StepPing   Step = "ping"
	StepWink   Step = "wink"
	StepLock   Step = "lock"
	StepInfo   Step = "info"
	StepMake   Step = "make"
	StepAssert Step = "assert"
	StepNext   Step = "next"
	StepReset  Step = "reset"
	StepSelect Step = "select"

	StepPIN          Step = "pin"
	StepPINRetries   Step = "pin retries"
	StepPINAgreement Step = "pin agreement"
	StepPINSet       Step = "pin set"
	StepPINChange    Step = "pin change"
	StepPINToken     Step = "pin token" // by any of the three ways
	StepUVRetries    Step = "pin uvretries"

	StepCredentials       Step = "credentials"
	StepCredentialsMeta   Step = "credentials metadata"
	StepCredentialsRPs    Step = "credentials rps"
	StepCredentialsList   Step = "credentials list"
	StepCredentialsDelete Step = "credentials delete"
	StepCredentialsUpdate Step = "credentials update"

	StepBio       Step = "bio"
	StepBioEnrol  Step = "bio enrol"
	StepBioCancel Step = "bio cancel"
	StepBioList   Step = "bio list"
	StepBioName   Step = "bio name"
	StepBioDelete Step = "bio delete"
	StepBioInfo   Step = "bio info"

	StepConfig Step = "config"

	StepU2F             Step = "u2f"
	StepU2FVersion      Step = "u2f version"
	StepU2FRegister     Step = "u2f register"
	StepU2FCheck        Step = "u2f check"
	StepU2FAuthenticate Step = "u2f authenticate"

	StepOther Step = "other"
)

// within says whether the step is the other, or of its kind.
func (s Step) within(other Step) bool {
	return other == StepAny || s == other || len(s) > len(other) && s[:len(other)] == other && s[len(other)] == ' '
}

var (
	hidSteps  = map[byte]Step{hidInit: StepInit, hidPing: StepPing, hidWink: StepWink, hidLock: StepLock}
	ctapSteps = map[byte]Step{
		cmdMakeCredential: StepMake, cmdGetAssertion: StepAssert, cmdGetNextAssertion: StepNext, cmdGetInfo: StepInfo,
		cmdReset: StepReset, cmdSelection: StepSelect, cmdConfig: StepConfig,
	}
	pinSteps = map[int]Step{
		1: StepPINRetries, 2: StepPINAgreement, 3: StepPINSet, 4: StepPINChange, 5: StepPINToken, 6: StepPINToken,
		7: StepUVRetries, 9: StepPINToken,
	}
	credentialSteps = map[int]Step{
		1: StepCredentialsMeta, 2: StepCredentialsRPs, 3: StepCredentialsRPs, 4: StepCredentialsList,
		5: StepCredentialsList, 6: StepCredentialsDelete, 7: StepCredentialsUpdate,
	}
	bioSteps = map[int]Step{
		0: StepBioInfo, 1: StepBioEnrol, 2: StepBioEnrol, 3: StepBioCancel, 4: StepBioList, 5: StepBioName,
		6: StepBioDelete, 7: StepBioInfo,
	}
)

// stepOf names a message.
func stepOf(m message) Step {
	switch m.command {
	case hidCBOR:
		if len(m.data) == 0 {
			return StepOther
		}
		return ctapStep(m.data[0], m.data[1:])
	case hidMessage:
		return u2fStep(m.data)
	}
	if s, known := hidSteps[m.command]; known {
		return s
	}
	return StepOther
}

func ctapStep(command byte, body []byte) Step {
	if s, known := ctapSteps[command]; known {
		return s
	}
	var fields map[int]cbor.RawMessage
	sub := func(at int) (n int) {
		if cbor.Unmarshal(body, &fields) == nil {
			_ = cbor.Unmarshal(fields[at], &n)
		}
		return n
	}
	among := func(steps map[int]Step, at int, kind Step) Step {
		if s, known := steps[sub(at)]; known {
			return s
		}
		return kind
	}
	switch command {
	case cmdClientPIN:
		return among(pinSteps, 2, StepPIN)
	case cmdCredentials, cmdCredentialsBefore:
		return among(credentialSteps, 1, StepCredentials)
	case cmdBio, cmdBioPreview:
		return among(bioSteps, 2, StepBio)
	}
	return StepOther
}

func u2fStep(apdu []byte) Step {
	switch {
	case len(apdu) < 4:
		return StepU2F
	case apdu[1] == u2fRegister:
		return StepU2FRegister
	case apdu[1] == u2fVersion:
		return StepU2FVersion
	case apdu[1] == u2fAuthenticate && apdu[2] == u2fCheckOnly:
		return StepU2FCheck
	case apdu[1] == u2fAuthenticate:
		return StepU2FAuthenticate
	}
	return StepU2F
}
